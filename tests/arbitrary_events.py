"""Arbitrary rows for property tests: hostile text, extreme numbers and times, empty lists."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from ledger.events import ARROW_SCHEMA, FIELDS, INT_MAX, KINDS, FieldType

Row = dict[str, Any]

# Quotes, escapes, controls, line separators, the last code points of one to four UTF-8 bytes.
HOSTILE = (
    '"\\/\x00\x01\x08\t\n\x0b\x0c\r\x1f\x20\x7f\x80\x85\u00e9\u07ff\u2028\u2029\ufeff\uffff'
    "\U0001f600\U0010ffff"
)
texts = st.text(st.sampled_from(HOSTILE) | st.characters(codec="utf-8"), max_size=12)
times = st.datetimes(timezones=st.just(UTC))
integers = st.integers(-INT_MAX, INT_MAX) | st.sampled_from([0, -1, INT_MAX, -INT_MAX])
VALUES: dict[FieldType, st.SearchStrategy[Any]] = {
    "text": texts,
    "list": st.lists(texts, max_size=4),
    "int": integers,
    "bool": st.booleans(),
    "time": times | st.sampled_from([datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]),
}
REQUIRED = {"event_id": texts, "kind": st.sampled_from(KINDS), "source": texts, "time": times}
TYPES = {field.name: field.type for field in FIELDS if field.name not in REQUIRED}


def _rows_of(names: set[str]) -> st.SearchStrategy[list[Row]]:
    optional = {name: st.none() | VALUES[TYPES[name]] for name in names}
    row = st.fixed_dictionaries({**REQUIRED, **optional})
    # Repeated values make columns with one value, which take a way of their own; so do holes in them.
    hole = st.sets(st.sampled_from(sorted(names))) if names else st.just(set[str]())
    repeated = st.builds(
        lambda one, holes: [{**one, **dict.fromkeys(empty)} for empty in holes],
        row,
        st.lists(hole, min_size=1, max_size=5),
    )
    return st.lists(row, min_size=1, max_size=8) | repeated


rows = st.sets(st.sampled_from(sorted(TYPES)), max_size=10).flatmap(_rows_of)
"""One to eight rows that share a handful of columns; the strings of closed vocabularies are free."""


def table_of(events: list[Row]) -> pa.Table:
    """Rows as a table in `ARROW_SCHEMA`."""
    return pa.Table.from_pylist(events, schema=ARROW_SCHEMA)


def on_one_date(events: list[Row], day: date = date(2026, 11, 23)) -> list[Row]:
    """The same rows as one segment may hold them: of one UTC date and one retention class."""
    return [
        {**event, "time": datetime.combine(day, event["time"].time(), UTC), "retention": "standard"}
        for event in events
    ]
