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
from functools import cache
from hashlib import sha256
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, CONTENT_COLUMNS, DEAD_LETTER_SCHEMA, ERASED_LEAF, INT_MAX

BATCH_ROWS: Final = 8_192
"""Rows joined at once: small enough that a batch and its text stay in the processor's cache."""
PART_ROWS: Final = 512
"""Rows that are Python bytes at once: more would cost a page fault each."""

_TYPES: Final[dict[str, pa.DataType]] = {
    field.name: field.type
    for schema in (DEAD_LETTER_SCHEMA, ARROW_SCHEMA)
    for field in schema
    if field.name != ERASED_LEAF
}
_LIST: Final = pa.list_(pa.string())
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_US: Final = 86_400_000_000
_TIME_MIN_US: Final = -719_162 * _DAY_US
_TIME_MAX_US: Final = 2_932_897 * _DAY_US - 1
"""The years 1 to 9999, in microseconds since 1970."""
_ESCAPES: Final = {
    **{code: f"\\u{code:04x}" for code in range(0x20)},
    0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0C: "\\f", 0x0D: "\\r",
    0x22: '\\"',
}  # fmt: skip
"""What RFC 8785, section 3.2.2.2 escapes besides the backslash, by code unit."""


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
    if column == _LIST and isinstance(value, list) and all(type(item) is str for item in value):
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
    leaves = [sha256(row).digest() for part in _canonical_parts(live, None, "\0") for row in part.to_pylist()]
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
    """`prefix` ‖ C of each row, a few rows at a time; no row is an erased one."""
    for field in table.schema:
        if field.name != ERASED_LEAF and _TYPES.get(field.name) != field.type:
            raise DamageError(f"The column {field.name!r} of type {field.type} is not part of the format.")
    wanted = sorted(
        name for name in table.column_names if name != ERASED_LEAF and (columns is None or name in columns)
    )
    for batch in table.select(wanted).to_batches(max_chunksize=BATCH_ROWS):
        for joined in _joined(batch, prefix):
            for start in range(0, len(joined), PART_ROWS):
                yield joined.slice(start, PART_ROWS)


def _joined(batch: pa.RecordBatch, prefix: str) -> list[pa.BinaryArray]:
    """`prefix` ‖ C of each row of a batch whose columns are sorted by name."""
    rows = len(batch)
    columns = [(name, batch[name]) for name in batch.schema.names]
    present = [(name, column) for name, column in columns if column.null_count < rows]
    anchor = next((at for at, (_, column) in enumerate(present) if not column.null_count), None)
    if anchor is None:  # no column that every row has, so where commas go differs by row
        return [_row_by_row(batch, prefix)]
    try:
        # A key comes with the comma that parts it from the anchor's side, so that a null takes both away.
        parts: list[str | pa.Array] = [prefix + "{"]
        for at, (name, column) in enumerate(present):
            opening, text, closing = _column_text(name, column)
            opening = f'{"," if at > anchor else ""}"{name}":{opening}'
            closing = f"{closing}{',' if at < anchor else ''}"
            if isinstance(text, str) or not text.null_count:
                parts += [opening, text, closing]
            else:
                parts.append(pc.binary_join_element_wise(opening, text, closing, ""))
        joined = pc.binary_join_element_wise(*_merged([*parts, "}"]), "", null_handling="skip")
    except pa.ArrowCapacityError:  # beyond the 2 GiB of one Arrow string array
        if rows == 1:
            return [_row_by_row(batch, prefix)]
        half = rows // 2
        return _joined(batch.slice(0, half), prefix) + _joined(batch.slice(half), prefix)
    if isinstance(joined, pa.Scalar):
        joined = pa.repeat(joined, rows)
    return [joined.cast(pa.binary())]


def _row_by_row(batch: pa.RecordBatch, prefix: str) -> pa.BinaryArray:
    rows = (prefix.encode() + canonical_event(row) for row in batch.to_pylist())
    return pa.array(rows, pa.binary())


def _merged(parts: list[str | pa.Array]) -> list[str | pa.Array]:
    """The same parts with neighbouring constants joined into one."""
    merged: list[str | pa.Array] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    return merged


def _column_text(name: str, column: pa.Array) -> tuple[str, str | pa.Array, str]:
    """The JSON text of a column: what stands before, the text (constant or by row), what stands after."""
    if column.type == pa.string():
        escaped = _escaped(column)
        return '"', _constant(escaped), '"'
    if pa.types.is_timestamp(column.type):
        return '"', _time_text(name, column), '"'
    if column.type == _LIST:
        return _list_text(name, column)
    if column.type == pa.int64():
        bounds = pc.min_max(column)
        low, high = bounds["min"].as_py(), bounds["max"].as_py()
        if low < -INT_MAX or high > INT_MAX:
            raise DamageError(f"The field {name!r} holds an integer beyond ±(2^53 − 1).")
        if low == high and not column.null_count:
            return "", str(low), ""
    return "", column.cast(pa.string()), ""


def _constant(column: pa.StringArray) -> str | pa.Array:
    """The column's one value where all rows have the same."""
    first = column[0]
    if column.null_count or first != column[-1] or not pc.all(pc.equal(column, first)).as_py():
        return column
    value: str = first.as_py()
    return value


def _text_bytes(column: pa.StringArray) -> npt.NDArray[np.uint8]:
    """The UTF-8 bytes of all rows in one piece, without copying."""
    _, offsets, data = column.buffers()
    if data is None or not len(column):
        return np.empty(0, np.uint8)
    at = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.uint8)[at[column.offset] : at[column.offset + len(column)]]


def _escaped(column: pa.StringArray) -> pa.StringArray:
    """The column as the inside of JSON strings (RFC 8785, section 3.2.2.2)."""
    content = _text_bytes(column)
    if not content.size:
        return column
    controls = content.min() < 0x20
    quotes = (content == 0x22).any()
    if (content == 0x5C).any():
        column = pc.replace_substring(column, "\\", "\\\\")
    if controls or quotes:
        found = np.flatnonzero(np.bincount(content, minlength=256)[:0x23]).tolist()
        for code in found:
            if code in _ESCAPES:
                column = pc.replace_substring(column, chr(code), _ESCAPES[code])
    return column


def _list_text(name: str, column: pa.ListArray) -> tuple[str, pa.Array, str]:
    """JSON arrays of strings; the brackets stand apart unless a list is empty."""
    items = column.flatten()
    if items.null_count:
        raise DamageError(f"The field {name!r} holds a list with a null in it.")
    lengths = pc.list_value_length(column)
    escaped = _escaped(items)
    if escaped is not items:
        ends = np.cumsum(pc.fill_null(lengths, 0).to_numpy(), dtype=np.int32)
        offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
        column = pa.ListArray.from_arrays(offsets, escaped, mask=column.is_null())
    joined = pc.binary_join(column, '","')
    if pc.min(lengths).as_py() > 0:
        return '["', joined, '"]'
    bracketed = pc.binary_join_element_wise('["', joined, '"]', "")
    return "", pc.if_else(pc.equal(lengths, 0), "[]", bracketed), ""


@cache
def _clock_digits() -> npt.NDArray[np.uint8]:
    """HH:MM:SS of every second of a day: ASCII, shape (86,400, 8)."""
    seconds = np.arange(86_400)
    text = np.full((86_400, 8), ord(":"), np.uint8)
    for at, value in ((0, seconds // 3600), (3, seconds // 60 % 60), (6, seconds % 60)):
        text[:, at] = value // 10 + ord("0")
        text[:, at + 1] = value % 10 + ord("0")
    return text


@cache
def _thousand_digits() -> npt.NDArray[np.uint8]:
    """000 to 999: ASCII, shape (1,000, 3)."""
    values = np.arange(1_000)
    digits = np.stack([values // 100, values // 10 % 10, values % 10], axis=1) + ord("0")
    return digits.astype(np.uint8)


def _time_text(name: str, column: pa.TimestampArray) -> pa.StringArray:
    """YYYY-MM-DDTHH:MM:SS.ffffffZ of each row, by digits out of tables; nulls stay null."""
    micros = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
    if micros.min() < _TIME_MIN_US or micros.max() > _TIME_MAX_US:
        raise DamageError(f"The field {name!r} holds a time outside the years 1 to 9999.")
    days, of_day = np.divmod(micros, _DAY_US)
    seconds, fraction = np.divmod(of_day, 1_000_000)
    width = len("YYYY-MM-DDTHH:MM:SS.ffffffZ")
    text = np.empty((len(column), width), np.uint8)
    if days.min() == days.max():
        text[:, :10] = np.frombuffer(_day_text(int(days[0])), np.uint8)
    else:
        unique, which = np.unique(days, return_inverse=True)
        rows = np.frombuffer(b"".join(_day_text(int(day)) for day in unique), np.uint8)
        text[:, :10] = rows.reshape(-1, 10)[which]
    text[:, 10] = ord("T")
    text[:, 11:19] = _clock_digits()[seconds]
    text[:, 19] = ord(".")
    text[:, 20:23] = _thousand_digits()[fraction // 1_000]
    text[:, 23:26] = _thousand_digits()[fraction % 1_000]
    text[:, 26] = ord("Z")
    offsets = np.arange(0, (len(column) + 1) * width, width, dtype=np.int32)
    strings = pa.StringArray.from_buffers(len(column), pa.py_buffer(offsets), pa.py_buffer(text))
    return pc.if_else(column.is_valid(), strings, None) if column.null_count else strings


def _day_text(day: int) -> bytes:
    return str(np.datetime64(day, "D")).encode()
