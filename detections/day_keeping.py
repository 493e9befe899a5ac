"""What an engine works out about each day beside judging, so that who looks need not wait for it.

It lies in the ledger's `cache/`, derived and never trusted: whoever proves something counts rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Final

from detections.day_answers import answers_of
from detections.metrics.kept_days import ledger_days
from ledger.errors import LedgerError
from ledger.reader import Ledger
from ledger.storage.store import Store

EVERY: Final = timedelta(seconds=60)
"""How often days are brought up to date: the newest one changes with every commit."""
_LOG: Final = logging.getLogger(__name__)


class DayKeeping:
    """Brings the days in the ledger's `cache/` up to date, a stretch at a time."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._steps: Iterator[None] | None = None
        self._begun: datetime | None = None
        self._size = -1

    def step(self, size: int) -> bool:
        """Do the next stretch where one is due in a ledger of `size` entries; whether there was one.

        What fails is logged and tried again when it is next due.
        """
        try:
            if self._steps is None and self._is_due(size):
                self._steps = self._begin(size)
            if self._steps is not None:
                next(self._steps)
                return True
        except StopIteration:
            self._steps = None
        except LedgerError as error:
            _LOG.warning("days are not kept for the dashboard: %s", error)
            self._steps = None
        return False

    def _is_due(self, size: int) -> bool:
        return size != self._size and (self._begun is None or self._clock() - self._begun >= EVERY)

    def _begin(self, size: int) -> Iterator[None]:
        self._size, self._begun = size, self._clock()
        with Ledger.open(self._store.url) as ledger:
            yield from answers_of(ledger, None, ledger_days(self._store)).fill()
