"""Segments: what is written, what is refused, and what readers gain from the layout."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import DamageError, OutsideError, UsageError
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA, ERASED_LEAF, SQL_TYPES
from ledger.format import merkle
from ledger.format.canonical import leaf_hashes
from ledger.sealing import segment
from ledger.sealing.segment import (
    parquet_bytes,
    read_dead_letters,
    read_event_rows,
    read_events,
    write_dead_letters,
    write_events,
)
from ledger.sealing.segment_layout import BLOOM_BITS
from tests.benchmarks import workload

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TABLE = workload.table(300, seed=9)
SEALED = write_events(TABLE)
LETTERS = pa.Table.from_pylist(
    [
        {
            "topic": "decisions", "partition": 0, "record_offset": n, "time": NOON, "status": "rejected",
            "reason": "no such kind", "field": "kind", "payload": "e30=",
            "digest": hashlib.sha256(b"{}").hexdigest(),
        }
        for n in range(3)
    ],
    schema=DEAD_LETTER_SCHEMA,
)  # fmt: skip


def metadata(data: bytes) -> pq.FileMetaData:
    return pq.ParquetFile(pa.BufferReader(data)).metadata


def test_a_segment_says_what_it_holds() -> None:
    kinds = TABLE["kind"].to_pylist()
    times = TABLE["time"].to_pylist()
    assert SEALED.rows == 300
    assert SEALED.kinds == {"action": kinds.count("action"), "decision": kinds.count("decision")}
    assert list(SEALED.kinds) == ["action", "decision"]
    assert (SEALED.min_time, SEALED.max_time) == (min(times), max(times))
    assert SEALED.leaves == leaf_hashes(TABLE)
    assert SEALED.root == merkle.root(SEALED.leaves)
    assert SEALED.sha256 == hashlib.sha256(SEALED.data).hexdigest()


def test_from_memory_and_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "segment.parquet"
    path.write_bytes(SEALED.data)
    for source in (SEALED.data, pa.py_buffer(SEALED.data), path):
        assert read_events(source, rows=300).equals(TABLE)
        assert read_events(source, ["event_id", "time"]).equals(TABLE.select(["event_id", "time"]))
        assert read_event_rows(source, 10, 20).equals(TABLE.slice(10, 10))


def test_the_folder_of_a_file_does_not_override_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "retention=other" / "date=2000-01-01" / "segment.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(SEALED.data)
    assert read_events(path).equals(TABLE)


def test_dead_letters() -> None:
    sealed = write_dead_letters(LETTERS)
    assert read_dead_letters(sealed.data, rows=3).equals(LETTERS)
    assert sealed.root == merkle.root(leaf_hashes(LETTERS))
    assert sealed.kinds == {}
    with pytest.raises(DamageError, match="columns"):
        read_events(sealed.data)
    with pytest.raises(DamageError, match="columns"):
        read_dead_letters(SEALED.data)


def test_erased_rows_are_written_and_read() -> None:
    rows = TABLE.slice(0, 4).to_pylist()
    rows[2] = {ERASED_LEAF: SEALED.leaves[2].hex()}
    sealed = write_events(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA))
    assert sealed.leaves == SEALED.leaves[:4]
    assert sum(sealed.kinds.values()) == 3
    assert leaf_hashes(read_events(sealed.data)) == SEALED.leaves[:4]


def test_all_rows_erased() -> None:
    rows = [{ERASED_LEAF: leaf.hex()} for leaf in SEALED.leaves[:3]]
    sealed = write_events(pa.Table.from_pylist(rows, schema=ARROW_SCHEMA))
    assert (sealed.min_time, sealed.max_time, sealed.kinds) == (None, None, {})
    assert read_events(sealed.data).to_pylist()[0][ERASED_LEAF] == SEALED.leaves[0].hex()


def test_one_class_and_one_date() -> None:
    rows = TABLE.slice(0, 2).to_pylist()
    for change, words in (
        ({"retention": "short"}, "retention class"),
        ({"time": rows[0]["time"] + timedelta(days=1)}, "one date"),
    ):
        with pytest.raises(UsageError, match=words):
            write_events(pa.Table.from_pylist([rows[0], {**rows[1], **change}], schema=ARROW_SCHEMA))


@pytest.mark.parametrize(
    "table",
    [
        TABLE.slice(0, 0),
        TABLE.drop_columns("part"),
        TABLE.rename_columns([*TABLE.column_names[:-1], "x"]),
        LETTERS,
    ],
    ids=["no rows", "a column less", "another name", "dead letters"],
)
def test_what_is_no_segment_is_not_written(table: pa.Table) -> None:
    with pytest.raises(UsageError):
        write_events(table)


def foreign() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"event_id": ["e"]}), sink)
    return bytes(sink.getvalue())


def other_order() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE.select(ARROW_SCHEMA.names[::-1]), sink)
    return bytes(sink.getvalue())


def not_utf8() -> bytes:
    text = pa.array([b"\xff"] * len(TABLE), pa.binary()).view(pa.string())
    return parquet_bytes(TABLE.set_column(ARROW_SCHEMA.get_field_index("tenant"), "tenant", text))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"not Parquet at all",
        foreign(),
        other_order(),
        not_utf8(),
        SEALED.data + b"\n",
        SEALED.data + b"trailing",
        SEALED.data[:-1],
        SEALED.data[: len(SEALED.data) // 2],
    ],
    ids=["empty", "magic", "text", "foreign", "order", "utf8", "newline", "trailing", "short", "half"],
)
def test_what_is_no_segment_is_damage(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "segment.parquet"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(DamageError) as caught:
            read_events(source)
        assert caught.value.message.endswith(".")


def test_another_number_of_rows_is_damage() -> None:
    with pytest.raises(DamageError, match="holds 300 rows; its entry says 299"):
        read_events(SEALED.data, rows=299)
    with pytest.raises(DamageError, match="holds 300 rows; row 300"):
        read_event_rows(SEALED.data, 299, 301)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DamageError, match="is missing"):
        read_events(tmp_path / "none.parquet")
    with pytest.raises(OutsideError, match="cannot be read"):
        read_events(tmp_path)


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(UsageError, match="colour"):
        read_events(SEALED.data, ["event_id", "colour"])


def test_another_process_writes_the_same_bytes() -> None:
    program = (
        "from tests.benchmarks import workload; from ledger.sealing.segment import write_events; "
        "print(write_events(workload.table(300, seed=9)).sha256)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.stdout.strip() == SEALED.sha256


def test_duckdb_sees_the_types_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "segment.parquet"
    path.write_bytes(SEALED.data)
    with duckdb.connect() as connection:
        found = connection.execute("DESCRIBE FROM read_parquet(?)", [str(path)]).fetchall()
    assert {row[0]: row[1] for row in found} == SQL_TYPES


def test_filters_statistics_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "ROW_GROUP_ROWS", 100)
    found = metadata(parquet_bytes(TABLE.slice(0, 250)))
    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == [84, 84, 82]
    columns = {found.row_group(1).column(n).path_in_schema: found.row_group(1).column(n) for n in range(92)}
    assert {name for name, c in columns.items() if c.bloom_filter_length} == set(BLOOM_BITS)
    assert {name for name, c in columns.items() if c.statistics} == {"time", "partition", "record_offset"}
    assert columns["time"].statistics.min == TABLE["time"][84].as_py()
    assert {c.compression for c in columns.values()} == {"ZSTD"}


def test_filters_are_in_proportion_and_really_filter(tmp_path: Path) -> None:
    table = workload.table(4_000, seed=10)
    data = parquet_bytes(table)
    sizes = {
        column.path_in_schema: column.bloom_filter_length
        for column in map(metadata(data).row_group(0).column, range(92))
        if column.bloom_filter_length
    }
    assert sizes["session_id"] < sizes["trace_id"] < sizes["event_id"] <= 4_000
    path = tmp_path / "segment.parquet"
    path.write_bytes(data)
    probe = "SELECT bloom_filter_excludes FROM parquet_bloom_probe(?, 'event_id', ?)"
    with duckdb.connect() as connection:
        absent = [
            connection.execute(probe, [str(path), f"{n:032x}"]).fetchone() == (True,) for n in range(100)
        ]
        present = [
            connection.execute(probe, [str(path), one]).fetchone() == (False,)
            for one in table["event_id"].to_pylist()[:100]
        ]
    assert all(present)
    assert sum(absent) > 50


def test_a_segment_of_10_000_rows_is_at_most_20_bytes_an_event_beyond_its_ids() -> None:
    table = workload.table(10_000, seed=11)
    assert (len(parquet_bytes(table)) - workload.id_entropy(table)) / len(table) <= 20
