"""The figures of the overview: the eight metrics with their weeks, and what stands."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from dashboard.access import Right
from dashboard.answers.filters import Filters
from dashboard.statements import Reading
from detections.access_review import exceptions_at
from detections.alerting.standing import alerts_of
from detections.metric_catalogue import BY_NAME
from detections.metrics.figures import Choice, Figure, figures
from detections.metrics.periods import before, period_of
from detections.rulebook.rule import rank
from detections.sealed_log import SealedLog

WEEKS: Final = 8
NEWEST: Final = 8
_UNRESOLVED: Final = ("open", "acknowledged")


def metric_weeks(reading: Reading, filters: Filters, newest: datetime) -> list[dict[str, Any]]:
    """Each metric in the week of `newest`, with its target, the change and the eight weeks up to it."""
    reading.viewer.require(Right.OVERVIEW)
    chosen = dict(filters.equal)
    choice = Choice(
        tenant=chosen.get("tenant"), environment=chosen.get("environment"), source=chosen.get("source")
    )
    periods = [period_of(newest, "week", UTC)]
    for _ in range(WEEKS):
        periods.insert(0, before(periods[0], "week", UTC))
    timeline = SealedLog.of(reading.ledger).timeline(reading.size)
    spans = timeline.spans("targets")
    found = figures(
        reading.ledger,
        periods,
        choice,
        timeline=timeline,
        targets=spans[-1][2] if spans else None,
        at=reading.size,
    )
    by_metric: dict[str, list[Figure]] = {}
    for one in found:
        by_metric.setdefault(one.metric, []).append(one)
    return [_metric(own) for own in by_metric.values()]


def standing(reading: Reading, filters: Filters) -> dict[str, Any]:
    """Alerts that are unresolved, the newest of them, and overdue exceptions."""
    reading.viewer.require(Right.OVERVIEW)
    chosen = [(column, value) for column, value in filters.equal if column in ("tenant", "environment")]
    alerts = [
        one
        for one in alerts_of(reading.ledger, at=reading.size)
        if one["engine_state"] != "withdrawn"
        and one["exercise"] is None
        and one["rule_state"] != "staging"
        and one["state"] in _UNRESOLVED
        and all(one[column] == value for column, value in chosen)
    ]
    alerts.sort(key=lambda one: (-rank(one["severity"]), -one["last_seen"].timestamp(), one["alert_id"]))
    exceptions = exceptions_at(reading.ledger, reading.ledger.as_of(reading.size).clock, at=reading.size)
    return {
        "unresolved": len(alerts),
        "incidents": sum(rank(one["severity"]) >= rank("high") for one in alerts),
        "newest": alerts[:NEWEST],
        "active_exceptions": sum(one["state"] == "active" for one in exceptions),
        "overdue_exceptions": sum(one["overdue"] for one in exceptions),
    }


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
