"""Columns in wire types to columns of the event schema, by the rules of `rows`, vectorised.

Never the judge: a row that any check here does not like is left to the row path, which accepts it
or says why not.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ingest import secret_scan
from ingest.adapters.attribute_texts import canonical_texts
from ingest.adapters.flat_json import Columns
from ingest.decoded import Limits
from ingest.rows import BOUNDED_LISTS, BOUNDED_TEXTS, MAX_SESSION_RISK, NEVER_EMPTY
from ledger.events import (
    ARROW_SCHEMA,
    DEFAULT_CLASS,
    FIELDS,
    HEX_LENGTHS,
    INT_MAX,
    RETENTION_PATTERN,
    TIME_TYPE,
    VOCABULARIES,
)

Mask = npt.NDArray[np.bool_]
_TYPES: Final = {f.name: f.type for f in FIELDS}
_REQUIRED: Final = tuple(f.name for f in FIELDS if f.required and f.name != "retention")
_NO_SECRET: Final = frozenset({*VOCABULARIES, *HEX_LENGTHS})
_LOWER_HEX: Final = np.zeros(256, np.bool_)
_LOWER_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = True
_DIGIT_OR: Final = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)
_TIME_LENGTHS: Final = (20, 22, 23, 24, 25, 26, 27)
"""`…:00Z` and `…:00.f…Z` of 1 to 6 digits; other forms are rewritten by `_TIME`."""
_TIME: Final = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,6})?)[0-9]*"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
)
_FIRST, _LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"


def to_events(columns: Columns, limits: Limits, now: datetime) -> tuple[pa.Table, Mask]:
    """A table of the event schema, and which of its rows are vouched for."""
    table = columns.table
    rows = len(table)
    good: Mask = np.ones(rows, np.bool_)
    made: dict[str, pa.Array] = {}
    for name in table.column_names:
        column = table[name].chunk(0) if table[name].num_chunks else pa.nulls(0, table[name].type)
        if column.null_count == rows:
            continue
        made[name] = _CHECKS[_TYPES[name]](name, column, limits, good)
    for name in _REQUIRED:
        if name not in made:
            return pa.Table.from_batches([], ARROW_SCHEMA), np.zeros(0, np.bool_)
        if made[name].null_count:
            good &= made[name].is_valid().to_numpy(zero_copy_only=False)
    _strike_secrets(made, good)
    latest = pa.scalar(now + timedelta(hours=limits.ahead_hours), TIME_TYPE)
    _keep(good, pc.less_equal(made["time"], latest))
    if columns.attributes is not None:
        made["attributes"], fit = canonical_texts(columns.attributes, limits)
        good &= fit
    if "retention" not in made:
        made["retention"] = pa.repeat(pa.scalar(DEFAULT_CLASS), rows)
    elif made["retention"].null_count:
        made["retention"] = made["retention"].fill_null(DEFAULT_CLASS)
    made["part"] = pa.array(np.zeros(rows, np.int64))
    arrays = [made.get(field.name) for field in ARROW_SCHEMA]
    return pa.Table.from_arrays(
        [pa.nulls(rows, f.type) if a is None else a for a, f in zip(arrays, ARROW_SCHEMA, strict=True)],
        schema=ARROW_SCHEMA,
    ), good


def _keep(good: Mask, answer: pa.Array) -> None:
    """Null answers keep their row: they stand for absent values."""
    if answer.null_count:
        answer = answer.fill_null(fill_value=True)
    good &= answer.to_numpy(zero_copy_only=False)


def _strike_secrets(made: dict[str, pa.Array], good: Mask) -> None:
    """Vocabularies, times and hex digits need no such look."""
    free = [name for name in made if _TYPES[name] in ("text", "list") and name not in _NO_SECRET]
    for name in free:
        listed = _TYPES[name] == "list"
        texts = made[name].flatten() if listed else made[name]
        secret = secret_scan.with_secrets(texts, _bytes(texts))
        if secret is None:
            continue
        if listed:
            good[pc.list_parent_indices(made[name]).to_numpy()[secret]] = False
        else:
            good &= ~secret


def _lengths(column: pa.Array) -> npt.NDArray[np.int32]:
    offsets = np.frombuffer(column.buffers()[1], np.int32)
    return np.diff(offsets[column.offset : column.offset + len(column) + 1])


def _bytes(column: pa.StringArray) -> npt.NDArray[np.uint8]:
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data or b"", np.uint8)[ends[column.offset] : ends[column.offset + len(column)]]


def _text(name: str, column: pa.Array, limits: Limits, good: Mask) -> pa.Array:
    if name in VOCABULARIES:
        known = pa.array(VOCABULARIES[name], pa.string())
        answer = pc.or_(column.is_null(), pc.is_in(column, value_set=known))
        good &= answer.to_numpy(zero_copy_only=False)
    elif name in HEX_LENGTHS:
        digits = HEX_LENGTHS[name]
        _keep(good, pc.not_equal(column, "0" * digits))
        length = _lengths(column)
        present = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else np.True_
        good &= (length == digits) | ~present
        if not _LOWER_HEX[_bytes(column)].all():
            _keep(good, pc.match_substring_regex(column, "^[0-9a-f]*$"))
    elif name == "retention":
        if not pc.all(pc.equal(column, DEFAULT_CLASS)).as_py():
            answer = pl.Series(column).str.contains(RETENTION_PATTERN).to_arrow()
            _keep(good, answer)
    elif name in BOUNDED_TEXTS:
        length = _lengths(column)
        if length.max(initial=0) > limits.id_chars:
            good &= length <= limits.id_chars
        if name in NEVER_EMPTY and not length.all():
            good &= length > 0
    return column


def _list(name: str, column: pa.Array, limits: Limits, good: Mask) -> pa.Array:
    items = column.flatten()
    suspect = items.null_count > 0
    if name in BOUNDED_LISTS and not suspect:
        suspect = int(_lengths(items).max(initial=0)) > limits.id_chars
    if suspect:
        bad = items.is_null().to_numpy(zero_copy_only=False)
        if name in BOUNDED_LISTS:
            bad = bad | (_lengths(items) > limits.id_chars)
        good[pc.list_parent_indices(column).to_numpy()[bad]] = False
    return column


def _int(name: str, column: pa.Array, limits: Limits, good: Mask) -> pa.Array:
    low, high = (0, MAX_SESSION_RISK) if name == "session_risk" else (-INT_MAX, INT_MAX)
    ends = pc.min_max(column)
    if ends["min"].as_py() < low or ends["max"].as_py() > high:
        _keep(good, pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high)))
    return column


def _bool(name: str, column: pa.Array, limits: Limits, good: Mask) -> pa.Array:
    return column


def _time(name: str, column: pa.Array, limits: Limits, good: Mask) -> pa.Array:
    times = _uniform_times(column)
    if times is None:
        times = _any_times(column, good)
    ends = pc.min_max(times)
    first, last = pa.scalar(_FIRST).cast(TIME_TYPE), pa.scalar(_LAST).cast(TIME_TYPE)
    if ends["min"].is_valid and (ends["min"].value < first.value or ends["max"].value > last.value):
        inside = pc.and_(pc.greater_equal(times, first), pc.less_equal(times, last))
        _keep(good, inside)
        times = pc.if_else(inside, times, pa.scalar(None, TIME_TYPE))
    return times


def _uniform_times(column: pa.Array) -> pa.Array | None:
    """All values in one form, `2026-11-23T10:00:00[.f]Z` with the same digits each; None where not."""
    length = _lengths(column)
    if column.null_count:
        length = length[length > 0]
    if not len(length):
        return None
    width = int(length[0])
    data = _bytes(column)
    if width not in _TIME_LENGTHS or (length != width).any() or len(data) % width:
        return None
    form = np.concatenate([_DIGIT_OR[: width - 1], _DIGIT_OR[-1:]])
    matrix = data.reshape(-1, width)
    signs = form != ord("0")
    if not (matrix[:, signs] == form[signs]).all():
        return None
    try:
        return column.cast(TIME_TYPE)
    except pa.ArrowInvalid:
        return None


def _any_times(column: pa.Array, good: Mask) -> pa.Array:
    """RFC 3339 in any form, cut to microseconds; rows in no such form, or at no such time, are left."""
    texts = pl.Series(column)
    matched = texts.str.contains(_TIME)
    plain = texts.str.replace(_TIME, "${1}T${2}${3}").str.to_uppercase()
    plain = plain.str.replace("Z", "+00:00", literal=True)
    times = plain.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)
    good &= (texts.is_null() | (matched & times.is_not_null())).to_numpy()
    return times.to_arrow().cast(TIME_TYPE)


_CHECKS: Final = {"text": _text, "list": _list, "int": _int, "bool": _bool, "time": _time}
