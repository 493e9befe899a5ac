"""Decisions and other events: pages of rows by key, facets with counts, one row in full."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from dashboard.access import Right
from dashboard.answers.filters import Filters
from dashboard.statements import Reading
from ledger.events import FIELD_NAMES

PAGE: Final = 200
COLUMNS: Final = (
    "time",
    "kind",
    "decision",
    "actor",
    "delegated_actor",
    "action",
    "resource",
    "reason",
    "tenant",
    "environment",
    "source",
    "trace_id",
    "event_id",
)
FACETS: Final = ("kind", "decision", "tenant", "environment", "source", "reason", "action", "policy_version")
"""Of few values each, counted over all rows that the filters leave."""
WIDE_FACETS: Final = ("delegated_actor", "actor", "resource")
FACET_VALUES: Final = 12
STEPS: Final = {
    "15m": "15 minutes", "1h": "1 hour", "3h": "3 hours", "6h": "6 hours", "12h": "12 hours", "1d": "1 day",
    "1w": "7 days",
}  # fmt: skip
Place = tuple[datetime, str, str]


def rows_statement(filters: Filters, below: Place | None = None, limit: int = PAGE) -> tuple[str, list[Any]]:
    """The newest rows that filters leave, or those that come below a row in that order."""
    where, values = filters.where()
    if below is not None:
        where += " AND (time, source, event_id) < (?, ?, ?)"
        values += below
    listed = ", ".join(COLUMNS)
    # Column names are constants; values are bound.
    return (
        f"SELECT {listed} FROM events WHERE {where} "  # noqa: S608  # constants alone
        f"ORDER BY time DESC, source DESC, event_id DESC LIMIT {limit}",
        values,
    )


def rows(reading: Reading, filters: Filters, below: Place | None = None) -> pa.Table:
    """At most PAGE rows, the newest first."""
    reading.viewer.require(Right.ROWS)
    return reading.rows(*rows_statement(filters, below))


def facets_statement(filters: Filters, columns: tuple[str, ...] = FACETS) -> tuple[str, list[Any]]:
    """Counts of each value of several columns in one pass."""
    where, values = filters.where()
    sets = ", ".join(f"({column})" for column in columns)
    listed = ", ".join(columns)
    return (
        f"SELECT grouping({listed}) AS nth, {listed}, count(*) AS n FROM events WHERE {where} "  # noqa: S608  # constants alone
        f"GROUP BY GROUPING SETS ({sets}, ())",
        values,
    )


def facets(
    reading: Reading, filters: Filters, columns: tuple[str, ...] = FACETS
) -> dict[str, list[tuple[str | None, int]]]:
    """By column: its commonest values with their counts over all rows; under "" how many rows there are.

    A column that is filtered by is counted as if it were not, so that another value can be chosen.
    """
    reading.viewer.require(Right.ROWS)
    table = reading.rows(*facets_statement(filters, columns)).to_pylist()
    everything = (1 << len(columns)) - 1
    found: dict[str, list[tuple[str | None, int]]] = {"": [(None, 0)], **{column: [] for column in columns}}
    for row in table:
        if row["nth"] == everything:
            found[""] = [(None, row["n"])]
            continue
        number = (everything ^ row["nth"]).bit_length()
        column = columns[len(columns) - number]
        found[column].append((row[column], row["n"]))
    for column, _ in filters.equal:
        if column in columns:
            where, values = filters.without(column).where()
            again = reading.rows(
                f"SELECT {column} AS value, count(*) AS n FROM events WHERE {where} GROUP BY ALL",  # noqa: S608  # constants alone
                values,
            )
            found[column] = [(one["value"], one["n"]) for one in again.to_pylist()]
    return {
        column: sorted(values, key=lambda pair: (-pair[1], pair[0] or ""))[:FACET_VALUES]
        for column, values in found.items()
    }


def over_time(reading: Reading, filters: Filters, step: str) -> pa.Table:
    """(time, decision, n) of decisions that filters leave, in even steps of `step` (a word of STEPS)."""
    reading.viewer.require(Right.ROWS)
    return reading.rows(*over_time_statement(filters, step))


def over_time_statement(filters: Filters, step: str) -> tuple[str, list[Any]]:
    """The statement of `over_time`."""
    where, values = filters.where("kind = 'decision'")
    return (
        f"SELECT time_bucket(INTERVAL '{STEPS[step]}', time) AS time, decision, count(*) AS n "  # noqa: S608  # constants alone
        f"FROM events WHERE {where} GROUP BY ALL ORDER BY 1, 2",
        values,
    )


def event(reading: Reading, source: str, event_id: str) -> list[dict[str, Any]]:
    """Every row of this id: its filled fields. More than one where contents differ."""
    reading.viewer.require(Right.ROWS)
    listed = ", ".join(f'"{name}"' for name in FIELD_NAMES)
    found = reading.rows(
        f"SELECT {listed} FROM events WHERE event_id = ? AND source = ? LIMIT 20",  # noqa: S608  # constants alone
        [event_id, source],
    )
    return [{name: value for name, value in row.items() if value is not None} for row in found.to_pylist()]


def evidence(reading: Reading, ids: tuple[str, ...]) -> bytes:
    """A bundle that proves these events."""
    reading.viewer.require(Right.ROWS)
    return reading.ledger.evidence(*ids, at=reading.size)


def written(reading: Reading, statement: str) -> pa.Table:
    """The answer to a statement that a person wrote."""
    reading.viewer.require(Right.ROWS)
    with reading.written() as ledger:
        return ledger.query(reading.size, written=True).sql(statement)
