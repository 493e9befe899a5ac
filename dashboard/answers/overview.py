"""The figures of the overview: the eight metrics with their weeks, and what stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from dashboard.access import Right
from dashboard.answers.filters import Filters
from dashboard.report.numbers import week_figures
from dashboard.statements import Reading
from detections.access_review import exceptions_at
from detections.alerting.standing import UNRESOLVED, alerts_of, gravest_first, stands
from detections.metric_catalogue import BY_NAME
from detections.metrics.figures import Choice, Figure
from detections.metrics.periods import period_of
from detections.rulebook.rule import rank

NEWEST: Final = 8
MAX_ACTIVATIONS: Final = 50
_ACTIVATIONS: Final = """
SELECT time, policy_id, policy_version, previous_policy_version, outcome, environment
FROM events WHERE {where} ORDER BY time DESC, source, event_id LIMIT {limit}
"""


def metric_weeks(reading: Reading, filters: Filters, newest: datetime) -> list[dict[str, Any]]:
    """Each metric in the week of `newest`, with its target, the change and the eight weeks up to it."""
    reading.viewer.require(Right.OVERVIEW)
    chosen = dict(filters.equal)
    choice = Choice(
        tenant=chosen.get("tenant"), environment=chosen.get("environment"), source=chosen.get("source")
    )
    week = period_of(newest, "week", UTC)
    found = week_figures(reading.ledger, week, reading.size, choice=choice, kept=reading.days)
    return [_metric(own) for own in found.values()]


def standing(reading: Reading, filters: Filters) -> dict[str, Any]:
    """Alerts that are unresolved, the newest of them, and overdue exceptions."""
    reading.viewer.require(Right.OVERVIEW)
    chosen = filters.only("tenant", "environment").equal
    alerts = [
        one
        for one in alerts_of(reading.ledger, at=reading.size)
        if stands(one)
        and one["state"] in UNRESOLVED
        and all(one[column] == value for column, value in chosen)
    ]
    alerts.sort(key=gravest_first)
    exceptions = exceptions_at(reading.ledger, reading.ledger.as_of(reading.size).clock, at=reading.size)
    return {
        "unresolved": len(alerts),
        "incidents": sum(rank(one["severity"]) >= rank("high") for one in alerts),
        "newest": alerts[:NEWEST],
        "active_exceptions": sum(one["state"] == "active" for one in exceptions),
        "overdue_exceptions": sum(one["overdue"] for one in exceptions),
    }


def activations(reading: Reading, filters: Filters) -> list[dict[str, Any]]:
    """The newest activations and withdrawals of policies in a time, as marks on it."""
    reading.viewer.require(Right.OVERVIEW)
    where, values = filters.only("tenant", "environment").where("kind = 'policy'")
    text = _ACTIVATIONS.format(where=where, limit=MAX_ACTIVATIONS)
    found: list[dict[str, Any]] = reading.rows(text, values).to_pylist()
    return found


def _metric(own: list[Figure]) -> dict[str, Any]:
    last, metric = own[-1], BY_NAME[own[-1].metric]
    return {
        "metric": last.metric,
        "title": metric.title,
        "better": metric.better,
        "value": last.value,
        "unit": last.unit,
        "numerator": last.numerator,
        "denominator": last.denominator,
        "sample": last.sample,
        "target": last.target,
        "met": last.met,
        "previous": last.previous,
        "change": last.change,
        "period": last.period,
        "details": last.details,
        "weeks": [(one.period, one.value, one.sample) for one in own[1:]],
    }
