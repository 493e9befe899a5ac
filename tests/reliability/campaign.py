"""What every campaign is: cases that a number decides, and what is counted over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MAX_KEPT = 20
"""Failures whose words are kept; the counts go on."""


@dataclass(slots=True)
class Tally:
    """What cases gave. `counts` says what was done, `wrong` what must not be."""

    cases: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def fail(self, what: str, why: str) -> None:
        """Count something that must not be, and keep the words of the first ones."""
        self.wrong[what] += 1
        if len(self.failures) < MAX_KEPT:
            self.failures.append(f"{what}: {why}")

    def add(self, other: Tally) -> None:
        """Take in what further cases gave."""
        self.cases += other.cases
        self.seconds += other.seconds
        self.counts.update(other.counts)
        for name, number in other.wrong.items():
            self.wrong[name] += number
        self.failures = [*self.failures, *other.failures][:MAX_KEPT]


Run = Callable[[range, Path], Iterator[Tally]]
"""Runs the cases of these numbers in a folder, and gives a tally now and then: what was given is kept."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """One kind of fault. `cases` are run by `make faults`, `few` by the tests.

    `never` names what must not happen, so that a count of 0 is shown. A case's number is its seed.
    """

    name: str
    shows: str
    cases: int
    few: int
    never: tuple[str, ...]
    run: Run
    needs: Callable[[], str | None] = lambda: None
    """Why it cannot run on this machine, or None."""
