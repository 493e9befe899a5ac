"""The JSON text of whole Arrow columns, as RFC 8785 wants it: strings escaped, times, integers, lists.

Everything here works on all rows of a column at once; only distinct days are Python objects.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ledger.errors import DamageError
from ledger.events import INT_MAX

LIST: Final = pa.list_(pa.string())
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


def column_text(name: str, column: pa.Array) -> tuple[str, str | pa.Array, str]:
    """The JSON text of a column: what stands before, the text (constant or by row), what stands after."""
    if column.type == pa.string():
        escaped = escaped_text(column)
        return '"', _constant(escaped), '"'
    if pa.types.is_timestamp(column.type):
        return '"', _time_text(name, column), '"'
    if column.type == LIST:
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


def escaped_text(column: pa.StringArray) -> pa.StringArray:
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
    escaped = escaped_text(items)
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
