"""From sealed entries to rows for the memory: whose they are, when they were sealed, how late they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from detections.clocks import Clocks
from detections.recall.memory import NEVER_LATE, where
from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, ERASED_LEAF, TIME_TYPE
from ledger.format.manifest import FILE_PREFIX, Append, Entry, SegmentRef, parse_instant
from ledger.format.state import ENGINE_TOPIC, LogState
from ledger.storage.store import Store, committed_data

BATCH_ROWS = 500_000
"""Rows that are handed to the memory at once."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an entry says about the rows of its segments. `settle` None: on time whenever they come."""

    sealed_at: datetime
    settle: datetime | None


def read_entries_into(clocks: Clocks, entries: Iterable[Entry]) -> dict[str, Stamp]:
    """Let `entries` move the clocks; the segments with rows to judge, and what their entries say of them."""
    stamps: dict[str, Stamp] = {}
    for entry in entries:
        before = clocks.settle
        clocks.take(entry)
        if not isinstance(entry, Append) or is_derived(entry):
            continue
        when = parse_instant(entry.time)
        from_file = bool(entry.replays) or all(row.topic.startswith(FILE_PREFIX) for row in entry.offsets)
        for ref in entry.segments:
            stamps[ref.path] = Stamp(when, None if from_file else before)
    return stamps


def is_derived(entry: Entry) -> bool:
    """Whether an engine sealed it: nothing in it is judged."""
    return isinstance(entry, Append) and any(row.topic == ENGINE_TOPIC for row in entry.offsets)


def rows_of(
    store: Store, state: LogState, stamps: Mapping[str, Stamp], columns: Sequence[str],
    *, low: datetime | None = None, high: datetime | None = None,
) -> Iterator[pa.Table]:  # fmt: skip
    """The rows of the stamped segments that lie in [low, high), in tables of about BATCH_ROWS.

    Each has `columns`, `late` and `sealed_at` (see Memory.take). Segments that are gone are left out.
    """
    wanted = {path: stamp for path, stamp in stamps.items() if _reaches(state, path, low, high)}
    files = {path for name in wanted for path in state.where.get(name, ())}
    waiting: list[pa.Table] = []
    count = 0
    for path in sorted(files, key=lambda name: (state.files[name].entry, name)):
        for table in _of_file(store, state, path, wanted, columns):
            rows = _between(table, low, high)
            if len(rows):
                waiting.append(rows)
                count += len(rows)
        if count >= BATCH_ROWS:
            yield pa.concat_tables(waiting)
            waiting, count = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def stamped(table: pa.Table, columns: Sequence[str], stamp: Stamp) -> pa.Table:
    """Rows of one entry, as the memory takes them."""
    rows = table.select(list(columns))
    size = len(rows)
    sealed_at = pa.repeat(pa.scalar(stamp.sealed_at, TIME_TYPE), size)
    if stamp.settle is None:
        late: pa.Array | pa.ChunkedArray = pa.repeat(pa.scalar(NEVER_LATE, pa.int64()), size)
    else:
        settle = (stamp.settle - _ZERO) // timedelta(microseconds=1)
        late = pc.subtract(pa.scalar(settle, pa.int64()), rows["time"].cast(pa.int64()))
    return rows.append_column("late", late).append_column("sealed_at", sealed_at)


_ZERO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _of_file(
    store: Store, state: LogState, path: str, wanted: Mapping[str, Stamp], columns: Sequence[str]
) -> Iterator[pa.Table]:
    file = state.files[path]
    data = committed_data(store, path)
    names = [*columns, ERASED_LEAF]
    try:
        with pq.ParquetFile(data if isinstance(data, Path) else pa.BufferReader(data)) as parquet:
            table = parquet.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise DamageError(f"The committed file {path} cannot be read: {error}.", "Run verify.") from None
    table = table.cast(pa.schema([ARROW_SCHEMA.field(name) for name in names]))
    for begin, end, hold in file.spans():
        stamp = wanted.get(hold.segment)
        if stamp is not None:
            piece = table.slice(begin, end - begin)
            piece = where(piece, pc.is_null(piece[ERASED_LEAF]))
            yield stamped(piece, columns, stamp)


def _reaches(state: LogState, path: str, low: datetime | None, high: datetime | None) -> bool:
    original = state.originals.get(path)
    if original is None or original.expired or not isinstance(original.ref, SegmentRef):
        return False
    return (low is None or parse_instant(original.ref.max_time) >= low) and (
        high is None or parse_instant(original.ref.min_time) < high
    )


def _between(table: pa.Table, low: datetime | None, high: datetime | None) -> pa.Table:
    if low is not None:
        table = where(table, pc.greater_equal(table["time"], pa.scalar(low, TIME_TYPE)))
    if high is not None:
        table = where(table, pc.less(table["time"], pa.scalar(high, TIME_TYPE)))
    return table
