"""Whether one sealed file still holds its rows: the file's hash, the leaves, and each row's place.

Pure work on bytes, so that it can run in another process: a task goes in, what was found and what
is needed to judge whole segments and offsets comes out.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA
from ledger.format.canonical import leaf_hashes
from ledger.format.merkle import HASH_BYTES, root
from ledger.sealing.segment_layout import coded_columns
from ledger.verify.facts import FileFacts, FileTask, Piece, PieceFacts, joined
from ledger.verify.findings import damage
from ledger.verify.rows import GatheredPiece, check_rows

BATCH_ROWS: Final = 50_000
"""Rows in memory at once, beside the file itself."""
MAX_EXTRA_ROWS: Final = 1_000_000
"""A file that claims this many more rows than were sealed is not read: it may be a decompression bomb."""
_NO_LEAF: Final = bytes(HASH_BYTES)
_UNREADABLE: Final = (pa.ArrowException, OSError, ValueError, MemoryError, KeyError)
"""What pyarrow raises for bytes that are no Parquet file, or one that was tampered with."""


def unreadable(task: FileTask, digest: str, why: str) -> FileFacts:
    """What is known of a file with this hash whose rows cannot be looked at."""
    facts = FileFacts(task.path, digest)
    if facts.sha256 != task.sha256:
        message = f"Its SHA-256 is {facts.sha256}, sealed was {task.sha256}."
        facts.findings.append(damage("changed", task.path, message))
    _refuse(facts, why)
    return facts


def check_file(task: FileTask, data: bytes, digest: str | None = None) -> FileFacts:
    """Check one file's bytes, whose hash is `digest` where that is known. Never raises for what they hold."""
    facts = FileFacts(task.path, digest or sha256(data).hexdigest())
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
    with pq.ParquetFile(pa.BufferReader(data), read_dictionary=coded_columns(file)) as file:
        gathered = _gather(task, file, facts)
    for part in gathered:
        facts.pieces.append(_finished(part))


def _gather(task: FileTask, file: pq.ParquetFile, facts: FileFacts) -> list[GatheredPiece]:
    spans = _spans(task, file, facts)
    parts = [
        GatheredPiece(PieceFacts(piece, start)) for piece, (start, _) in zip(task.pieces, spans, strict=True)
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
                check_rows(task, part, rows, at + done, facts)
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


def _finished(part: GatheredPiece) -> PieceFacts:
    facts, piece = part.facts, part.facts.piece
    facts.kinds = dict(part.kinds)
    facts.keys = {key: joined(several) for key, several in part.keys.items()}
    facts.whole = len(part.leaves) == piece.end - piece.start and _NO_LEAF not in part.leaves
    if piece.start == 0 and piece.end == piece.rows:
        facts.root = root(part.leaves)
    else:
        facts.leaves = b"".join(part.leaves)
    return facts
