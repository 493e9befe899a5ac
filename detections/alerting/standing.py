"""Alerts as they stand in a ledger: their last engine step and their last triage step, as sealed."""

from __future__ import annotations

from typing import Any, Final

import orjson

from detections.alerting.known_alerts import TRIAGE_TOPIC
from detections.rulebook.rule import LEVELS, rank
from ledger.errors import UsageError
from ledger.format.state import ENGINE_TOPIC
from ledger.reader import Ledger

FALSE_POSITIVE: Final = 1
JUDGED: Final = (1, 2, 4, 5, 8)
"""The verdicts that say whether an alert was right."""
ENGINE_STATES: Final = {
    "fired": "provisional", "updated": "provisional", "confirmed": "confirmed", "withdrawn": "withdrawn",
}  # fmt: skip
_LAST: Final = f"""
WITH ranked AS (
    SELECT *, row_number() OVER (
        PARTITION BY alert_id, topic ORDER BY record_offset DESC, part DESC
    ) AS nth, min(time) OVER (PARTITION BY alert_id) AS fired_at
    FROM alerts WHERE topic IN ('{ENGINE_TOPIC}', '{TRIAGE_TOPIC}') AND alert_id IS NOT NULL
)
SELECT e.alert_id, e.rule_id, e.rule_version, e.alert_key, e.window_start, e.severity, e.count, e.first_seen,
       e.last_seen, e.outcome AS engine_outcome, e.reason, e.tenant, e.environment, e.actor,
       e.delegated_actor, e.trace_id, e.target, e.exercise, e.attributes, e.checkpoint_size, e.fired_at,
       e.source AS engine_source, e.event_id AS engine_event, e.evidence, t.outcome AS triage,
       t.severity AS triaged_severity, t.owner,
       t.verdict_id, t.comment, t.actor AS triaged_by, t.time AS triaged_at, t.event_id AS triage_event
FROM ranked e LEFT JOIN ranked t ON t.alert_id = e.alert_id AND t.topic = '{TRIAGE_TOPIC}' AND t.nth = 1
WHERE e.topic = '{ENGINE_TOPIC}' AND e.nth = 1
"""  # noqa: S608  # both topics are constants

_HISTORY: Final = f"""
SELECT time, topic, outcome, severity, count, actor, owner, verdict_id, comment, event_id FROM alerts
WHERE alert_id = $1 AND topic IN ('{ENGINE_TOPIC}', '{TRIAGE_TOPIC}')
ORDER BY time, topic, record_offset, part
"""  # noqa: S608  # as above


def alerts_of(ledger: Ledger, *, at: int | None = None) -> list[dict[str, Any]]:
    """Every alert as it stands, the newest first. Withdrawn ones are among them."""
    rows = ledger.query(at).trusted(f"{_LAST} ORDER BY fired_at DESC, e.alert_id").to_pylist()
    return [_alert(row) for row in rows]


def alert_of(ledger: Ledger, alert_id: str) -> dict[str, Any]:
    """One alert, by its id or the beginning of it.

    Raises:
        UsageError: no alert begins so, or several do.
    """
    found = [one for one in alerts_of(ledger) if one["alert_id"].startswith(alert_id)]
    if len(found) == 1 and alert_id:
        return found[0]
    said = f"{len(found)} alerts begin with" if found else "No alert has the id"
    raise UsageError(f"{said} {alert_id!r}.", "`decision-ledger alerts list` shows their ids.")


def history_of(ledger: Ledger, alert_id: str, *, at: int | None = None) -> list[dict[str, Any]]:
    """Every step of an alert, as it was sealed."""
    rows: list[dict[str, Any]] = ledger.query(at).trusted(_HISTORY, [alert_id]).to_pylist()
    return rows


def false_positive_ratios(alerts: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """By rule: (false positives, alerts with a verdict that says whether it was right)."""
    found: dict[str, tuple[int, int]] = {}
    for one in alerts:
        if one["verdict_id"] in JUDGED and one["engine_state"] != "withdrawn" and one["exercise"] is None:
            wrong, judged = found.get(one["rule_id"], (0, 0))
            found[one["rule_id"]] = (wrong + (one["verdict_id"] == FALSE_POSITIVE), judged + 1)
    return found


def _alert(row: dict[str, Any]) -> dict[str, Any]:
    attributes = orjson.loads(row.pop("attributes") or "{}")
    row["engine_state"] = ENGINE_STATES[row.pop("engine_outcome")]
    # Without a step of triage nothing has risen.
    risen = rank(row["severity"]) > rank(row.pop("triaged_severity"), len(LEVELS))
    triage = row.pop("triage")
    row["state"] = "open" if triage is None or (risen and triage != "acknowledged") else triage
    row["title"] = attributes.get("title")
    row["runbook"] = attributes.get("runbook")
    row["rule_state"] = attributes.get("rule_state")
    row["late"] = bool(attributes.get("late"))
    row["revoke"] = attributes.get("revoke", [])
    row["last_event"] = row.pop("triage_event") or row["engine_event"]
    return row
