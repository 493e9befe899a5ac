"""Canonical bytes and leaves: vectors, refusals, erased rows, the ways that batches take."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ledger.errors import DamageError
from ledger.events import ARROW_SCHEMA, CONTENT_COLUMNS, DEAD_LETTER_SCHEMA, ERASED_LEAF, INT_MAX
from ledger.format import canonical
from ledger.format.canonical import canonical_column, canonical_event, content_column, leaf_hashes
from tests.benchmarks import workload
from tests.vectors import make_event_vectors

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
BASE: dict[str, Any] = {"event_id": "e-1", "kind": "decision", "time": NOON, "source": "s"}
VECTORS: dict[str, list[dict[str, Any]]] = json.loads(make_event_vectors.VECTORS.read_text(encoding="utf-8"))
SCHEMAS = {"events": ARROW_SCHEMA, "deadletters": DEAD_LETTER_SCHEMA}
CASES = [
    pytest.param(SCHEMAS[form], vector, id=vector["name"])
    for form, vectors in VECTORS.items()
    for vector in vectors
]


def row_of(vector: dict[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """The vector's row with its times as times."""
    return {
        name: datetime.fromisoformat(value) if pa.types.is_timestamp(schema.field(name).type) else value
        for name, value in vector["row"].items()
    }


def table_of(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=ARROW_SCHEMA)


@pytest.mark.parametrize(("schema", "vector"), CASES)
def test_vector(schema: pa.Schema, vector: dict[str, Any]) -> None:
    row = row_of(vector, schema)
    table = pa.Table.from_pylist([row], schema=schema)
    assert canonical_event(row) == vector["canonical"].encode()
    assert canonical_column(table) == [vector["canonical"].encode()]
    assert [leaf.hex() for leaf in leaf_hashes(table)] == [vector["leaf"]]


def test_the_vectors_are_those_of_their_generator() -> None:
    assert make_event_vectors.VECTORS.read_text(encoding="utf-8") == make_event_vectors.text()


def test_all_vectors_together() -> None:
    rows = [row_of(vector, ARROW_SCHEMA) for vector in VECTORS["events"]]
    assert [leaf.hex() for leaf in leaf_hashes(table_of(*rows))] == [v["leaf"] for v in VECTORS["events"]]


def test_a_workload_over_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "BATCH_ROWS", 1_000)
    table = workload.table(2_300, seed=7)
    rows = table.to_pylist()
    expected = [canonical_event(row) for row in rows]
    assert canonical_column(table) == expected
    assert leaf_hashes(table) == [hashlib.sha256(b"\0" + row).digest() for row in expected]
    assert content_column(table) == [
        canonical_event({name: row[name] for name in CONTENT_COLUMNS}) for row in rows
    ]


def test_a_table_without_rows_has_no_leaves() -> None:
    assert leaf_hashes(ARROW_SCHEMA.empty_table()) == []
    assert canonical_column(ARROW_SCHEMA.empty_table()) == []


def test_some_columns_alone() -> None:
    table = table_of({**BASE, "actor": "a"}, BASE)
    assert canonical_column(table, ["actor"]) == [b'{"actor":"a"}', b"{}"]
    assert canonical_column(table, ["source"]) == [b'{"source":"s"}', b'{"source":"s"}']


@pytest.mark.parametrize("value", ["a", 7, True, NOON, ["a"]])
def test_one_value_with_a_hole_in_it(value: Any) -> None:
    name = {str: "actor", int: "count", bool: "conflict", datetime: "issued_at", list: "roles"}[type(value)]
    rows = [{**BASE, name: value}, BASE, {**BASE, name: value}]
    assert canonical_column(table_of(*rows)) == [canonical_event(row) for row in rows]


def test_rows_that_share_no_column() -> None:
    rows = [{"actor": "a"}, {"tenant": "t"}, {"actor": "b", "tenant": 'q"'}]
    assert canonical_column(table_of(*rows)) == [canonical_event(row) for row in rows]


def test_text_beyond_one_arrow_array_is_joined_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    table = workload.table(10, seed=8)
    expected = canonical_column(table)
    whole = pc.binary_join_element_wise

    def small(*parts: Any, **options: Any) -> Any:
        if max(len(part) for part in parts if isinstance(part, pa.Array)) > 3:
            raise pa.ArrowCapacityError("too large")
        return whole(*parts, **options)

    monkeypatch.setattr(pc, "binary_join_element_wise", small)
    assert canonical_column(table) == expected


def test_one_row_beyond_an_arrow_array_goes_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise pa.ArrowCapacityError("too large")

    monkeypatch.setattr(pc, "binary_join_element_wise", never)
    assert canonical_column(table_of(BASE, BASE)) == [canonical_event(BASE)] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sequence": INT_MAX + 1}, "sequence"),
        ({"sequence": -INT_MAX - 1}, "sequence"),
        ({"roles": ["a", None]}, "roles"),
    ],
)
def test_what_has_no_canonical_form_is_refused_both_ways(change: dict[str, Any], words: str) -> None:
    row = {**BASE, **change}
    with pytest.raises(DamageError):
        canonical_event(row)
    with pytest.raises(DamageError, match=words):
        leaf_hashes(table_of(BASE, row))


@pytest.mark.parametrize(
    "change",
    [
        {"time": NOON.replace(tzinfo=None)},
        {"time": "2026-11-23T12:00:00.000000Z"},
        {"sequence": True},
        {"sequence": 1.0},
        {"session_verified": 1},
        {"actor": b"a"},
        {"actor": "\ud800"},
        {"roles": ("a",)},
        {"colour": "red"},
        {ERASED_LEAF: "00" * 32},
    ],
)
def test_a_row_of_other_types_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DamageError):
        canonical_event({**BASE, **change})


@pytest.mark.parametrize("micros", [-(2**63), -62_135_596_800_000_001, 253_402_300_800_000_000, 2**63 - 1])
def test_a_time_outside_the_calendar_is_refused(micros: int) -> None:
    times = pa.array([micros], pa.int64()).cast(pa.timestamp("us", "UTC"))
    table = table_of(BASE).set_column(2, "time", times)
    with pytest.raises(DamageError, match="years 1 to 9999"):
        leaf_hashes(table)


@pytest.mark.parametrize(
    ("name", "column"), [("colour", pa.array(["red"])), ("actor", pa.array([1])), ("time", pa.array(["now"]))]
)
def test_a_foreign_column_is_refused(name: str, column: pa.Array) -> None:
    with pytest.raises(DamageError, match=name):
        leaf_hashes(pa.table({name: column}))


def test_erased_rows_keep_their_place_and_hash() -> None:
    rows = [{**BASE, "event_id": f"e-{n}"} for n in range(5)]
    leaves = leaf_hashes(table_of(*rows))
    for erased in ({0}, {4}, {1, 2}, {0, 1, 2, 3, 4}):
        kept = table_of(*({ERASED_LEAF: leaves[n].hex()} if n in erased else rows[n] for n in range(5)))
        assert leaf_hashes(kept) == leaves
        assert [not row for row in canonical_column(kept)] == [n in erased for n in range(5)]


def test_an_erased_row_may_not_hold_content() -> None:
    with pytest.raises(DamageError, match="actor"):
        leaf_hashes(table_of(BASE, {ERASED_LEAF: "00" * 32, "actor": "mallory"}))


@pytest.mark.parametrize("kept", ["", "00" * 31, "0" * 63, "AA" * 32, "0 " * 32, "x" * 64, "0" * 63 + "\n"])
def test_an_erased_row_needs_a_leaf_hash(kept: str) -> None:
    with pytest.raises(DamageError, match="Row 1"):
        leaf_hashes(table_of(BASE, {ERASED_LEAF: kept}))
