"""Views over pinned files: types, erased rows, row ranges, pruning, limits and errors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger.errors import DamageError, LedgerError, UsageError
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA, FIELD_NAMES, KINDS
from ledger.query.engine import KIND_VIEWS, VIEWS, Query, QueryFile, QueryLimits, connect

ROW_GROUP_ROWS = 100


def event(number: int, day: str, **fields: Any) -> dict[str, Any]:
    time = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(seconds=number)
    return {
        "event_id": f"{day}-{number}", "kind": "decision", "time": time, "source": "test",
        "trace_id": f"{day.replace('-', '')}{number:024d}", "retention": "standard", **fields,
    }  # fmt: skip


def write(
    root: Path, day: str, rows: Sequence[dict[str, Any]], *, name: str = "a", retention: str = "standard",
    ranges: tuple[tuple[int, int], ...] | None = None, schema: pa.Schema = ARROW_SCHEMA,
    folder: str = "events",
) -> QueryFile:  # fmt: skip
    path = root / folder / f"retention={retention}" / f"date={day}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pylist(list(rows), schema=schema),
        path,
        row_group_size=ROW_GROUP_ROWS,
        bloom_filter_options={"trace_id": {"ndv": ROW_GROUP_ROWS}} if folder == "events" else None,
    )
    return QueryFile(str(path), day, retention, len(rows), ranges)


def scan_of(query: Query, text: str) -> tuple[dict[str, str], dict[str, Any]]:
    """(scan's description, its counters) of the one Parquet scan in the plan, as executed."""
    plan = json.loads(query.trusted(f"explain (analyze, format json) {text}").column(1)[0].as_py())
    found: list[dict[str, Any]] = []

    def visit(part: Any) -> None:
        if isinstance(part, dict):
            if part.get("type") == "TABLE_SCAN" and part["extra_info"].get("Function") == "READ_PARQUET":
                found.append(part)
            for value in part.values():
                visit(value)
        elif isinstance(part, list):
            for value in part:
                visit(value)

    visit(plan)
    assert len(found) == 1
    return found[0]["extra_info"], found[0]


@pytest.fixture
def ten_days(tmp_path: Path) -> list[QueryFile]:
    days = [f"2026-01-{day:02d}" for day in range(1, 11)]
    return [write(tmp_path, day, [event(n, day) for n in range(500)]) for day in days]


def test_views_exist_and_are_typed_without_any_file() -> None:
    assert set(KIND_VIEWS) == set(KINDS)
    with connect([]) as query:
        schema = query.sql("select * from events").schema
        assert schema.names == [*FIELD_NAMES, "date"]
        for name in FIELD_NAMES:
            assert schema.field(name).type == ARROW_SCHEMA.field(name).type, name
        assert schema.field("date").type == pa.date32()
        for view in VIEWS:
            assert query.sql(f"select count(*) as n from {view}").column("n").to_pylist() == [0]
        letters = query.sql("select * from dead_letters").schema
        assert letters.names == [n for n in DEAD_LETTER_SCHEMA.names if n != "erased_leaf"] + ["date"]


def test_views_have_the_same_types_with_files(ten_days: list[QueryFile]) -> None:
    with connect(ten_days) as query, connect([]) as empty:
        for view in VIEWS:
            text = f"select * from {view} limit 1"
            assert query.sql(text).schema == empty.sql(text).schema


def test_a_view_for_each_kind(tmp_path: Path) -> None:
    day = "2026-01-01"
    file = write(tmp_path, day, [event(n, day, kind=kind) for n, kind in enumerate(KINDS)])
    with connect([file]) as query:
        for kind, view in KIND_VIEWS.items():
            assert query.sql(f"select kind from {view}").column("kind").to_pylist() == [kind]


def test_erased_rows_are_left_out_and_the_stored_class_wins(tmp_path: Path) -> None:
    day = "2026-01-01"
    rows = [event(0, day, retention="legal"), {"erased_leaf": "00" * 32}, event(2, day, retention="legal")]
    with connect([write(tmp_path, day, rows, retention="short")]) as query:
        answer = query.sql("select event_id, retention, date from events order by event_id").to_pylist()
    assert [row["event_id"] for row in answer] == [f"{day}-0", f"{day}-2"]
    assert {row["retention"] for row in answer} == {"legal"}
    assert {str(row["date"]) for row in answer} == {day}


def test_dead_letters(tmp_path: Path) -> None:
    rows = [{"topic": "t", "partition": 0, "record_offset": 7, "status": "rejected", "reason": "not JSON"}]
    file = write(tmp_path, "2026-01-02", rows, schema=DEAD_LETTER_SCHEMA, folder="deadletters")
    with connect([], [file]) as query:
        answer = query.sql("select topic, record_offset, reason, date from dead_letters").to_pylist()
    assert str(answer[0].pop("date")) == "2026-01-02"
    assert answer == [{"topic": "t", "record_offset": 7, "reason": "not JSON"}]


def test_row_ranges_restrict_a_file(tmp_path: Path) -> None:
    first, second = "2026-01-01", "2026-01-02"
    files = [
        write(tmp_path, first, [event(n, first) for n in range(300)], ranges=((10, 20), (250, 251))),
        write(tmp_path, second, [event(n, second) for n in range(5)]),
        write(tmp_path, second, [event(n, second, event_id="no") for n in range(5)], name="b", ranges=()),
    ]
    with connect(files) as query:
        answer = query.sql("select event_id from events order by time").column("event_id").to_pylist()
        assert answer == [f"{first}-{n}" for n in (*range(10, 20), 250)] + [f"{second}-{n}" for n in range(5)]
        one = query.sql("select event_id from events where trace_id = $t", {"t": f"20260101{15:024d}"})
        assert one.column("event_id").to_pylist() == [f"{first}-15"]
        none = query.sql("select event_id from events where trace_id = $t", {"t": f"20260101{30:024d}"})
        assert none.num_rows == 0


def test_a_date_filter_leaves_other_files_unopened(ten_days: list[QueryFile]) -> None:
    with connect(ten_days) as query:
        for text, files in [
            ("select count(kind) from events where date = '2026-01-03'", 1),
            ("select count(kind) from events where date between '2026-01-03' and date '2026-01-05'", 3),
            ("select count(kind) from decisions where date >= '2026-01-09' and reason is null", 2),
        ]:
            info, _ = scan_of(query, text)
            assert info["Total Files Read"] == str(files), text


def test_a_ledger_below_a_folder_that_looks_like_hive(tmp_path: Path) -> None:
    day = "2026-01-01"
    file = write(tmp_path / "date=2020-02-02" / "it's", day, [event(0, day)])
    with connect([file]) as query:
        assert query.sql("select date::varchar d from events").column("d").to_pylist() == [day]


def test_a_file_outside_the_layout_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="layout"):
        connect([QueryFile("/nowhere/a.parquet", "2026-01-01", "standard", 1)])


def test_a_trace_look_up_reads_one_row_group(ten_days: list[QueryFile]) -> None:
    with connect(ten_days) as query:
        wanted = f"20260104{321:024d}"
        _, counters = scan_of(query, f"select event_id from events where trace_id = '{wanted}'")
        # Half a percent of misses is what the filters promise; fifty row groups, one holds it.
        assert counters["total_row_groups_to_scan"] == 50
        assert 1 <= counters["row_groups_scanned"] <= 3
        missing = f"20260104{500:024d}"[:-1] + "f"
        _, counters = scan_of(query, f"select event_id from events where trace_id = '{missing}'")
        assert counters["row_groups_scanned"] <= 2


def test_a_time_filter_skips_row_groups(ten_days: list[QueryFile]) -> None:
    with connect(ten_days) as query:
        _, counters = scan_of(query, "select count(kind) from events where time >= '2026-01-10 00:08:00+00'")
        assert counters["row_groups_scanned"] == 1


def test_pruning_works_below_row_ranges_too(tmp_path: Path) -> None:
    files = []
    for number in range(1, 11):
        day = f"2026-01-{number:02d}"
        files.append(write(tmp_path, day, [event(n, day) for n in range(500)], ranges=((0, 400),)))
    with connect(files) as query:
        info, _ = scan_of(query, "select count(kind) from events where date = '2026-01-03'")
        assert info["Total Files Read"] == "1"
        _, counters = scan_of(query, f"select event_id from events where trace_id = '20260104{321:024d}'")
        assert counters["row_groups_scanned"] <= 3


def test_delegation_edges_and_macros(tmp_path: Path) -> None:
    day = "2026-01-01"
    rows = [
        event(0, day, delegation=["user:alice", "agent:planner", "agent:triage-7"], actor="user:alice"),
        event(1, day, delegation=["user:bob"], actor="user:bob", delegated_actor="agent:a"),
        event(2, day, delegation=[]),
        event(3, day),
    ]
    with connect([write(tmp_path, day, rows)]) as query:
        edges = query.sql(
            "select source, event_id, position, delegator, delegate from delegation_edges order by position"
        )
        assert edges.to_pylist() == [
            {"source": "test", "event_id": f"{day}-0", "position": 1, "delegator": "user:alice",
             "delegate": "agent:planner"},
            {"source": "test", "event_id": f"{day}-0", "position": 2, "delegator": "agent:planner",
             "delegate": "agent:triage-7"},
        ]  # fmt: skip
        principals = query.sql("select principal(delegated_actor, actor) p from events order by time")
        assert principals.column("p").to_pylist() == ["user:alice", "agent:a", None, None]


@pytest.mark.parametrize(
    ("b", "a", "answer"),
    [
        ("ticket:4711:read", "ticket:4711:read", True),
        ("ticket:4711:*", "ticket:4711:read", True),
        ("*:read", "ticket:4711:read", True),
        ("*:*", "ticket:4711:read", True),
        ("ticket:*:read", "ticket:4711:read", False),
        ("ticket:4711:read", "ticket:4711:*", False),
        ("ticket:4711:write", "ticket:4711:read", False),
        ("*:read", "*:read", True),
        ("*", "ticket:4711:read", False),
        ("*", "*", True),
        ("openid", "openid", True),
        ("a:b", "a.b", False),
        ("a\nb:*", "a\nb:read", True),
    ],
)
def test_scope_grammar(b: str, a: str, answer: bool) -> None:
    with connect([]) as query:
        assert query.sql("select covers($b, $a) x", {"b": b, "a": a}).column("x").to_pylist() == [answer]
        exceeds = query.sql("select exceeds([$a::varchar], [$b::varchar]) x", {"b": b, "a": a})
        assert exceeds.column("x").to_pylist() == [not answer]


def test_exceeds_over_lists() -> None:
    with connect([]) as query:
        answer = query.sql(
            "select exceeds(['a:b', 'c:d'], ['a:*']) one, exceeds([], []) two, exceeds(['a:b'], []) three,"
            " exceeds(null, ['a:b']) four, exceeds(['a:b'], null) five"
        ).to_pylist()
    assert answer == [{"one": True, "two": False, "three": True, "four": None, "five": None}]


def test_times_are_utc_whatever_the_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    with connect([]) as query:
        answer = query.sql("select (timestamptz '2026-01-01 00:00:00+00')::varchar as t")
    assert answer.column("t").to_pylist() == ["2026-01-01 00:00:00+00"]


ENDLESS = [
    "with recursive t(a) as (select 1 union all select a + 1 from t) select max(a) from t",
    "select count(*) from range(1000000000000) t(a) where a % 7 = 8",
    "select count(*) from range(10000000) a(x), range(10000000) b(y) where hash(x + y) = 1",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_a_query_without_end_is_stopped(text: str) -> None:
    with connect([], limits=QueryLimits(seconds=0.2)) as query:
        with pytest.raises(UsageError, match=r"stopped after 0.2 seconds") as caught:
            query.sql(text)
        assert caught.value.remedy
        assert query.sql("select 1 as x").num_rows == 1


def test_the_time_limit_holds_while_streaming_and_not_for_our_own(ten_days: list[QueryFile]) -> None:
    with connect(ten_days, limits=QueryLimits(seconds=0.2, batch_rows=1_000)) as query:
        reader = query.stream("select x from range(1000000000000) t(x)")
        with pytest.raises(UsageError, match="stopped"):
            for _ in reader:
                pass
        assert query.trusted("select sleep_ms(300), 1 as x").num_rows == 1


@pytest.mark.parametrize(
    "text",
    [
        "select x from range(1000000000) t(x) order by hash(x)",
        "select list(x) from range(1000000000) t(x)",
        "select string_agg(repeat('x', 10000), '') from range(1000000)",
    ],
)
def test_a_query_cannot_take_more_than_its_memory(text: str) -> None:
    limits = QueryLimits(memory_bytes=100_000_000, seconds=30)
    with connect([], limits=limits) as query, pytest.raises(UsageError, match="memory"):
        query.sql(text)


def test_an_answer_is_bounded_but_streams() -> None:
    limits = QueryLimits(result_bytes=1_000_000, batch_rows=10_000)
    with connect([], limits=limits) as query:
        with pytest.raises(UsageError, match="larger than"):
            query.sql("select x from range(1000000) t(x)")
        batches = list(query.stream("select x from range(1000000) t(x)"))
        assert sum(batch.num_rows for batch in batches) == 1_000_000
        assert max(batch.num_rows for batch in batches) <= 10_000


@pytest.mark.parametrize(
    "text",
    [
        "select nope from events",
        "select 'a'::int",
        "select $1, $2",
        "select error('x')",
        "select 1 +",
        "select sum(kind) from events",
        "select 1 from events where kind = 5",
    ],
)
def test_mistakes_get_one_plain_sentence(text: str, ten_days: list[QueryFile]) -> None:
    with connect(ten_days[:1]) as query, pytest.raises(UsageError) as caught:
        query.sql(text)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    assert "Error:" not in str(caught.value)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[50:400] = bytes(350)
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_truncate, _flip, Path.unlink])
def test_a_damaged_file_is_told_apart_from_a_wrong_query(
    harm: Callable[[Path], None], ten_days: list[QueryFile]
) -> None:
    with connect(ten_days) as query:
        harm(Path(ten_days[3].path))
        with pytest.raises(LedgerError) as caught:
            query.sql("select count(raw), max(event_id), max(trace_id) from events")
    assert not isinstance(caught.value, UsageError), caught.value


def test_a_file_damaged_before_it_is_opened(ten_days: list[QueryFile]) -> None:
    _truncate(Path(ten_days[0].path))
    with pytest.raises(DamageError):
        connect(ten_days)


def test_several_threads_at_once(ten_days: list[QueryFile]) -> None:
    answers: list[int] = []
    with connect(ten_days) as query:

        def ask() -> None:
            answers.append(query.sql("select count(*) n from events").column("n")[0].as_py())

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [5_000] * 4
