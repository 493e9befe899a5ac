"""The vectorised canonical form equals the row-wise one, and both equal `rfc8785`."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from random import Random
from typing import Any

import pyarrow as pa
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.events import CONTENT_COLUMNS, DEAD_LETTER_SCHEMA, ERASED_LEAF
from ledger.format import canonical
from ledger.format.canonical import canonical_column, canonical_event, content_column, leaf_hashes
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
        assert canonical_column(table) == expected


def coded(table: pa.Table) -> pa.Table:
    """The same rows with every column of text as Parquet's dictionaries come."""
    columns = [
        column.dictionary_encode() if column.type == pa.string() and name != ERASED_LEAF else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return pa.table(columns, names=table.column_names)


@given(rows, st.integers(1, 40), st.randoms(use_true_random=False))
def test_text_by_distinct_value_gives_the_same_bytes(events: list[Row], times: int, random: Random) -> None:
    many = events * times
    random.shuffle(many)
    expected = [reference(event) for event in many]
    table = table_of(many)
    assert canonical_column(coded(table)) == expected
    assert canonical_column(coded(table).slice(1)) == expected[1:]
    assert leaf_hashes(coded(table)) == [hashlib.sha256(b"\0" + row).digest() for row in expected]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "LOOK_ROWS", 1)
        assert canonical_column(table) == expected


def test_values_that_a_dictionary_doubles_or_does_not_use_change_nothing() -> None:
    values = pa.array(["a", 'b"', "a", "never", "\x01"])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2] * 8, pa.int32()), values)
    table = pa.table({"actor": column, "tenant": pa.array(["t"] * 32).dictionary_encode()})
    assert canonical_column(table) == [canonical_event(row) for row in table.to_pylist()]
    null = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 16, pa.int32()), pa.array(["a", None]))
    table = pa.table({"actor": null, "tenant": pa.array(["t"] * 32)})
    assert canonical_column(table) == [canonical_event(row) for row in table.to_pylist()]


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
