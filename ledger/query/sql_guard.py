"""What ad-hoc SQL may say: one statement made of SELECT, set operations and CTEs over our views.

The parsed tree is judged, never the text. Every list here says what is allowed, so that a part
of the tree that a later DuckDB adds is refused until someone has looked at it; only scalar
functions are listed by what is refused, since they reach no file and there are hundreds
(a test looks at every one that is not a plain function of its arguments).

Settings of the connection are the second wall (ledger/query/engine.py): they hold should a hole in this
one be found. DuckDB checks its time limit between vectors of rows, not within one call of a
function, so functions that can make one call last are bounded here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final

import duckdb

from ledger.errors import UsageError

MAX_QUERY_CHARS: Final = 100_000
MAX_GROWTH: Final = 10_000
"""Largest literal count given to a function that makes text or lists of that length."""

TABLE_FUNCTIONS: Final = frozenset({"unnest", "range", "generate_series"})
_QUERY_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_TABLE_PARTS: Final = frozenset({"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SUBQUERY",
                                 "TABLE_FUNCTION"})  # fmt: skip
_OTHER_PARTS: Final = re.compile(r"[A-Z_]+_MODIFIER|[A-Z_]+_TYPE_INFO|ORDER_DEFAULT|ASCENDING|DESCENDING")
_EXPRESSIONS: Final = frozenset({
    "BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
    "LAMBDA", "LAMBDA_REF", "OPERATOR", "PARAMETER", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE",
    "WINDOW",
})  # fmt: skip
REFUSED_FUNCTIONS: Final = frozenset({
    # what the process is and where its files lie
    "current_setting", "getenv", "getvariable", "pg_get_viewdef", "stats",
    "which_secret", "current_connection_id", "current_query_id", "current_transaction_id", "txid_current",
    # state that outlives the query
    "nextval", "setval", "currval", "setseed", "write_log", "parse_duckdb_log_message",
    # SQL inside text, which this guard would not see
    "json_serialize_plan", "json_serialize_sql", "json_deserialize_sql", "json_execute_serialized_sql",
    "query", "query_table",
    # the time limit cannot interrupt them
    "sleep_ms", "pg_sleep",
})  # fmt: skip
_LIST_MAKERS: Final = frozenset({"range", "generate_series"})
_GROWERS: Final = frozenset({"repeat", "lpad", "rpad", "list_resize", "array_resize", "bitstring"})
"""Their second argument says how long what they make is."""
_FORMATS: Final = frozenset({"printf", "format"})
_WIDE_FORMAT: Final = re.compile(r"\d{5,}|\*|\{[^{}]*\{")


def check(text: str, connection: duckdb.DuckDBPyConnection, tables: Collection[str]) -> None:
    """Raises UsageError unless `text` is one SELECT over `tables` (names in lower case).

    `connection` only parses: nothing is bound or run.
    """
    if len(text) > MAX_QUERY_CHARS:
        raise UsageError(
            f"The query has {len(text):,} characters, and the limit is {MAX_QUERY_CHARS:,}.",
            "Shorten it, for example by joining against a list instead of spelling it out.",
        )
    if "\0" in text:
        raise UsageError("The query holds a NUL character.", "Remove it.")
    statements = parse_query(text, connection)
    if len(statements) != 1:
        raise UsageError(
            f"The text holds {len(statements)} statements, and a query is exactly one.",
            "Send one SELECT at a time.",
        )
    _walk(statements[0], frozenset(tables))


def parse_query(text: str, connection: duckdb.DuckDBPyConnection) -> list[Any]:
    """The parsed tree of each SELECT in `text`. Raises UsageError for anything else."""
    try:
        row = connection.execute(
            "SELECT json_serialize_sql(?::VARCHAR, skip_null := true, skip_empty := true)", [text]
        ).fetchone()
        assert row is not None  # a scalar SELECT always gives one row
        answer = json.loads(row[0])
    except RecursionError:
        raise UsageError("The query is nested too deeply.", "Split it into CTEs.") from None
    except (duckdb.Error, UnicodeError) as error:
        raise UsageError(f"The query cannot be read: {first_line(error)}.", "Check its text.") from None
    if not answer["error"]:
        statements: list[Any] = answer["statements"]
        return statements
    message = str(answer.get("error_message", "")).split("\n")[0].rstrip(".")
    if answer.get("error_type") == "parser":
        position = answer.get("position")
        place = f" (at character {int(position) + 1})" if str(position).isdigit() else ""
        raise UsageError(f"The query is not valid SQL: {message}{place}.", "Correct it and try again.")
    raise UsageError(
        "Only SELECT is allowed here: the text holds another kind of statement.",
        "Use SELECT, WITH, UNION and the like; nothing can be written or set with SQL "
        "(PIVOT needs its values listed: PIVOT … ON column IN (…) inside a SELECT).",
    )


def _walk(statement: Any, tables: frozenset[str]) -> None:
    """Visits every part of the tree; each part knows which table names are visible there."""
    stack: list[tuple[Any, frozenset[str]]] = [(statement, tables)]
    while stack:
        part, names = stack.pop()
        if isinstance(part, list):
            stack.extend((item, names) for item in part)
        if not isinstance(part, dict):
            continue
        _check_part(part, names)
        for entry in part.get("cte_map", {}).get("map", ()):
            # A CTE sees those before it, and itself only where it is recursive: any other name would
            # be looked up as a file.
            name, value = str(entry["key"]).lower(), entry["value"]
            recursive = _type(value.get("query_node")) == "RECURSIVE_CTE_NODE"
            stack.append((value, names | {name} if recursive else names))
            names = names | {name}
        stack.extend((value, names) for key, value in part.items() if key != "cte_map")


def _type(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    return kind if isinstance(kind, str) else None


def _check_part(part: dict[str, Any], names: frozenset[str]) -> None:
    kind = _type(part)
    if "class" in part:
        if part["class"] not in _EXPRESSIONS:
            raise _not_a_select(str(part["class"]))
        if "function_name" in part:
            _check_function(part)
    elif kind == "BASE_TABLE":
        _check_table(part, names)
    elif kind == "TABLE_FUNCTION":
        # The call itself is an expression of this part and would be judged as a scalar function.
        call = part["function"]
        name = str(call.get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            raise UsageError(
                f"The table function {name} is not allowed: a query reads the ledger's views only.",
                f"Read {_listed(names)}, or use unnest, range or generate_series.",
            )
        part["function"] = call.get("arguments", [])
    elif kind is not None and not (
        kind in _QUERY_NODES or kind in _TABLE_PARTS or _OTHER_PARTS.fullmatch(kind)
    ):
        raise _not_a_select(kind)


def _check_table(part: dict[str, Any], names: frozenset[str]) -> None:
    path = [str(name).lower() for name in part.get("qualified_name", {}).get("path", ())]
    if path[:-1] not in ([], ["main"], ["memory", "main"]) or path[-1] not in names:
        raise UsageError(
            f"There is no table {'.'.join(path)}: a query reads the ledger's views, no file or variable.",
            f"Read {_listed(names)}.",
        )


def _check_function(part: dict[str, Any]) -> None:
    name = str(part["function_name"]).lower()
    if name in REFUSED_FUNCTIONS:
        raise UsageError(f"The function {name} is not allowed in a query.", "Leave it out.")
    if name in _LIST_MAKERS:
        raise UsageError(
            f"{name} as a value is not allowed: a list that it makes has no bound in time or memory.",
            f"Make it a table in FROM instead: {name}(…) AS t(x).",
        )
    arguments = [_constant(argument) for argument in part.get("arguments", ())]
    if name in _GROWERS:
        count = arguments[1] if len(arguments) > 1 else "0"
        if count is None or not count.isdigit() or int(count) > MAX_GROWTH:
            raise UsageError(
                f"The length given to {name} must be a number written out, at most {MAX_GROWTH:,}.",
                f"Write for example {name}(x, 10{', …' if 'pad' in name else ''}).",
            )
    if name in _FORMATS and arguments and (arguments[0] is None or _WIDE_FORMAT.search(arguments[0])):
        raise UsageError(
            f"The format given to {name} must be written out, with widths of at most four digits.",
            "Write it as a literal.",
        )


def _constant(argument: dict[str, Any]) -> str | None:
    """The text of a literal argument, or None where it is anything else."""
    expression = argument.get("expression", {})
    literal = expression.get("literal") if expression.get("class") == "CONSTANT" else None
    return str(literal.get("text", "")) if isinstance(literal, dict) else None


def _not_a_select(kind: str) -> UsageError:
    return UsageError(
        f"Only SELECT is allowed here, also inside a WITH: the query holds {kind.lower().replace('_', ' ')}.",
        "Use SELECT, WITH, UNION and the like; DESCRIBE events lists the columns.",
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def first_line(error: BaseException) -> str:
    """DuckDB's message without its class, its hints and the copy of the statement."""
    return next(_lines(str(error)), "unknown error").rstrip(".!")


def _lines(message: str) -> Iterator[str]:
    for line in message.splitlines():
        text = re.sub(r"^[A-Za-z ]+ Error: ", "", line).strip()
        if text:
            yield text
