"""Whether the rows of a sealed file may stand where they stand, judged in bulk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.events import DEAD_LETTER_STATUSES, ERASED_LEAF, FIELDS, INT_MAX
from ledger.sealing.seen_events import KEY_COLUMNS
from ledger.verify.facts import Coordinates, FileFacts, FileTask, Int64s, Key, PieceFacts
from ledger.verify.findings import row_findings

_DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class GatheredPiece:
    """A piece under construction, filled batch by batch."""

    facts: PieceFacts
    leaves: list[bytes] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    keys: dict[Key, list[Coordinates]] = field(default_factory=dict)


def check_rows(task: FileTask, part: GatheredPiece, table: pa.Table, at: int, facts: FileFacts) -> None:
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
        part.kinds.update(_counts(plain_text(table["kind"])))
        facts.unmarked.append(_unmarked(table, index, task.seed))
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


def _unmarked(table: pa.Table, index: Int64s, seed: int) -> tuple[Int64s, npt.NDArray[np.uint64]]:
    import polars as pl  # noqa: PLC0415  # only whoever reads rows needs it

    keep = ~pc.fill_null(table["conflict"], False).to_numpy()
    frame = pl.DataFrame(
        {name: pl.Series(name, plain_text(table[name]).cast(pa.large_string())) for name in KEY_COLUMNS}
    )
    return index[keep], frame.hash_rows(seed).to_numpy()[keep]


_REQUIRED_EVENT: Final = (
    *(f.name for f in FIELDS if f.required and f.name not in ("time", "retention")),
    "topic", "partition", "record_offset", "part",
)  # fmt: skip
_REQUIRED_LETTER: Final = ("topic", "partition", "record_offset", "status", "reason", "digest")


def _check_erased(
    task: FileTask, part: GatheredPiece, table: pa.Table, at: int, facts: FileFacts
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
    known = pc.is_in(plain_text(table["status"]), pa.array(DEAD_LETTER_STATUSES)).to_numpy()
    refuse(~known, "Its status is none of the format's.")
    payload = table["payload"].is_valid().to_numpy()
    refuse(payload & ~_equal(table["status"], "rejected"), "It keeps a payload, though it was not rejected.")
    digests = pc.fill_null(
        pc.match_substring_regex(plain_text(table["digest"]), "^[0-9a-f]{64}$"), False
    ).to_numpy()
    refuse(~digests, "Its digest is no SHA-256.")


def plain_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column without the dictionary that Parquet gave it, which a hostile file may have doubles in."""
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _equal(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    same: npt.NDArray[np.bool_] = pc.fill_null(pc.equal(plain_text(column), value), False).to_numpy()
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
        places = pc.index_in(plain_text(table["status"]), pa.array(DEAD_LETTER_STATUSES))
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
    encoded = plain_text(column).combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary.to_pylist(), codes
