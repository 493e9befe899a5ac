"""A scope's queries see its tenants' rows and learn nothing of others, by answer, error or silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import UsageError
from ledger.events import DEAD_LETTER_SCHEMA, KINDS
from ledger.query.engine import KIND_VIEWS, VIEWS, Query, QueryFile, connect
from ledger.query.scope import MAX_TENANTS, Scope
from tests.unit.test_query import event, scan_of, write

SECRET = "s3cret"
OWN = {"tenant": "acme", "actor": "7", "resource": "1", "delegation": ["7", "8"], "attributes": '{"n": 1}'}
OTHER = {
    "tenant": "beta", "actor": SECRET, "resource": SECRET, "delegation": [SECRET, SECRET],
    "attributes": f'{{"n": "{SECRET}"}}', "reason": SECRET, "resource_tenant": "acme",
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[QueryFile]:
    found = []
    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        rows: list[dict[str, Any]] = []
        for n in range(1_350):
            # Others' rows first and most: what is tried on any row is tried on them.
            mine = n % 9 == 8
            fields = OWN if mine else OTHER if n % 2 else {**OTHER, "tenant": None}
            rows.append(event(n, day, **{**fields, "kind": KINDS[n // 9 % len(KINDS)]}))
        found.append(write(tmp_path, day, rows, ranges=((0, 1_350),) if day.endswith("3") else None))
    return found


@pytest.fixture
def letters(tmp_path: Path) -> list[QueryFile]:
    rows = [
        {
            "topic": SECRET,
            "topic_id": "",
            "partition": 0,
            "record_offset": 1,
            "time": None,
            "status": "rejected",
        }
    ]
    return [write(tmp_path, "2026-01-01", rows, folder="deadletters", schema=DEAD_LETTER_SCHEMA)]


@pytest.fixture
def query(files: list[QueryFile], letters: list[QueryFile]) -> Iterator[Query]:
    with connect(files, letters, scope=Scope(frozenset({"acme"}))) as one:
        yield one


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_shows_a_row_of_another_tenant_or_of_none(query: Query, view: str) -> None:
    rows = query.sql(f"SELECT * FROM {view}")
    assert SECRET not in repr(rows.to_pylist())
    expected = {"events": 450, "delegation_edges": 450, "dead_letters": 0}
    assert len(rows) == expected.get(view, 450 // len(KIND_VIEWS))


PROBES = [
    "SELECT count(*) FROM events WHERE CAST(actor AS INTEGER) = 7",
    "SELECT count(*) FROM events WHERE CAST(resource AS INTEGER) + CAST(actor AS INTEGER) > 0",
    f"SELECT 1 FROM events WHERE CASE actor WHEN '{SECRET}' THEN CAST(actor AS INTEGER) ELSE 1 END = 1",
    "SELECT count(*) FROM decisions WHERE CAST(actor AS INTEGER) = 7 AND date = DATE '2026-01-03'",
    "SELECT max(CAST(actor AS INTEGER)) FROM events",
    "SELECT actor FROM events ORDER BY CAST(actor AS INTEGER) LIMIT 1",
    "SELECT 1 FROM events e JOIN events f ON CAST(e.actor AS INTEGER) = CAST(f.resource AS INTEGER) + 6",
    "WITH x AS (SELECT * FROM events WHERE CAST(actor AS INTEGER) = 7) SELECT count(*) FROM x",
    "SELECT count(*) FROM events WHERE CAST(json_extract_string(attributes, '$.n') AS INTEGER) = 1",
    "SELECT count(*) FROM delegation_edges WHERE CAST(delegator AS INTEGER) = 7",
    "SELECT count(*) OVER (ORDER BY CAST(actor AS INTEGER)) FROM events LIMIT 1",
    "SELECT count(*) FROM events GROUP BY CAST(actor AS INTEGER) HAVING count(*) > 1",
    "SELECT count(*) FROM events WHERE tenant = 'beta' AND CAST(actor AS INTEGER) = 7",
    "SELECT count(*) FROM events WHERE resource_tenant = 'acme' OR CAST(actor AS INTEGER) = 7",
    "SELECT min(actor), max(actor), min(time), approx_count_distinct(actor) FROM events",
]  # fmt: skip


@pytest.mark.parametrize("text", PROBES)
def test_no_condition_is_tried_on_a_row_of_another_tenant(query: Query, text: str) -> None:
    for _ in range(5):  # an engine that learns an order may change its mind
        assert SECRET not in repr(query.sql(text).to_pylist())


def test_what_an_error_says_is_of_the_own_rows(query: Query) -> None:
    with pytest.raises(UsageError) as refused:
        query.sql("SELECT CAST('x' || actor AS INTEGER) FROM events")
    assert SECRET not in refused.value.message
    assert "x7" in refused.value.message


@pytest.mark.parametrize(
    "name", ["placed_events", "events_ranges", "read_parquet", "information_schema.tables"]
)
def test_what_lies_beneath_the_views_is_not_reached(query: Query, name: str) -> None:
    with pytest.raises(UsageError):
        query.sql(f"SELECT * FROM {name}")


def test_a_scope_of_several_tenants_and_of_odd_names(files: list[QueryFile]) -> None:
    with connect(files, scope=Scope(frozenset({"acme", "beta", "o'no') OR (true"}))) as query:
        assert query.sql("SELECT count(*) AS n FROM events WHERE tenant IS NULL").to_pylist() == [{"n": 0}]
        assert query.sql("SELECT count(DISTINCT tenant) AS n FROM events").to_pylist() == [{"n": 2}]
    with connect(files, scope=Scope(frozenset({"') OR true --"}))) as query:
        assert query.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 0}]


def test_our_own_statements_go_without_the_fence_and_leave_files_unopened(files: list[QueryFile]) -> None:
    with connect(files[:2], scope=Scope(frozenset({"acme"}), fenced=False)) as query:
        text = "SELECT count(actor) AS n FROM events WHERE date = DATE '2026-01-02'"
        assert query.trusted(text).to_pylist() == [{"n": 150}]
        info, _ = scan_of(query, text)
        assert info["Total Files Read"] == "1"
        with pytest.raises(ValueError, match="fenced"):
            query.sql(text)


def test_behind_the_fence_no_condition_reaches_the_files(files: list[QueryFile]) -> None:
    """What an engine does not move it cannot try too early: today's would not, and need not stay so."""
    with connect(files[:2], scope=Scope(frozenset({"acme"}))) as query:
        info, _ = scan_of(query, "SELECT count(actor) AS n FROM events WHERE date = DATE '2026-01-02'")
        assert info["Total Files Read"] == "2"


def test_who_has_no_tenant_is_refused() -> None:
    with pytest.raises(UsageError):
        Scope(frozenset())
    with pytest.raises(UsageError):
        Scope(frozenset(map(str, range(MAX_TENANTS + 1))))
