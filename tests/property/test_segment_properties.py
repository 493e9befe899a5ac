"""What goes into a segment comes out of it, with every leaf."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA
from ledger.format import merkle
from ledger.format.canonical import canonical_event, leaf_hashes
from ledger.sealing import segment
from ledger.sealing.segment import read_event_rows, read_events, write_events
from tests.arbitrary_events import Row, on_one_date, rows, table_of


@given(rows)
def test_a_round_trip_keeps_every_leaf(events: list[Row]) -> None:
    events = on_one_date(events)
    table = table_of(events)
    sealed = write_events(table)
    back = read_events(sealed.data, rows=len(events))
    assert back.schema.equals(ARROW_SCHEMA)
    assert back.to_pylist() == table.to_pylist()
    leaves = [merkle.leaf_hash(canonical_event(event)) for event in events]
    assert leaf_hashes(back) == leaves == sealed.leaves
    assert sealed.root == merkle.root(leaves)
    assert sealed.sha256 == hashlib.sha256(sealed.data).hexdigest()
    assert sealed.rows == len(events)
    assert sealed.min_time == min(event["time"] for event in events)
    assert sealed.max_time == max(event["time"] for event in events)
    assert sum(sealed.kinds.values()) == len(events)


@given(rows, st.data())
def test_the_bytes_follow_from_the_rows_alone(events: list[Row], data: st.DataObject) -> None:
    table = table_of(on_one_date(events))
    at = data.draw(st.integers(0, len(table)))
    chunked = pa.concat_tables([table.slice(0, at), table.slice(at)])
    assert write_events(chunked).data == write_events(table).data


@given(rows, st.data())
def test_a_range_of_rows_is_that_slice(events: list[Row], data: st.DataObject) -> None:
    table = table_of(on_one_date(events))
    start = data.draw(st.integers(0, len(table)))
    end = data.draw(st.integers(start, len(table)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "ROW_GROUP_ROWS", data.draw(st.integers(1, 4)))
        sealed = write_events(table)
    assert read_event_rows(sealed.data, start, end).to_pylist() == table.slice(start, end - start).to_pylist()


@given(rows, st.data())
def test_no_cut_file_is_taken(events: list[Row], data: st.DataObject) -> None:
    whole = write_events(table_of(on_one_date(events))).data
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DamageError):
        read_events(whole[:cut])


@settings(max_examples=25)
@given(rows)
def test_duckdb_reads_the_same_text(events: list[Row]) -> None:
    events = on_one_date(events)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "segment.parquet")
        path.write_bytes(write_events(table_of(events)).data)
        query = "SELECT source, delegation, sequence FROM read_parquet(?, hive_partitioning => false)"
        found = duckdb.execute(query, [str(path)]).fetchall()
    assert found == [(e["source"], e.get("delegation"), e.get("sequence")) for e in events]
