"""The ledgers that pages read: each pinned to one size and one scope, shared by all who ask for the same.

At most eight are open at once. What a page uses stays open until it is done with it, whatever others ask for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from detections.sealed_log import SealedLog
from ledger.errors import OutsideError
from ledger.format.manifest import Erase, Expire
from ledger.query.engine import QueryLimits
from ledger.reader import Ledger

MAX_OPEN: Final = 8
LOOK_AGAIN_SECONDS: Final = 5.0
"""How long a head that was seen counts as the newest."""
Key = tuple[int, frozenset[str] | None, bool]


@dataclass(slots=True)
class _Open:
    ledger: Ledger
    users: int = 0
    stale: bool = False


@dataclass(slots=True)
class Pool:
    """One ledger, in as many pinned readings as are asked for."""

    url: str
    vkey: str | None = None
    limits: QueryLimits = field(default_factory=QueryLimits)
    clock: Callable[[], float] = time.monotonic
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _newest: Ledger | None = None
    _looked: float = 0.0
    _seen: int = 0
    _floor: int = 0
    _open: OrderedDict[Key, _Open] = field(default_factory=OrderedDict)

    def newest(self, *, look: bool = False) -> Ledger:
        """The ledger at its head, for what the log says; its rows are read by `reading` alone.

        Raises as `Ledger.open`.
        """
        with self._lock:
            if self._newest is None:
                self._newest = Ledger.open(self.url, vkey=self.vkey, limits=self.limits)
                self._looked = self.clock()
            elif look or self.clock() - self._looked >= LOOK_AGAIN_SECONDS:
                self._newest.refresh()
                self._looked = self.clock()
            return self._newest

    def floor(self) -> int:
        """The least size at which all can still be read: above the newest entry that took rows away."""
        with self._lock:
            newest = self.newest()
            entries = SealedLog.of(newest).parsed(self._seen, newest.size)
            for number, entry in enumerate(entries, self._seen):
                if isinstance(entry, Erase | Expire):
                    self._floor = number + 1
            self._seen = newest.size
            return self._floor

    @contextlib.contextmanager
    def reading(self, at: int, tenants: frozenset[str] | None, *, written: bool = False) -> Iterator[Ledger]:
        """The ledger of `tenants` (None: all), to be read as of `at` entries; open for as long as it is used.

        `written` is for statements that people wrote.

        Raises:
            OutsideError: too many are in use.
        """
        key = (at, tenants, written and tenants is not None)
        with self._lock:
            one = self._open.get(key)
            if one is None:
                one = _Open(self.newest().for_tenants(tenants))
                self._make_room()
                self._open[key] = one
            self._open.move_to_end(key)
            one.users += 1
        try:
            yield one.ledger
        finally:
            with self._lock:
                one.users -= 1
                if one.stale and not one.users:
                    one.ledger.close()

    def forget(self, at: int) -> None:
        """Open what is pinned at `at` anew when it is next asked for: its files may have been merged away."""
        with self._lock:
            for key in [key for key in self._open if key[0] == at]:
                self._drop(key)
            self.newest(look=True)

    def close(self) -> None:
        """Close everything that nobody uses; the rest follows when it is let go."""
        with self._lock:
            for key in list(self._open):
                self._drop(key)
            if self._newest is not None:
                self._newest.close()
                self._newest = None

    def _make_room(self) -> None:
        while len(self._open) >= MAX_OPEN:
            idle = next((key for key, one in self._open.items() if not one.users), None)
            if idle is None:
                raise OutsideError(
                    f"{MAX_OPEN} different views of the ledger are being read.", "Try again in a moment."
                )
            self._drop(idle)

    def _drop(self, key: Key) -> None:
        one = self._open.pop(key)
        one.stale = True
        if not one.users:
            one.ledger.close()
