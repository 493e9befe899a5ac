"""What was worked out about days, kept in this process: by tenants, so that nobody is shown others' answers.

Counts by quarter of an hour, and who acted with what, name the tenant of each row and join nothing: those
that an engine left in the ledger's `cache/` serve everyone, cut to their tenants. Metrics join rows: who sees
some tenants gets them worked out from these tenants' rows alone, and remembered here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from detections.metrics.by_day import UNJOINED
from detections.metrics.kept_days import KeptDays, Keyed, ledger_days
from ledger.storage.store import Store

MAX_BYTES: Final = 512 << 20
Tenants = frozenset[str] | None


@dataclass(slots=True)
class DayMemory:
    """The days of all tenants and of some; what was used longest ago goes first."""

    max_bytes: int = MAX_BYTES
    _kept: OrderedDict[tuple[Tenants, str, date], Keyed] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of_tenants(self, tenants: Tenants, store: Store | None = None) -> KeptDays:
        """As one person sees them, with what an engine left in `store` behind them."""
        return _DaysOf(self, tenants, None if store is None else ledger_days(store))

    def get(self, tenants: Tenants, name: str, day: date, key: str) -> pa.Table | None:
        """What is remembered under a key."""
        with self._lock:
            kept = self._kept.get((tenants, name, day))
            if kept is None or kept[0] != key:
                return None
            self._kept.move_to_end((tenants, name, day))
            return kept[1]

    def put(self, tenants: Tenants, name: str, day: date, keyed: Keyed) -> None:
        """Remember it."""
        with self._lock:
            self._forget((tenants, name, day))
            self._kept[tenants, name, day] = keyed
            self._bytes += keyed[1].nbytes
            while self._bytes > self.max_bytes:
                self._forget(next(iter(self._kept)))

    def clear(self) -> None:
        """Forget all: rows were taken away."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _forget(self, place: tuple[Tenants, str, date]) -> None:
        old = self._kept.pop(place, None)
        if old is not None:
            self._bytes -= old[1].nbytes


@dataclass(slots=True)
class _DaysOf:
    """`KeptDays` of one person's tenants."""

    memory: DayMemory
    tenants: Tenants
    behind: KeptDays | None

    def of(self, name: str, wanted: Mapping[date, str]) -> dict[date, pa.Table]:
        found = {
            day: rows
            for day, key in wanted.items()
            if (rows := self.memory.get(self.tenants, name, day, key)) is not None
        }
        if self.behind is None or (self.tenants is not None and name not in UNJOINED):
            return found
        missing = {day: key for day, key in wanted.items() if day not in found}
        left = {day: self._cut(rows) for day, rows in self.behind.of(name, missing).items()}
        for day, rows in left.items():
            self.memory.put(self.tenants, name, day, (missing[day], rows))
        return {day: one[day] for day in wanted for one in (found, left) if day in one}

    def keep(self, name: str, days: Mapping[date, Keyed]) -> None:
        for day, keyed in days.items():
            self.memory.put(self.tenants, name, day, keyed)

    def flush(self, days: Iterable[date]) -> None:
        """Nothing of it is written: a reader leaves the ledger's folder alone."""

    def _cut(self, rows: pa.Table) -> pa.Table:
        if self.tenants is None:
            return rows
        return rows.filter(pc.is_in(rows["tenant"], pa.array(sorted(self.tenants), pa.string())))
