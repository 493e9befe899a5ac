"""Alerts: the queue, one of them with its evidence, and how their number grew."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from dashboard.access import Right
from dashboard.answers.decisions import COLUMNS
from dashboard.statements import Reading
from detections.alerting.standing import about, alerts_of, false_positive_ratios, gravest_first, history_of
from detections.engine_notes import noted_engines
from detections.rule_report import rules_in_force

STATES: Final = ("open", "acknowledged", "resolved", "dismissed", "withdrawn")
MAX_EVIDENCE: Final = 1_000
SIMILAR_DAYS: Final = 30


def queue(reading: Reading) -> list[dict[str, Any]]:
    """Every alert as it stands, the gravest and newest first; what it is about as text."""
    reading.viewer.require(Right.ROWS)
    found = alerts_of(reading.ledger, at=reading.size)
    for one in found:
        one["about"] = about(one)
        if one["engine_state"] == "withdrawn":
            one["state"] = "withdrawn"
    return sorted(found, key=gravest_first)


def per_day(alerts: list[dict[str, Any]]) -> pl.DataFrame:
    """(day, severity, n) by the day on which each was first seen."""
    rows = [
        {"day": one["first_seen"].date(), "severity": one["severity"]}
        for one in alerts
        if one["engine_state"] != "withdrawn"
    ]
    frame = pl.DataFrame(rows, schema={"day": pl.Date, "severity": pl.String})
    return frame.group_by("day", "severity").agg(pl.len().alias("n")).sort("day", "severity")


def one_alert(reading: Reading, alert_id: str) -> dict[str, Any] | None:
    """An alert with history, evidence rows, its rule's text and record, and similar ones; None: no such."""
    reading.viewer.require(Right.ROWS)
    alerts = queue(reading)
    found = next((one for one in alerts if one["alert_id"] == alert_id), None)
    if found is None:
        return None
    rule = next((one for one in rules_in_force(reading.ledger, None) if one.id == found["rule_id"]), None)
    wrong, judged = false_positive_ratios(alerts).get(found["rule_id"], (0, 0))
    return {
        **found,
        "history": history_of(reading.ledger, alert_id, at=reading.size),
        "rows": _evidence_rows(reading, found["evidence"] or []),
        "rule": None
        if rule is None
        else {
            "title": rule.title,
            "description": rule.description,
            "query": rule.query,
            "state": rule.state,
            "false_alarms": list(rule.falsepositives),
            "tags": list(rule.tags),
            "params": rule.values(),
        },
        "wrong": wrong,
        "judged": judged,
        "similar": [
            one
            for one in alerts
            if one["alert_id"] != alert_id
            and abs((one["last_seen"] - found["last_seen"]).days) <= SIMILAR_DAYS
            and (one["alert_key"] == found["alert_key"] or one["rule_id"] == found["rule_id"])
        ][:20],
    }


def troubles(reading: Reading) -> dict[str, Any]:
    """What keeps rules from judging: those that fail, engines behind, sources that stand still, lag."""
    reading.viewer.require(Right.ROWS)
    engines = noted_engines(reading.ledger.store)
    return {
        "engines": [{**one, "behind": max(0, reading.size - one["judged"])} for one in engines],
        "rules": [
            {"engine": one["engine"], "seen": one["seen"], **trouble}
            for one in engines
            for trouble in one["troubles"]
        ],
        "lag": [row for row in reading.ledger.lag() if row["lag"]] if reading.viewer.tenants is None else [],
    }


def _evidence_rows(reading: Reading, evidence: list[str]) -> list[dict[str, Any]]:
    if not evidence:
        return []
    listed = ", ".join(COLUMNS)
    # A source may hold the sign that parts it from the id: the whole is compared as well.
    table = reading.rows(
        f"SELECT {listed} FROM events WHERE source || '#' || event_id IN (SELECT unnest(?)) "  # noqa: S608  # constants alone
        "ORDER BY time, source, event_id",
        [evidence[:MAX_EVIDENCE]],
    )
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
