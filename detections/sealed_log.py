"""A ledger as the watch reads it: its entries in order, and the rows of its segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import pyarrow as pa

from detections.configs.timeline import Timeline
from detections.recall.feed import Stamp, rows_of
from ledger.events import ARROW_SCHEMA
from ledger.format.manifest import Append, Config, Entry, parse_entry, parse_instant
from ledger.format.state import ENGINE_TOPIC, LogState
from ledger.reader import Ledger
from ledger.storage.store import Store

STEP_ROWS: Final = 500_000
"""Rows of the entries that are judged in one go while a long log is caught up with."""


@dataclass
class SealedLog:
    """The first `size` entries of a log, and its files as `state` has them now."""

    store: Store
    state: LogState
    entries: Sequence[bytes]

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """The log of an opened ledger."""
        return cls(ledger.store, ledger.state, ledger.sealed.entries)

    def parsed(self, start: int, end: int) -> Iterator[Entry]:
        """Entries [start, end)."""
        for data in self.entries[start:end]:
            yield parse_entry(data)

    def steps(self, start: int, end: int) -> Iterator[list[Entry]]:
        """Entries [start, end) in runs of about STEP_ROWS rows."""
        waiting: list[Entry] = []
        rows = 0
        for entry in self.parsed(start, end):
            waiting.append(entry)
            if isinstance(entry, Append):
                rows += sum(ref.rows for ref in entry.segments)
            if rows >= STEP_ROWS:
                yield waiting
                waiting, rows = [], 0
        if waiting:
            yield waiting

    def rows(
        self, stamps: Mapping[str, Stamp], columns: Sequence[str], low: datetime | None, high: datetime | None
    ) -> Iterator[pa.Table]:
        """As `detections.watch.Loader` wants them."""
        return rows_of(self.store, self.state, stamps, columns, low=low, high=high)

    def timeline(self, end: int) -> Timeline:
        """The configurations sealed in the first `end` entries."""
        timeline = Timeline()
        configs = [
            (parse_instant(entry.time), entry) for entry in self.parsed(0, end) if isinstance(entry, Config)
        ]
        timeline.take(self.store, configs)
        return timeline

    def alert_steps(self, entries: Iterable[Entry]) -> Iterator[tuple[Append, list[dict[str, Any]]]]:
        """Each of `entries` that holds alert events, with these in the order of sealing."""
        names = [name for name in ARROW_SCHEMA.names if name not in ("erased_leaf", "raw")]
        for entry in entries:
            if not isinstance(entry, Append) or not any(ref.kinds.get("alert") for ref in entry.segments):
                continue
            stamp = Stamp(parse_instant(entry.time), None)
            stamps = {ref.path: stamp for ref in entry.segments if ref.kinds.get("alert")}
            for table in rows_of(self.store, self.state, stamps, names):
                own = [row for row in table.to_pylist() if row["kind"] == "alert"]
                yield entry, sorted(own, key=lambda row: (row["record_offset"] or 0, row["part"] or 0))


def engine_position(state: LogState) -> int:
    """Up to which entry an engine has judged, by what it sealed last."""
    for position in state.positions.values():
        if position.key.topic == ENGINE_TOPIC:
            return position.to
    return 0
