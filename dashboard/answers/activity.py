"""How much happened when: counts by quarter of an hour, made in one pass over a few columns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import polars as pl

from dashboard.access import Right
from dashboard.answers.filters import Filters
from dashboard.statements import Reading
from detections.day_answers import answers_of
from detections.metrics.by_day import ACTIVITY

STEPS: Final = 160
"""At most about so many steps of time in a picture."""
_SECONDS: Final = {
    "15m": 900,
    "1h": 3_600,
    "3h": 10_800,
    "6h": 21_600,
    "12h": 43_200,
    "1d": 86_400,
    "1w": 604_800,
}
_ACTIVITY: Final = """
SELECT time_bucket(INTERVAL '15 minutes', time) AS slot, tenant, environment, source, kind, decision,
       count(*) AS n
FROM events WHERE kind NOT IN ('alert', 'case', 'access') GROUP BY ALL
"""
_TIME: Final = pl.Datetime("us", "UTC")
_WORDS: Final = ("tenant", "environment", "source", "kind", "decision")
_NONE: Final = pl.DataFrame(
    schema={
        "slot": _TIME,
        **dict.fromkeys(_WORDS, pl.String),
        "n": pl.Int64,
        "numbered": pl.Int64,
        "first": _TIME,
        "last": _TIME,
    }
)


@dataclass(frozen=True, slots=True)
class Activity:
    """Counts by slot of 15 minutes, tenant, environment, source, kind and decision."""

    counts: pl.DataFrame
    events: int
    first: datetime | None
    last: datetime | None
    newest: datetime | None
    """The time of the newest event of any kind: those of ours and of our users too, which are not counted."""

    def words(self, column: str) -> list[str]:
        """The values of one of its columns, in order."""
        return sorted(self.counts[column].drop_nulls().unique().to_list())

    def chosen(self, filters: Filters) -> pl.DataFrame:
        """The counts that filters leave; a time is cut to its quarter of an hour."""
        found = self.counts
        if filters.since is not None:
            found = found.filter(
                pl.col("slot")
                >= filters.since.replace(minute=filters.since.minute // 15 * 15, second=0, microsecond=0)
            )
        if filters.until is not None:
            found = found.filter(pl.col("slot") < filters.until)
        for column, value in filters.equal:
            if column in _WORDS:
                found = found.filter(pl.col(column) == value)
        return found

    def decisions_over_time(self, filters: Filters) -> tuple[pl.DataFrame, str]:
        """(time, decision, n) of decisions in even steps, and the width of one."""
        found = self.chosen(filters).filter(pl.col("kind") == "decision")
        width = _width(found)
        stepped = (
            found.with_columns(
                pl.col("slot").dt.truncate(width).alias("time"), pl.col("decision").fill_null("none")
            )
            .group_by("time", "decision")
            .agg(pl.col("n").sum())
            .sort("time", "decision")
        )
        return stepped, width

    def totals(self, filters: Filters) -> dict[str, int]:
        """Events, decisions, denies and errors that filters leave."""
        found = self.chosen(filters)
        decisions = found.filter(pl.col("kind") == "decision")
        by = dict(decisions.group_by("decision").agg(pl.col("n").sum()).iter_rows())
        return {
            "events": int(found["n"].sum()),
            "decisions": int(decisions["n"].sum()),
            "allow": by.get("allow", 0),
            "deny": by.get("deny", 0),
            "error": by.get("error", 0),
        }


def activity(reading: Reading) -> Activity:
    """All that happened, in counts: of days that were counted before by what was kept of them."""
    reading.viewer.require(Right.OVERVIEW)
    found = _counted(reading)
    (any_kind,) = reading.rows("SELECT max(time) AS newest FROM events").to_pylist()
    first, last = found.select(pl.col("first").min(), pl.col("last").max()).row(0)
    counts = found.drop("numbered", "first", "last")
    return Activity(counts, int(found["n"].sum()), first, last, any_kind["newest"])


def by_source(reading: Reading) -> list[dict[str, Any]]:
    """Of each source: its events, the first and the last, and how many of them are numbered."""
    reading.viewer.require(Right.INTEGRITY)
    found = _counted(reading).group_by("source").agg(
        pl.col("n").sum().alias("events"), pl.col("first").min().alias("first_seen"),
        pl.col("last").max().alias("last_seen"), pl.col("numbered").sum(),
    )  # fmt: skip
    return found.sort("source").to_dicts()


def _counted(reading: Reading) -> pl.DataFrame:
    rows = answers_of(reading.ledger, reading.size, reading.days).table(ACTIVITY)
    return pl.DataFrame(rows) if rows.num_columns else _NONE


def sql_of_activity() -> str:
    """The statement behind it."""
    return _ACTIVITY.strip()


def _width(found: pl.DataFrame) -> str:
    if not len(found):
        return "1h"
    bounds: Any = found["slot"]
    seconds = (bounds.max() - bounds.min()).total_seconds()
    return next((width for width, long in _SECONDS.items() if seconds / long <= STEPS), "1w")
