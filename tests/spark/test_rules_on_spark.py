"""Every shipped rule and every construct that a rule may use gives the same rows on DuckDB and on Spark."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyspark.sql.pandas.types import from_arrow_schema

from detections.clocks import Clocks
from detections.configs.models import parse_config
from detections.configs.timeline import Timeline
from detections.portable_sql import spark_sql
from detections.recall.feed import read_entries_into
from detections.recall.memory import END, START, Bounds
from detections.rulebook.rule_files import shipped_rules
from detections.rulebook.rule_sql import AGGREGATES, ORDERED, SCALARS
from detections.trial import log_of
from detections.watch import Watch
from ledger.format.scopes import SCOPE_MACROS

CASES = [(rule, test) for rule in shipped_rules() for test in rule.tests]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
UTC_TIME = pa.timestamp("us", "UTC")


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """Rows whose order does not matter; lists in theirs."""
    rows = [tuple(row.values()) for row in table.to_pylist()]
    return sorted(rows, key=repr)


def shown(spark: Any, name: str, table: pa.Table) -> None:
    """Let Spark see a table under a name; spans of time go there as microseconds."""
    spans = [field.name for field in table.schema if pa.types.is_duration(field.type)]
    for one in spans:
        at = table.schema.get_field_index(one)
        table = table.set_column(at, one, table[one].cast(pa.int64()))
    # Spark makes nothing of a table without rows.
    empty = len(table) == 0
    frame = (
        spark.createDataFrame([], from_arrow_schema(table.schema)) if empty else spark.createDataFrame(table)
    )
    for one in spans:
        frame = frame.selectExpr(
            *(n if n != one else f"make_dt_interval(0, 0, 0, {n} / 1e6) AS {n}" for n in frame.columns)
        )
    frame.createOrReplaceTempView(name)


def both(
    spark: Any, database: Any, query: str, tables: Mapping[str, pa.Table], given: Mapping[str, Any]
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    for name, table in tables.items():
        shown(spark, name, table)
    here = database.sql(query, params=dict(given) or None).to_arrow_table()
    there = spark.sql(spark_sql(query), args=dict(given)).toArrow()
    assert here.schema.names == there.schema.names
    return rows_of(here), rows_of(there)


@pytest.mark.parametrize(
    ("rule", "test"), CASES, ids=[f"{rule.id}-{rule.tests.index(test)}" for rule, test in CASES]
)
def test_every_rule_answers_alike(spark: Any, rule: Any, test: Any) -> None:
    timeline = Timeline()
    timeline.set("rules", [rule.model_copy(update={"params": {**rule.params, **test.params}})])
    for name, value in test.configs.items():
        timeline.set(name, parse_config(name, value))
    log = log_of(rule.id, test)
    watch = Watch.over(timeline, log, threads=1)
    memory, bound = watch.memory, watch.rules[0].bound
    memory.floor = START
    for table in log.rows(read_entries_into(Clocks(), log.entries), memory.columns, None, None):
        memory.take(table)
    values = bound.rule.values()
    given = {name: values[name] for name in bound.facts.parameters}
    with memory.frame(Bounds(START, END, None), bound.facts.views, bound.columns) as cursor:
        tables = {}
        for view in bound.facts.views:
            columns = [row[0] for row in cursor.execute(f"DESCRIBE {view}").fetchall()]
            listed = ", ".join(
                f"to_microseconds(epoch_us({one})) AS {one}" if one == "silent_after" else f'"{one}"'
                for one in columns
            )
            tables[view] = _with_durations(cursor.sql(f"SELECT {listed} FROM {view}").to_arrow_table())
        here, there = both(spark, cursor, bound.rule.query, tables, given)
    watch.close()
    assert here == there
    assert here or not test.alerts


def _with_durations(table: pa.Table) -> pa.Table:
    for at, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):
            spans = [
                None if one is None else one.nanoseconds // 1_000 + one.days * 86_400_000_000
                for one in table[field.name].to_pylist()
            ]
            table = table.set_column(at, field.name, pa.array(spans, pa.duration("us")))
    return table


PEOPLE = pa.table(
    {
        "a": ["x", "y", "x", None, "x"], "n": pa.array([1, 2, 3, 4, None], pa.int64()),
        "m": pa.array([7, -7, 0, 2, 5], pa.int64()), "f": [1.5, -2.5, 0.25, None, 3.0],
        "t": ["ticket:4711/x", "Ab c", "", None, "a#b"], "ok": [True, False, True, None, True],
        "items": pa.array([["a:b", "a:*"], [], ["c:d"], None, ["a:b", "a:b"]], pa.list_(pa.string())),
        "more": pa.array([["a:b"], ["x:y"], ["*:*"], ["q:r"], None], pa.list_(pa.string())),
        "time": pa.array([NOON + timedelta(minutes=n) for n in (0, 5, 5, 61, 200)], UTC_TIME),
        "source": ["s"] * 5, "event_id": list("abcde"),
    }
)  # fmt: skip
CONSTRUCTS = {
    "abs": "abs(m)", "array_contains": "array_contains(items, 'a:b')", "ceil": "ceil(f)",
    "coalesce": "coalesce(n, m)", "concat": "concat(a, '-', t)", "contains": "contains(t, ':')",
    "covers": "covers('a:*', items[1])", "date_trunc": "date_trunc('hour', time)",
    "ends_with": "ends_with(t, 'x')", "exceeds": "exceeds(items, more)", "floor": "floor(f)",
    "greatest": "greatest(n, m)", "least": "least(n, m)", "len": "len(items)", "length": "length(t)",
    "list_contains": "list_contains(items, 'a:b')", "list_distinct": "list_sort(list_distinct(items))",
    "list_filter": "list_filter(items, lambda i: starts_with(i, 'a'))", "list_value": "list_value(a, t)",
    "lower": "lower(t)", "nullif": "nullif(a, 'x')", "regexp_matches": "regexp_matches(t, '[0-9]+')",
    "regexp_replace": "regexp_replace(t, ':.*$', '')", "replace": "replace(t, ':', '=')",
    "round": "round(f)", "split_part": "split_part(t, ':', 1)", "starts_with": "starts_with(t, 'ti')",
    "substr": "substr(t, 2, 3)", "substring": "substring(t, 2, 3)", "trim": "trim(t)", "trunc": "trunc(f)",
    "upper": "upper(t)", "if": "if(ok, 1, 2)", "to_days": "time + to_days(2)",
    "to_hours": "time + to_hours(2)", "to_minutes": "time + to_minutes(2)",
    "to_seconds": "time + to_seconds(2)", "~~": "t LIKE '%:%'", "!~~": "t NOT LIKE '%:%'", "+": "n + m",
    "-": "n - m", "*": "n * m", "%": "m % 4", "||": "a || t", "//": "m // 2",
    "list_sort": "list_sort(items)", "list_has_any": "list_has_any(items, more)",
    "epoch_us": "epoch_us(time)",
    "array_to_string": "array_to_string(items, ' ')", "instr": "instr(t, ':')", "strpos": "strpos(t, ':')",
    "concat_ws": "concat_ws(' ', a, t)", "array_extract": "items[1]", "/": "f / 2",
    "date_diff": "date_diff('minute', TIMESTAMPTZ '2026-11-23 12:00:00+00', time)",
    "unnest": "unnest(items)",
    "like_escape": "t LIKE '%#%' ESCAPE '$'", "to_microseconds": "time + to_microseconds(2)",
    "avg": "avg(n) OVER (PARTITION BY a)", "bool_and": "bool_and(ok) OVER (PARTITION BY a)",
    "bool_or": "bool_or(ok) OVER (PARTITION BY a)", "count": "count(n) OVER (PARTITION BY a)",
    "count_star": "count(*) OVER (PARTITION BY a)", "max": "max(n) OVER (PARTITION BY a)",
    "min": "min(n) OVER (ORDER BY time RANGE BETWEEN INTERVAL 5 MINUTE PRECEDING AND CURRENT ROW)",
    "sum": "sum(m) OVER (ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
    "lag": "lag(n) OVER (ORDER BY time, source, event_id)",
    "lead": "lead(n) OVER (ORDER BY time, source, event_id)",
    "first_value": "first_value(n) OVER (ORDER BY time, source, event_id)",
    "last_value": "last_value(n) OVER (ORDER BY time, source, event_id)",
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRUCTS)
def test_every_construct_means_the_same(spark: Any, name: str) -> None:
    database = duckdb.connect(":memory:")
    database.execute("SET TimeZone = 'UTC'")
    for macro in SCOPE_MACROS:
        database.execute(macro)
    database.register("people", PEOPLE)
    query = f"SELECT event_id, {CONSTRUCTS[name]} AS answer FROM people"
    here, there = both(spark, database, query, {"people": PEOPLE}, {})
    assert here == there


def test_nothing_may_be_said_that_is_not_tried() -> None:
    assert CONSTRUCTS.keys() >= SCALARS | AGGREGATES | ORDERED
