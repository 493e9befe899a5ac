"""The vectorised canonical form equals the row-wise one, and both equal `rfc8785`."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger import canonical
from ledger.canonical import canonical_column, canonical_event, content_column, leaf_hashes
from ledger.events import CONTENT_COLUMNS, DEAD_LETTER_SCHEMA
from tests.arbitrary_events import VALUES, Row, rows, table_of, texts


def reference(row: Row) -> bytes:
    """C of a row by the words of the format page."""

    def value(one: Any) -> Any:
        if not isinstance(one, datetime):
            return one
        clock = f"{one.hour:02d}:{one.minute:02d}:{one.second:02d}.{one.microsecond:06d}"
        return f"{one.year:04d}-{one.month:02d}-{one.day:02d}T{clock}Z"

    return rfc8785.dumps({name: value(one) for name, one in row.items() if one is not None})


@given(rows)
def test_column_and_row_equal_rfc8785(events: list[Row]) -> None:
    expected = [reference(event) for event in events]
    assert [canonical_event(event) for event in events] == expected
    assert canonical_column(table_of(events)) == expected
    assert leaf_hashes(table_of(events)) == [hashlib.sha256(b"\0" + row).digest() for row in expected]


@given(rows)
def test_the_canonical_form_is_the_event(events: list[Row]) -> None:
    for event, row in zip(events, canonical_column(table_of(events)), strict=True):
        back = json.loads(row)
        assert back.keys() == {name for name, value in event.items() if value is not None}
        for name, value in back.items():
            if not isinstance(event[name], datetime):
                assert value == event[name]
            else:
                assert datetime.fromisoformat(value) == event[name]


@given(rows)
def test_content_leaves_out_what_the_collector_adds(events: list[Row]) -> None:
    kept = [{name: one for name, one in event.items() if name in CONTENT_COLUMNS} for event in events]
    assert content_column(table_of(events)) == [reference(event) for event in kept]


@given(rows, st.data())
def test_neither_slices_nor_chunks_nor_batches_matter(events: list[Row], data: st.DataObject) -> None:
    table = table_of(events * 2)
    expected = [reference(event) for event in events] * 2
    at = data.draw(st.integers(0, len(table)))
    assert canonical_column(table.slice(at)) == expected[at:]
    assert canonical_column(table.slice(0, at)) == expected[:at]
    assert canonical_column(pa.concat_tables([table.slice(0, at), table.slice(at)])) == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "BATCH_ROWS", data.draw(st.integers(1, 4)))
        patch.setattr(canonical, "PART_ROWS", data.draw(st.integers(1, 4)))
        assert canonical_column(table) == expected


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "topic": texts,
                "record_offset": VALUES["int"],
                "time": VALUES["time"],
                "field": st.none() | texts,
                "part": st.none() | VALUES["int"],
                "payload": st.none() | texts,
            }
        ),
        min_size=1,
        max_size=6,
    )
)
def test_dead_letters_have_leaves_as_events_do(letters: list[Row]) -> None:
    table = pa.Table.from_pylist(letters, schema=DEAD_LETTER_SCHEMA)
    assert canonical_column(table) == [reference(letter) for letter in letters]
