"""When what failed is tried again: after a second, then twice as long each time, up to a bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE: Final = 1.0


@dataclass(slots=True)
class Retries:
    """One receiver. `longest` and all times are seconds."""

    longest: float
    _failures: int = 0
    _try_at: float = 0.0

    def due(self, now: float) -> bool:
        """Whether it may be tried."""
        return now >= self._try_at

    def worked(self) -> None:
        """It did what was asked: the next failure is the first."""
        self._failures = 0

    def failed(self, now: float) -> float:
        """It did not; how long it is left alone."""
        self._failures += 1
        pause = min(self.longest, FIRST_PAUSE * 2.0 ** (self._failures - 1))
        self.pause(now, pause)
        return pause

    def pause(self, now: float, seconds: float) -> None:
        """Leave it alone for so long."""
        self._try_at = now + seconds
