"""Our SQL on Spark: one text for both engines, put into Spark's words by sqlglot.

What rules and metrics may say is a subset that both understand alike (docs/rules.md); a test runs each
construct on both. `len` counts a list's items and `length` a text's letters: DuckDB alone does not care.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

import sqlglot
from sqlglot import exp


def _resource(scope: str) -> str:
    return f"regexp_replace({scope}, ':[^:]*$', '')"


def _verb(scope: str) -> str:
    return f"substr({scope}, length({_resource(scope)}) + 1)"


def _covers(b: str, a: str) -> str:
    # Written out: in a lambda Spark calls no function that SQL defined.
    return (
        f"(({_resource(b)} = '*' AND contains({b}, ':') OR {_resource(b)} = {_resource(a)})"
        f" AND ({_verb(b)} = ':*' AND contains({a}, ':') OR {_verb(b)} = {_verb(a)}))"
    )


_FUNCTION: Final = "CREATE OR REPLACE TEMPORARY FUNCTION"
SPARK_FUNCTIONS: Final = (
    f"{_FUNCTION} covers(b STRING, a STRING) RETURNS BOOLEAN RETURN {_covers('b', 'a')}",
    f"{_FUNCTION} exceeds(a ARRAY<STRING>, b ARRAY<STRING>) RETURNS BOOLEAN RETURN"
    " CASE WHEN a IS NULL OR b IS NULL THEN NULL ELSE"
    f" exists(a, x -> NOT exists(b, y -> {_covers('y', 'x')})) END",
    f"{_FUNCTION} epoch_us(t TIMESTAMP) RETURNS BIGINT RETURN unix_micros(t)",
    *(
        f"{_FUNCTION} to_{unit}(n BIGINT) RETURNS INTERVAL DAY TO SECOND RETURN make_dt_interval({parts})"
        for unit, parts in (
            ("days", "CAST(n AS INT)"),
            ("hours", "0, CAST(n AS INT)"),
            ("minutes", "0, 0, CAST(n AS INT)"),
            ("seconds", "0, 0, 0, n"),
            ("microseconds", "0, 0, 0, n / 1000000BD"),
        )
    ),
    f"{_FUNCTION} make_timestamptz(us BIGINT) RETURNS TIMESTAMP RETURN timestamp_micros(us)",
)
"""What our SQL calls and Spark does not have; `ledger.format.scopes` holds the same for DuckDB."""
_MICROSECONDS: Final = {
    "MICROSECOND": 1, "SECOND": 10**6, "MINUTE": 60 * 10**6, "HOUR": 3_600 * 10**6, "DAY": 86_400 * 10**6,
}  # fmt: skip
_LEN: Final = re.compile(r"\blen\(")


def spark_sql(text: str) -> str:
    """A statement of ours in Spark's SQL; its parameters are `:name` there.

    Raises:
        sqlglot.errors.ParseError: it is none.
    """
    tree = sqlglot.parse_one(_LEN.sub("array_length(", text), read="duckdb")
    text_of: str = tree.transform(_in_sparks_words).sql(dialect="spark", comments=False)
    return text_of


def _in_sparks_words(node: exp.Expression) -> exp.Expression:
    # Spark counts no distinct values over a window: the size of their set says the same.
    if isinstance(node, exp.Window) and isinstance(node.this, exp.Count):
        counted = node.this.this
        if isinstance(counted, exp.Distinct):
            (value,) = counted.expressions
            window = node.copy()
            window.set("this", exp.ArrayUniqueAgg(this=value))
            return exp.ArraySize(this=window)
    if isinstance(node, exp.ArrayOverlaps):
        return exp.Anonymous(this="arrays_overlap", expressions=[node.this, node.expression])
    if isinstance(node, exp.Interval) and str(node.text("unit")).upper() in _MICROSECONDS:
        # Both ends of a frame are of one type there, and parameters are of this one.
        span = timedelta(microseconds=int(node.name) * _MICROSECONDS[str(node.text("unit")).upper()])
        seconds, rest = divmod(span.seconds, 60)
        text = f"{span.days} {seconds // 60:02d}:{seconds % 60:02d}:{rest:02d}.{span.microseconds:06d}"
        unit = exp.IntervalSpan(this=exp.var("DAY"), expression=exp.var("SECOND"))
        return exp.Interval(this=exp.Literal.string(text), unit=unit)
    return node
