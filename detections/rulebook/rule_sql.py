"""What a rule's query may say: a subset of SQL whose answer depends on the events alone.

Listed is what is allowed. What is left out would make the answer depend on when or where a query runs (the
current time, chance, LIMIT, ROWS frames, orders that tie), or is written otherwise by Spark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import duckdb

from ledger.errors import UsageError
from ledger.query.sql_guard import check, parse_query

SCALARS: Final = frozenset({
    "abs", "array_contains", "ceil", "coalesce", "concat", "contains", "covers", "date_diff",
    "date_trunc", "array_extract", "ends_with", "exceeds", "floor", "greatest", "least", "len",
    "length", "like_escape",
    "list_contains", "list_distinct", "list_filter", "list_value", "lower", "nullif", "regexp_matches",
    "regexp_replace", "replace", "round", "split_part", "starts_with", "substr", "substring", "trim", "trunc",
    "upper", "if", "to_days", "to_hours", "to_microseconds", "to_minutes", "to_seconds", "~~",
    "!~~", "+", "-", "*", "/", "%", "||", "//",
    "unnest", "list_sort", "list_has_any", "epoch_us", "array_to_string", "instr", "strpos", "concat_ws",
})  # fmt: skip
AGGREGATES: Final = frozenset({
    "avg", "bool_and", "bool_or", "count", "count_star", "max", "min", "sum",
})  # fmt: skip
"""What an aggregate or a window may compute: its answer does not depend on the order of its rows."""
ORDERED: Final = frozenset({"lag", "lead", "first_value", "last_value"})
"""Windows that look at rows one by one: their order must leave no tie."""
TOTAL_ORDER: Final = ("time", "source", "event_id")
_REFUSED_NODES: Final = {
    "RECURSIVE_CTE_NODE": "a query that refers to itself",
    "LIMIT_MODIFIER": "LIMIT",
    "LIMIT_PERCENT_MODIFIER": "LIMIT",
    "TABLE_FUNCTION": "a table function",
    "POSITIONAL_REFERENCE": "a column by its position",
    "PIVOT": "PIVOT",
}
_CLOCK_COLUMNS: Final = frozenset({
    "current_timestamp", "current_date", "current_time", "localtime", "localtimestamp", "current_user",
    "user",
})  # fmt: skip
_CLOCK_WORDS: Final = frozenset({"now", "today", "tomorrow", "yesterday"})
"""Texts that a cast to a time would turn into the current one."""


@dataclass(frozen=True, slots=True)
class QueryFacts:
    """What a query refers to: columns and parameters by name, and which of the views."""

    columns: frozenset[str]
    views: frozenset[str]
    parameters: frozenset[str]


def check_rule_query(text: str, connection: duckdb.DuckDBPyConnection, views: frozenset[str]) -> QueryFacts:
    """Raises UsageError unless `text` is one query of the subset over `views`."""
    check(text, connection, views)
    (statement,) = parse_query(text, connection)
    columns: set[str] = set()
    tables: set[str] = set()
    parameters: set[str] = set()
    for part in _parts(statement):
        _check_part(part)
        kind = part.get("type", "")
        if kind == "COLUMN_REF":
            columns.update(str(name).lower() for name in part["column_names"])
        elif kind == "BASE_TABLE":
            tables.add(str(part["table_name"]).lower())
        elif kind == "VALUE_PARAMETER":
            parameters.add(str(part["identifier"]))
    if columns & _CLOCK_COLUMNS:
        raise _refused(min(columns & _CLOCK_COLUMNS), "A query knows no time but that of its rows.")
    if "conflict" in columns:
        raise _refused("`conflict`", "It depends on what was sealed before; count distinct `ref` instead.")
    return QueryFacts(frozenset(columns), frozenset(tables & views), frozenset(parameters))


def _check_part(part: dict[str, Any]) -> None:
    kind = part.get("type", "")
    if kind in _REFUSED_NODES:
        raise _refused(_REFUSED_NODES[kind])
    if kind == "ORDER_MODIFIER" and part.get("orders"):
        raise _refused("ORDER BY outside a window")
    if kind == "STAR":
        raise _refused("`*` as a list of columns", "Name the columns: what is read is what is named.")
    if part.get("distinct_on_targets"):
        raise _refused("DISTINCT ON")
    if part.get("sample"):
        raise _refused("a sample")
    if part.get("class") == "WINDOW":
        _check_window(part)
    elif part.get("class") == "FUNCTION":
        _check_function(part)
    literal = part.get("literal")
    if isinstance(literal, dict) and str(literal.get("text", "")).strip().lower() in _CLOCK_WORDS:
        raise _refused(f"the text {literal['text']!r}", "As a time it means the current one.")


def _check_function(part: dict[str, Any]) -> None:
    name = _name(part)
    if name in AGGREGATES:
        if (part.get("order_bys") or {}).get("orders"):
            raise _refused("an ordered aggregate")
    elif name not in SCALARS:
        raise _refused(f"the function {name}", f"Use one of: {', '.join(sorted(SCALARS | AGGREGATES))}.")


def _check_window(part: dict[str, Any]) -> None:
    name = _name(part)
    frame = f"{part.get('start', '')} {part.get('end', '')}"
    if "_ROWS" in frame or "_GROUPS" in frame:
        raise _refused("a frame of ROWS or GROUPS", "Rows of one moment have no order: use RANGE.")
    if name in ORDERED:
        order = [one["expression"].get("column_names", [""])[-1] for one in part.get("orders", [])]
        if tuple(order[-3:]) != TOTAL_ORDER:
            raise _refused(f"{name} over rows that may tie", "Order it by …, time, source, event_id.")
    elif name not in AGGREGATES:
        known = ", ".join(sorted(AGGREGATES | ORDERED))
        raise _refused(f"the window function {name}", f"Use one of: {known}.")


def _name(part: dict[str, Any]) -> str:
    name = part.get("function_name") or (part.get("qualified_name") or {}).get("path", [""])[-1]
    return str(name).lower()


def _parts(tree: Any) -> Iterator[dict[str, Any]]:
    stack = [tree]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            yield part
            stack.extend(part.values())
        elif isinstance(part, list):
            stack.extend(part)


def _refused(what: str, remedy: str = "docs/rules.md lists what a rule's query may say.") -> UsageError:
    return UsageError(f"A rule's query may not use {what}.", remedy)
