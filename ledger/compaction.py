"""Small files merged into larger ones, and files that nothing names any more removed.

Merging changes no root: every original segment's rows stay together, in order, and the `compact`
entry says where they lie. Before rows are copied their Merkle root is checked against the log, so
that damage is never carried on under a new file hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from ledger.canonical import leaf_hashes
from ledger.errors import DamageError
from ledger.manifest import (
    Compact,
    CompactedFile,
    Entry,
    Gc,
    Hold,
    InvalidEntry,
    event_path,
    parse_event_path,
)
from ledger.merkle import root
from ledger.sealing import new_name
from ledger.segment import read_events, write_events
from ledger.state import LiveFile, LogState
from ledger.store import Store, StoredFile
from ledger.writer import Writer

TARGET_ROWS: Final = 250_000
"""A file of at least half of this is left alone; merged files stay below it (memory while merging)."""
FAN_IN: Final = 8
"""So many files of one size class are merged in the background; on demand, any two."""
MAX_FILES_PER_MERGE: Final = 400
"""Names in one entry: it must stay below 65,535 bytes."""
GRACE_SECONDS: Final = 600
LEFT_OVER_AGE: Final = timedelta(hours=1)
MAX_GC_PATHS: Final = 500
_COLLECTED_FOLDERS: Final = ("events", "deadletters", "config")


@dataclass(frozen=True, slots=True)
class Merge:
    """Live files of one class and date that become one."""

    retention: str
    date: str
    files: tuple[LiveFile, ...]


def plan(state: LogState, *, fan_in: int = FAN_IN, target_rows: int = TARGET_ROWS) -> list[Merge]:
    """Which files are worth merging, never across class or date.

    Neighbours in log order, at least `fan_in` of one size class (a factor of `FAN_IN` wide).
    """
    groups: dict[tuple[str, str], list[LiveFile]] = defaultdict(list)
    for file in state.files.values():
        place = parse_event_path(file.path)
        if place is not None and file.rows < target_rows // 2:
            groups[place].append(file)
    merges: list[Merge] = []
    for (retention, day), files in sorted(groups.items()):
        ordered = sorted(files, key=lambda f: (f.entry, f.path))
        tiers: dict[int, list[LiveFile]] = defaultdict(list)
        for file in ordered:
            tiers[0 if fan_in <= 2 else _tier(file.rows)].append(file)
        for tier in tiers.values():
            merges += [
                Merge(retention, day, run) for run in _runs(tier, target_rows) if len(run) >= max(2, fan_in)
            ]
    return merges


def compact(
    writer: Writer,
    *,
    fan_in: int = 2,
    target_rows: int = TARGET_ROWS,
    grace: int = GRACE_SECONDS,
    most: int = 1_000,
) -> list[Entry]:
    """Carry out the plan, one entry per merge, at most `most`. Skips a merge that another writer outran."""
    entries: list[Entry] = []
    writer.refresh()
    for merge in plan(writer.state, fan_in=fan_in, target_rows=target_rows)[:most]:
        try:
            entries.append(_merge(writer, merge, grace))
        except InvalidEntry:
            # Its inputs were compacted or expired meanwhile; the new file is a left-over for gc.
            continue
    return entries


def gc(writer: Writer, *, age: timedelta = LEFT_OVER_AGE) -> tuple[list[str], list[str]]:
    """Remove what nothing names: (left-overs named in a `gc` entry and deleted, removed files swept).

    Left-overs younger than `age` may belong to a commit in flight and are spared; even if one is
    taken, the entry fences the writer that made it.
    """
    swept = writer.sweep()
    now = writer.clock()
    left = [file.path for file in _left_overs(writer) if _older(file, now, age)]
    taken: list[str] = []
    for at in range(0, len(left), MAX_GC_PATHS):
        paths = left[at : at + MAX_GC_PATHS]

        def propose(paths: list[str] = paths) -> tuple[type[Any], dict[str, Any]]:
            return Gc, {"paths": [path for path in paths if not writer.state.named(path)]}

        entry = writer.put_when(propose)
        assert isinstance(entry, Gc)
        for path in entry.paths:
            writer.store.delete(path)
        taken += entry.paths
    for file in writer.store.list(""):
        if file.path.endswith(".tmp") and _older(file, now, age):
            writer.store.delete(file.path)
    for path in sorted(writer.state.collected.intersection(f.path for f in _files(writer.store))):
        # Named by an earlier gc that died before it deleted.
        writer.store.delete(path)
    return taken, swept


def _live_rows(store: Store, file: LiveFile) -> pa.Table:
    local = store.local_path(file.path)
    data: bytes | Path | None = local if local is not None else store.read(file.path)
    if data is None or (isinstance(data, Path) and not data.is_file()):
        raise DamageError(f"{file.path} is missing, though the log names it.", "Restore it from a copy.")
    return read_events(data, rows=file.rows)


def _merge(writer: Writer, merge: Merge, grace: int) -> Entry:
    tables: list[pa.Table] = []
    holds: list[Hold] = []
    for file in merge.files:
        table, edge = _live_rows(writer.store, file), 0
        leaves = leaf_hashes(table)
        for hold in file.holds:
            end = edge + hold.to - hold.from_
            original = writer.state.originals[hold.segment]
            whole = hold.from_ == 0 and hold.to == original.ref.rows
            if whole and root(leaves[edge:end]).hex() != original.ref.root:
                raise DamageError(
                    f"{file.path} no longer holds the rows of {hold.segment} that were sealed.",
                    "`decision-ledger verify` names all that is damaged; nothing was merged.",
                )
            if not original.expired:
                tables.append(table.slice(edge, end - edge))
                holds.append(hold)
            edge = end
    segment = write_events(pa.concat_tables(tables))
    path = event_path(merge.retention, merge.date, new_name())
    writer.store.create(path, segment.data)
    merged = CompactedFile(
        path=path, sha256=segment.sha256, bytes=len(segment.data), rows=segment.rows, holds=_positions(holds)
    )
    return writer.put(
        Compact, {"files": [merged], "removed": [file.path for file in merge.files], "grace": grace}
    )


def _left_overs(writer: Writer) -> list[StoredFile]:
    writer.refresh()
    return [file for file in _files(writer.store) if not writer.state.named(file.path)]


def _files(store: Store) -> Iterable[StoredFile]:
    for folder in _COLLECTED_FOLDERS:
        for file in store.list(folder):
            if not file.path.endswith(".tmp"):
                yield file


def _older(file: StoredFile, now: datetime, age: timedelta) -> bool:
    return now.timestamp() - file.modified >= age.total_seconds()


def _tier(rows: int) -> int:
    tier = 0
    while rows >= FAN_IN:
        rows //= FAN_IN
        tier += 1
    return tier


def _runs(files: Sequence[LiveFile], target_rows: int) -> Iterable[tuple[LiveFile, ...]]:
    run: list[LiveFile] = []
    rows = names = 0
    for file in files:
        if run and (rows + file.rows > target_rows or names + len(file.holds) > MAX_FILES_PER_MERGE):
            yield tuple(run)
            run, rows, names = [], 0, 0
        run.append(file)
        rows += file.rows
        names += len(file.holds)
    if run:
        yield tuple(run)


def _positions(holds: Sequence[Hold]) -> list[Hold]:
    """The same stretches as positions in the new file, as an entry states them."""
    out: list[Hold] = []
    edge = 0
    for hold in holds:
        end = edge + hold.to - hold.from_
        out.append(Hold(segment=hold.segment, from_=edge, to=end))
        edge = end
    return out
