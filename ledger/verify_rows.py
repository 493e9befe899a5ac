"""Whether one sealed file still holds its rows: the file's hash, the leaves, and each row's place.

Pure work on bytes, so that it can run in another process: a task goes in, what was found and what
is needed to judge whole segments and offsets comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from hashlib import sha256
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger.canonical import leaf_hashes
from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA, DEAD_LETTER_STATUSES, ERASED_LEAF, FIELDS, INT_MAX
from ledger.findings import Finding, damage, row_findings
from ledger.merkle import HASH_BYTES, root

BATCH_ROWS: Final = 50_000
"""Rows in memory at once, beside the file itself."""
MAX_EXTRA_ROWS: Final = 1_000_000
"""A file that claims this many more rows than were sealed is not read: it may be a decompression bomb."""
_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_NO_LEAF: Final = bytes(HASH_BYTES)
_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, MemoryError, KeyError)
"""What pyarrow raises for bytes that are no Parquet file, or one that was tampered with."""

Int64s = npt.NDArray[np.int64]
Key = tuple[str, bool, int]
"""(topic_id or topic, whether it is an id, partition): what a row tells of its offset key."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, end) of an original segment of `rows` rows, as a file holds them.

    `erased` are the erased ones of them, counted in the original; `root` is the original's, in hex.
    """

    segment: str
    start: int
    end: int
    rows: int
    erased: tuple[int, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class FileTask:
    """One file to check. `retention` is None for dead letters; `day` is the ISO date of its folder."""

    path: str
    sha256: str
    bytes: int
    rows: int
    retention: str | None
    day: str
    pieces: tuple[Piece, ...]


@dataclass(slots=True)
class Coordinates:
    """Offsets and parts (−1 for null) of one key's rows, and which rows of the file they are.

    `status` is the place in DEAD_LETTER_STATUSES, −1 for any other; None for events.
    """

    row: Int64s
    offset: Int64s
    part: Int64s
    status: npt.NDArray[np.int8] | None = None


@dataclass(slots=True)
class PieceFacts:
    """What a piece really holds. `root` where it is the whole original, else `leaves`, 32 bytes a row.

    `at` is its first row in the file. Times are in microseconds since 1970, None without live rows.
    """

    piece: Piece
    at: int
    root: bytes | None = None
    leaves: bytes = b""
    kinds: dict[str, int] = field(default_factory=dict)
    min_time: int | None = None
    max_time: int | None = None
    keys: dict[Key, Coordinates] = field(default_factory=dict)
    whole: bool = True
    """False where rows are missing or without a leaf."""


@dataclass(slots=True)
class FileFacts:
    """The outcome of one task. `sha256` is that of the bytes that were there."""

    path: str
    sha256: str
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    pieces: list[PieceFacts] = field(default_factory=list)


@dataclass(slots=True)
class _Gathered:
    """Pieces under construction, filled batch by batch."""

    facts: PieceFacts
    leaves: list[bytes] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    keys: dict[Key, list[Coordinates]] = field(default_factory=dict)


def check_file(task: FileTask, data: bytes) -> FileFacts:
    """Check one file's bytes. Never raises for what they hold."""
    facts = FileFacts(task.path, sha256(data).hexdigest())
    trailing = len(data) - task.bytes
    if facts.sha256 != task.sha256:
        message = f"Its SHA-256 is {facts.sha256}, sealed was {task.sha256}"
        message += f"; it has {len(data)} bytes instead of {task.bytes}." if trailing else "."
        if trailing > 0 and sha256(memoryview(data)[: task.bytes]).hexdigest() == task.sha256:
            message = f"{trailing} bytes follow the sealed file."
            data = data[: task.bytes]
        facts.findings.append(damage("changed", task.path, message))
    elif trailing:
        message = f"Its entry says {task.bytes} bytes, but the sealed file has {len(data)}."
        facts.findings.append(damage("summary", task.path, message))
    try:
        _check_table(task, data, facts)
    except _UNREADABLE as error:
        _refuse(facts, f"It is no Parquet file that can be read: {error}.")
    return facts


def _refuse(facts: FileFacts, why: str) -> None:
    facts.pieces = []
    if not facts.findings:
        facts.findings.append(damage("unreadable", facts.path, why))
        return
    first = facts.findings[0]
    facts.findings = [damage("changed", first.path, f"{first.message} {why}")]


def _check_table(task: FileTask, data: bytes, facts: FileFacts) -> None:
    schema = DEAD_LETTER_SCHEMA if task.retention is None else ARROW_SCHEMA
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        if not file.schema_arrow.equals(schema):
            _refuse(facts, "Its columns are not those of the format.")
            return
        facts.rows = file.metadata.num_rows
        if facts.rows != task.rows:
            message = f"It holds {facts.rows} rows, sealed were {task.rows}."
            facts.findings.append(damage("rows", task.path, message))
            if facts.rows > task.rows + MAX_EXTRA_ROWS:
                return
        gathered = _gather(task, file, facts)
    for part in gathered:
        facts.pieces.append(_finished(part))


def _gather(task: FileTask, file: pq.ParquetFile, facts: FileFacts) -> list[_Gathered]:
    spans = _spans(task, file, facts)
    parts = [
        _Gathered(PieceFacts(piece, start)) for piece, (start, _) in zip(task.pieces, spans, strict=True)
    ]
    ends = [end for _, end in spans]
    at, current = 0, 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        if facts.sha256 != task.sha256:
            # What is as it was sealed was text then; anything else may hold bytes that are none.
            batch.validate(full=True)
        table = pa.Table.from_batches([batch])
        leaves = _leaves(task, table, at, facts)
        done = 0
        while done < len(table) and current < len(parts):
            take = min(ends[current] - (at + done), len(table) - done)
            if take > 0:
                part = parts[current]
                part.leaves += leaves[done : done + take]
                rows = table if take == len(table) else table.slice(done, take)
                _check_rows(task, part, rows, at + done, facts)
                done += take
            while current < len(parts) and at + done >= ends[current]:
                current += 1
        at += len(table)
    return parts


def _spans(task: FileTask, file: pq.ParquetFile, facts: FileFacts) -> list[tuple[int, int]]:
    """Which rows of the file are whose.

    Where there are too many or too few, the roots of the pieces before and after tell in which one,
    so that those are not blamed.
    """
    lengths = [piece.end - piece.start for piece in task.pieces]
    first, last = 0, len(lengths)
    start, end = 0, facts.rows
    if facts.rows != task.rows and last > 1:
        scratch = FileFacts(task.path, "")
        leaves: list[bytes] = []
        for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
            batch.validate(full=True)
            leaves += _leaves(task, pa.Table.from_batches([batch]), 0, scratch)
        while first < last and _is_whole(task.pieces[first], leaves[start : start + lengths[first]]):
            start, first = start + lengths[first], first + 1
        while last > first and _is_whole(
            task.pieces[last - 1], leaves[max(0, end - lengths[last - 1]) : end]
        ):
            end, last = end - lengths[last - 1], last - 1
    spans: list[tuple[int, int]] = []
    at = 0
    for place, length in enumerate(lengths):
        stop = end if place == last - 1 else min(at + length, facts.rows if place >= last else end)
        spans.append((at, max(at, stop)))
        at = spans[-1][1]
    return spans


def _is_whole(piece: Piece, leaves: list[bytes]) -> bool:
    return len(leaves) == piece.rows == piece.end - piece.start and root(leaves).hex() == piece.root


def _leaves(task: FileTask, table: pa.Table, at: int, facts: FileFacts) -> list[bytes]:
    try:
        return leaf_hashes(table)
    except DamageError:
        pass
    leaves: list[bytes] = []
    for row in range(len(table)):
        try:
            leaves += leaf_hashes(table.slice(row, 1))
        except DamageError as error:
            leaves.append(_NO_LEAF)
            facts.findings.append(damage("row", task.path, error.message, row=at + row))
    return leaves


def _check_rows(task: FileTask, part: _Gathered, table: pa.Table, at: int, facts: FileFacts) -> None:
    """Judge rows one by one, in bulk, and collect what their segment as a whole is judged by."""
    erased = _check_erased(task, part, table, at, facts)
    index = np.arange(at, at + len(table))
    if erased.any():
        keep = ~erased
        table, index = table.filter(pa.array(keep)), index[keep]
        if not len(table):
            return

    def refuse(wrong: npt.NDArray[np.bool_], message: str) -> None:
        facts.findings.extend(row_findings(task.path, index[wrong].tolist(), message))

    times = pc.fill_null(table["time"].cast(pa.int64()), -(2**62)).to_numpy()
    day = date.fromisoformat(task.day).toordinal() - _EPOCH
    refuse(times // _DAY_US != day, f"It is not of {task.day}.")
    if task.retention is not None:
        required = [name for name in _REQUIRED_EVENT if table[name].null_count]
        other = ~_equal(table["retention"], task.retention)
        refuse(other, f"It is not of the retention class {task.retention}.")
        part.kinds.update(_counts(table["kind"]))
    else:
        required = [name for name in _REQUIRED_LETTER if table[name].null_count]
        _check_letters(table, refuse)
    for name in required:
        refuse(table[name].is_null().to_numpy(), f"It has no {name}.")
    known = part.facts
    low, high = int(times.min()), int(times.max())
    known.min_time = low if known.min_time is None else min(low, known.min_time)
    known.max_time = high if known.max_time is None else max(high, known.max_time)
    for key, coordinates in _coordinates(table, index, letters=task.retention is None):
        part.keys.setdefault(key, []).append(coordinates)


_REQUIRED_EVENT: Final = (
    *(f.name for f in FIELDS if f.required and f.name not in ("time", "retention")),
    "topic", "partition", "record_offset", "part",
)  # fmt: skip
_REQUIRED_LETTER: Final = ("topic", "partition", "record_offset", "status", "reason", "digest")


def _check_erased(
    task: FileTask, part: _Gathered, table: pa.Table, at: int, facts: FileFacts
) -> npt.NDArray[np.bool_]:
    """Which rows are erased; every one that is must have been erased by an entry, and the other way round."""
    marks = table[ERASED_LEAF]
    erased: npt.NDArray[np.bool_] = marks.is_valid().to_numpy()
    piece = part.facts.piece
    if not piece.erased and marks.null_count == len(table):
        return erased
    shift = piece.start - part.facts.at
    expected = np.zeros(len(table), np.bool_)
    inside = np.array([row - shift - at for row in piece.erased], np.int64)
    expected[inside[(inside >= 0) & (inside < len(table))]] = True
    rows = np.arange(at, at + len(table))
    facts.findings += row_findings(task.path, rows[erased & ~expected].tolist(), "No `erase` entry names it.")
    facts.findings += row_findings(
        task.path, rows[expected & ~erased].tolist(), "An `erase` entry names it, but its content is there."
    )
    return erased


def _check_letters(table: pa.Table, refuse: Any) -> None:
    known = pc.is_in(table["status"], pa.array(DEAD_LETTER_STATUSES)).to_numpy()
    refuse(~known, "Its status is none of the format's.")
    payload = table["payload"].is_valid().to_numpy()
    refuse(payload & ~_equal(table["status"], "rejected"), "It keeps a payload, though it was not rejected.")
    digests = pc.fill_null(pc.match_substring_regex(table["digest"], "^[0-9a-f]{64}$"), False).to_numpy()
    refuse(~digests, "Its digest is no SHA-256.")


def _equal(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(column, value), False).to_numpy()
    return same


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = pc.value_counts(column.drop_null())
    return dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))


def _coordinates(table: pa.Table, index: Int64s, *, letters: bool) -> Iterator[tuple[Key, Coordinates]]:
    """The rows' coordinates, by key; rows without a topic or offset were refused already."""
    offset = pc.fill_null(table["record_offset"], -1).to_numpy()
    part = pc.fill_null(table["part"], -1).to_numpy()
    partition = pc.fill_null(table["partition"], -1).to_numpy()
    status = None
    if letters:
        places = pc.index_in(table["status"], pa.array(DEAD_LETTER_STATUSES))
        status = pc.fill_null(places, -1).to_numpy().astype(np.int8)
    topics, topic = _codes(table["topic"])
    ids, topic_id = _codes(table["topic_id"])
    if len(topics) == 1 and len(ids) <= 1 and _constant(topic, topic_id, partition):
        identity = ids[0] if ids else topics[0]
        yield (identity, bool(ids), int(partition[0])), Coordinates(index, offset, part, status)
        return
    numbers, number = np.unique(partition, return_inverse=True)
    # One integer per row for (topic, id, partition); the batch is too small for it to overflow.
    code = ((topic + 1) * (len(ids) + 1) + topic_id + 1) * len(numbers) + number
    _, firsts = np.unique(code, return_index=True)
    for first in firsts.tolist():
        name: str | None = ids[topic_id[first]] if topic_id[first] >= 0 else None
        if name is None and topic[first] >= 0:
            name = topics[topic[first]]
        if name is None or not 0 <= partition[first] <= INT_MAX:
            continue
        rows = slice(None) if len(firsts) == 1 else code == code[first]
        key = (name, bool(topic_id[first] >= 0), int(partition[first]))
        yield (
            key,
            Coordinates(index[rows], offset[rows], part[rows], None if status is None else status[rows]),
        )


def _constant(topic: Int64s, topic_id: Int64s, partition: Int64s) -> bool:
    """Whether all rows are of one key, and of one that can be."""
    same = all(bool((values == values[0]).all()) for values in (topic, topic_id, partition))
    return same and topic[0] == 0 and 0 <= partition[0] <= INT_MAX


def _codes(column: pa.ChunkedArray) -> tuple[list[str], Int64s]:
    """The distinct texts of a column, and for each row which it is, −1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary.to_pylist(), codes


def _finished(part: _Gathered) -> PieceFacts:
    facts, piece = part.facts, part.facts.piece
    facts.kinds = dict(part.kinds)
    facts.keys = {key: joined(several) for key, several in part.keys.items()}
    facts.whole = len(part.leaves) == piece.end - piece.start and _NO_LEAF not in part.leaves
    if piece.start == 0 and piece.end == piece.rows:
        facts.root = root(part.leaves)
    else:
        facts.leaves = b"".join(part.leaves)
    return facts


def joined(several: list[Coordinates]) -> Coordinates:
    """The coordinates of several stretches of rows, one after the other."""
    if len(several) == 1:
        return several[0]
    statuses = [one.status for one in several if one.status is not None]
    return Coordinates(
        np.concatenate([one.row for one in several]),
        np.concatenate([one.offset for one in several]),
        np.concatenate([one.part for one in several]),
        np.concatenate(statuses) if len(statuses) == len(several) else None,
    )
