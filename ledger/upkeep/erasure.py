"""Rows whose content has to go before their class says so: their files are made anew without it.

Of an erased row its leaf hash stays, so the root of its segment stays what it was. The nonce that events of
erasable classes carry keeps that hash from being guessed back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from ledger.defaults import GRACE_SECONDS
from ledger.errors import OutsideError, UsageError
from ledger.events import ERASED_LEAF
from ledger.format.canonical import leaf_hashes
from ledger.format.manifest import (
    CACHE_FOLDER,
    CompactedFile,
    Erase,
    ErasedRows,
    HeldRows,
    InvalidEntry,
    dead_letter_path,
    event_path,
    parse_dead_letter_path,
    parse_event_path,
)
from ledger.format.state import LiveFile, class_of
from ledger.sealing.sealed_files import create_file, new_name
from ledger.sealing.segment import read_dead_letters, read_events, write_dead_letters, write_events
from ledger.storage.store import sealed_data
from ledger.upkeep.compaction import check_roots, positions
from ledger.writer import Writer

MAX_ROWS: Final = 4_000
"""Rows that one entry names: it must stay below 65,535 bytes."""
ATTEMPTS: Final = 20
"""Merges by other writers that may come in between."""

Rows = Mapping[str, Collection[int]]
"""Rows by their original segment, counted from 0 in it."""


def erase(writer: Writer, rows: Rows, *, by: str, reason: str, grace: int = GRACE_SECONDS) -> Iterator[Erase]:
    """Seal that `rows` are erased, a file an entry. The old files go with the first sweep after the grace.

    Raises:
        UsageError: a row is of a class that is not erasable, held, or gone already.
        DamageError: a file does not hold what was sealed.
    """
    _check(writer, rows)
    waiting = {segment: sorted({*indexes}) for segment, indexes in rows.items()}
    races = 0
    while any(waiting.values()):
        writer.refresh()
        files = _files_of(writer, waiting)
        if not files or races > ATTEMPTS:
            raise OutsideError("Other writers took the files while rows were erased.", "Run it again.")
        for path, found in files.items():
            entry = _erase_in(
                writer, writer.state.files[path], found[:MAX_ROWS], by=by, reason=reason, grace=grace
            )
            if entry is None:
                races += 1  # merged by another writer: look where the rows lie now
                break
            for part in entry.rows:
                gone = {*part.indexes}
                waiting[part.segment] = [row for row in waiting[part.segment] if row not in gone]
            yield entry


def clear_derived(writer: Writer) -> int:
    """Delete what the ledger keeps of what is derived from rows: it is made anew when it is asked for."""
    paths = [file.path for file in writer.store.list(CACHE_FOLDER)]
    for path in paths:
        writer.store.delete(path)
    return len(paths)


def _check(writer: Writer, rows: Rows) -> None:
    classes = writer.classes()
    for segment, indexes in rows.items():
        original = writer.state.originals.get(segment)
        if original is None or original.expired:
            raise UsageError(f"{segment} is no live segment of this ledger.", "Name events that are there.")
        name = class_of(segment)
        if parse_event_path(segment) is not None and not (name in classes and classes[name].erasable):
            raise UsageError(
                f"Events of the class {name} are not erasable: they carry no nonce, and the hash that stays "
                "could be guessed back.",
                "Send what may have to go in a class with erasable = true.",
            )
        if original.erased.intersection(indexes):
            raise UsageError(f"A row of {segment} is erased already.", "Name each event once.")
        for hold in writer.state.holds_on(segment):
            raise UsageError(
                f"{segment} is held by {hold.id}: {hold.reason}.", "Release the hold first, if it may be."
            )


def _files_of(writer: Writer, waiting: Rows) -> dict[str, list[tuple[str, int, int]]]:
    """Each live file that holds some of the rows: (segment, row of the segment, row of the file) of each."""
    found: dict[str, list[tuple[str, int, int]]] = {}
    for segment, indexes in waiting.items():
        for file, places in writer.state.located(segment, indexes):
            found.setdefault(file.path, []).extend((segment, row, at) for row, at in places.items())
    return {path: sorted(places) for path, places in sorted(found.items())}


def _erase_in(
    writer: Writer, file: LiveFile, places: Sequence[tuple[str, int, int]], **said: Any
) -> Erase | None:
    """One file without some rows, sealed; None where another writer took the file meanwhile."""
    letters = parse_dead_letter_path(file.path) is not None
    read, write = (read_dead_letters, write_dead_letters) if letters else (read_events, write_events)
    table = read(sealed_data(writer.store, file.path, file.sha256), rows=file.rows)
    leaves = leaf_hashes(table)
    check_roots(writer.state, file, leaves, "restore it from a copy first")
    gone = {at for _, _, at in places}
    kept = [
        (begin, end, hold)
        for begin, end, hold in file.spans()
        if not writer.state.originals[hold.segment].expired
    ]
    emptied = _without(table, gone, leaves)
    segment = write(pa.concat_tables([emptied.slice(begin, end - begin) for begin, end, _ in kept]))
    holds: list[HeldRows] = [hold for _, _, hold in kept]
    made = CompactedFile(
        path=_new_path(file.path), sha256=segment.sha256, bytes=len(segment.data), rows=segment.rows,
        holds=positions(holds),
    )  # fmt: skip
    by_segment: dict[str, list[int]] = {}
    for name, row, _ in places:
        by_segment.setdefault(name, []).append(row)
    values: dict[str, Any] = {
        "files": [made], "removed": [file.path],
        "rows": [ErasedRows(segment=name, indexes=sorted(indexes)) for name, indexes in by_segment.items()],
        **said,
    }  # fmt: skip
    writer.check_size(Erase, values)
    create_file(writer.store, made.path, segment.data)
    try:
        entry = writer.put(Erase, values)
    except InvalidEntry:
        writer.store.delete(made.path)
        if file.path not in writer.state.files:
            return None
        raise
    assert isinstance(entry, Erase)
    return entry


def _without(table: pa.Table, gone: Collection[int], leaves: Sequence[bytes]) -> pa.Table:
    """The rows, those in `gone` with nothing but their leaf hash."""
    rows = len(table)
    # By taking: an array that is only masked would still have the values in its buffers.
    stays = pa.array([None if at in gone else at for at in range(rows)], pa.int64())
    columns = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name == ERASED_LEAF:
            marks = [leaves[at].hex() if at in gone else None for at in range(rows)]
            columns.append(
                pa.array(
                    [mark or old for mark, old in zip(marks, column.to_pylist(), strict=True)], column.type
                )
            )
        else:
            columns.append(column.take(stays))
    return pa.table(columns, schema=table.schema)


def _new_path(path: str) -> str:
    place = parse_event_path(path)
    if place is not None:
        return event_path(*place, new_name())
    return dead_letter_path(parse_dead_letter_path(path) or "", new_name())
