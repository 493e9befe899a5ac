"""The canonical bytes of a row, C(event), and its leaf hash SHA-256(0x00 ‖ C).

C is RFC 8785 JSON of a row's fields: nulls left out, times as YYYY-MM-DDTHH:MM:SS.ffffffZ,
integers within ±(2^53 − 1). `canonical_event` makes it from one row and is the reference; the
others make the same bytes for a whole Arrow table (events or dead letters), column by column: the
text of each column is joined between constant keys, so no row is touched by Python but for its hash.

Everything here raises `DamageError` for content that has no canonical form.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, CONTENT_COLUMNS, DEAD_LETTER_SCHEMA, ERASED_LEAF
from ledger.format.canonical_text import LIST, column_text, escaped_text
from ledger.format.repeated_text import RepeatedText, repeated_codes

BATCH_ROWS: Final = 25_000
"""Rows joined at once: some 30 MB of text. Fewer would make distinct values count for more."""
LOOK_ROWS: Final = 512
"""Rows that are looked at to tell whether a column's values repeat."""
LOOK_VALUES: Final = 64
"""Most distinct values in those rows for a column that is joined by distinct value."""
CODED: Final = pa.dictionary(pa.int32(), pa.string())
"""How a column of text may come as well: as Parquet's dictionary and a code for each row."""

_TYPES: Final[dict[str, pa.DataType]] = {
    field.name: field.type
    for schema in (DEAD_LETTER_SCHEMA, ARROW_SCHEMA)
    for field in schema
    if field.name != ERASED_LEAF
}


def canonical_event(row: Mapping[str, object]) -> bytes:
    """C of one event or dead letter: text, int, bool, list of text, aware datetime, or None by field."""
    content: dict[str, object] = {}
    for name, value in row.items():
        if value is None:
            continue
        if name not in _TYPES:
            raise DamageError(f"The field {name!r} is not part of the format.")
        content[name] = _json_value(name, value)
    try:
        return rfc8785.dumps(content)  # type: ignore[arg-type]  # its value type is private
    except ValueError as error:
        raise DamageError(f"A row has no canonical form: {error}.") from error


def _json_value(name: str, value: object) -> object:
    """The JSON value of one field, after a check that its type is the column's."""
    column = _TYPES[name]
    if pa.types.is_timestamp(column) and isinstance(value, datetime) and value.utcoffset() is not None:
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if column == LIST and isinstance(value, list) and all(type(item) is str for item in value):
        return value
    exact = {pa.string(): str, pa.int64(): int, pa.bool_(): bool}.get(column)
    if type(value) is not exact:
        raise DamageError(f"The field {name!r} holds a {type(value).__name__}, which its column cannot.")
    return value


def canonical_column(table: pa.Table, columns: Collection[str] | None = None) -> list[bytes]:
    """C of every row, of the named columns only where some are named; b"" for an erased row."""
    live, erased = _live_rows(table)
    rows = [row for part in _canonical_parts(live, columns, "") for row in part.to_pylist()]
    for index in erased:  # ascending, so that each lands at its own place
        rows.insert(index, b"")
    return rows


def content_column(table: pa.Table) -> list[bytes]:
    """What is compared for de-duplication: C of each event without what the collector adds."""
    return canonical_column(table, CONTENT_COLUMNS)


def leaf_hashes(table: pa.Table) -> list[bytes]:
    """The 32-byte leaf hash of every row, in order; an erased row gives the hash that it kept."""
    live, erased = _live_rows(table)
    leaves: list[bytes] = []
    for part in _canonical_parts(live, None, "\0"):
        _, offsets, data = part.buffers()
        ends = np.frombuffer(offsets, np.int32)[part.offset : part.offset + len(part) + 1].tolist()
        content = memoryview(data)  # a row is hashed where it lies: copies would cost half a hash
        leaves += [sha256(content[start:end]).digest() for start, end in pairwise(ends)]
    for index, leaf in erased.items():
        leaves.insert(index, leaf)
    return leaves


def _live_rows(table: pa.Table) -> tuple[pa.Table, dict[int, bytes]]:
    """The rows that were not erased, and the leaf hashes that the others kept, by ascending row."""
    if ERASED_LEAF not in table.column_names:
        return table, {}
    marks = table[ERASED_LEAF]
    if marks.null_count == len(table):
        return table, {}
    gone = table.filter(marks.is_valid())
    for name in gone.column_names:  # content beside a kept hash would seem proven whatever it says
        if name != ERASED_LEAF and gone[name].null_count < len(gone):
            raise DamageError(f"A row that is marked as erased still holds {name!r}.")
    kept = {row: _kept_leaf(text, row) for row, text in enumerate(marks.to_pylist()) if text is not None}
    return table.filter(marks.is_null()), kept


def _kept_leaf(text: str, row: int) -> bytes:
    try:
        leaf = bytes.fromhex(text)
    except ValueError:
        leaf = b""
    if leaf.hex() != text or len(leaf) != 32:
        raise DamageError(f"Row {row} is marked as erased, but keeps no leaf hash.")
    return leaf


def _canonical_parts(
    table: pa.Table, columns: Collection[str] | None, prefix: str
) -> Iterator[pa.BinaryArray]:
    """`prefix` ‖ C of each row, BATCH_ROWS rows at a time; no row is an erased one."""
    for field in table.schema:
        wanted = _TYPES.get(field.name)
        is_ours = field.type == wanted or (field.type == CODED and wanted == pa.string())
        if field.name != ERASED_LEAF and not is_ours:
            raise DamageError(f"The column {field.name!r} of type {field.type} is not part of the format.")
    names = sorted(
        name for name in table.column_names if name != ERASED_LEAF and (columns is None or name in columns)
    )
    for batch in table.select(names).to_batches(max_chunksize=BATCH_ROWS):
        yield from _joined(batch, prefix)


def _joined(batch: pa.RecordBatch, prefix: str) -> list[pa.BinaryArray]:
    """`prefix` ‖ C of each row of a batch whose columns are sorted by name."""
    rows = len(batch)
    columns = [(name, _counted_nulls(batch[name])) for name in batch.schema.names]
    present = [(name, column) for name, column in columns if column.null_count < rows]
    anchor = next((at for at, (_, column) in enumerate(present) if not column.null_count), None)
    if anchor is None:  # no column that every row has, so where commas go differs by row
        return [_row_by_row(batch, prefix)]
    try:
        # A key comes with the comma that parts it from the anchor's side, so that a null takes both away.
        parts: list[_Part] = [prefix + "{"]
        for at, (name, column) in enumerate(present):
            opening = f'{"," if at > anchor else ""}"{name}":'
            parts += _column_parts(name, column, opening, "," if at < anchor else "")
        texts = [part.rows() if isinstance(part, RepeatedText) else part for part in _merged([*parts, "}"])]
        joined = pc.binary_join_element_wise(*texts, "", null_handling="skip")
    except pa.ArrowCapacityError:  # beyond the 2 GiB of one Arrow string array
        if rows == 1:
            return [_row_by_row(batch, prefix)]
        half = rows // 2
        return _joined(batch.slice(0, half), prefix) + _joined(batch.slice(half), prefix)
    if isinstance(joined, pa.Scalar):
        joined = pa.repeat(joined, rows)
    return [joined.cast(pa.binary())]


def _counted_nulls(column: pa.Array) -> pa.Array:
    """The column, plain where its dictionary holds a null: `null_count` sees those of the codes only."""
    if isinstance(column, pa.DictionaryArray) and column.dictionary.null_count:
        return column.dictionary_decode()
    return column


_Part: TypeAlias = str | pa.Array | RepeatedText


def _column_parts(name: str, column: pa.Array, opening: str, closing: str) -> list[_Part]:
    """What one column adds to every row, null rows nothing."""
    if _repeats(column):
        column = column.dictionary_encode()
    if isinstance(column, pa.DictionaryArray):
        coded = repeated_codes(column)
        if coded is not None:
            codes, values = coded
            texts = pc.binary_join_element_wise(f'{opening}"', escaped_text(values), f'"{closing}', "")
            if column.null_count:
                texts = pa.concat_arrays([texts, pa.array([""])])
            return [RepeatedText(codes, texts)]
        column = column.dictionary_decode()
    before, text, after = column_text(name, column)
    before, after = opening + before, after + closing
    if isinstance(text, str) or not text.null_count:
        return [before, text, after]
    return [pc.binary_join_element_wise(before, text, after, "")]


def _repeats(column: pa.Array) -> bool:
    """Whether a plain column of text seems to hold few distinct values."""
    if column.type != pa.string() or len(column) < LOOK_ROWS:
        return False
    distinct: int = pc.count_distinct(column.slice(len(column) // 2, LOOK_ROWS)).as_py()
    return distinct <= LOOK_VALUES


def _row_by_row(batch: pa.RecordBatch, prefix: str) -> pa.BinaryArray:
    rows = (prefix.encode() + canonical_event(row) for row in batch.to_pylist())
    return pa.array(rows, pa.binary())


def _merged(parts: list[_Part]) -> list[_Part]:
    """The same parts with neighbours joined where that is cheaper than joining them in every row."""
    merged: list[_Part] = []
    for part in parts:
        both = _both(merged[-1], part) if merged else None
        if both is None:
            merged.append(part)
        else:
            merged[-1] = both
    return merged


def _both(first: _Part, second: _Part) -> str | RepeatedText | None:
    if isinstance(first, str):
        if isinstance(second, str):
            return first + second
        return second.between(first, "") if isinstance(second, RepeatedText) else None
    if isinstance(first, RepeatedText):
        if isinstance(second, str):
            return first.between("", second)
        return first.followed_by(second) if isinstance(second, RepeatedText) else None
    return None
