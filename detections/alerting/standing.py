"""Alerts as they stand in a ledger: their last engine step and their last triage step, as sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from detections.alerting.known_alerts import TRIAGE_TOPIC
from detections.rulebook.rule import LEVELS, rank
from ledger.errors import UsageError
from ledger.events import DASHBOARD_SOURCE
from ledger.format.state import ENGINE_TOPIC
from ledger.query.engine import PLACED
from ledger.query.evidence import seal_order
from ledger.reader import Ledger

UNRESOLVED: Final = ("open", "acknowledged")
FALSE_POSITIVE: Final = 1
JUDGED: Final = (1, 2, 4, 5, 8)
"""The verdicts that say whether an alert was right."""
ENGINE_STATES: Final = {
    "fired": "provisional", "updated": "provisional", "confirmed": "confirmed", "withdrawn": "withdrawn",
}  # fmt: skip
_TRIAGE: Final = f"(topic = '{TRIAGE_TOPIC}' OR source = '{DASHBOARD_SOURCE}') AND alert_id IS NOT NULL"
_LAST: Final = f"""
WITH ranked AS (
    SELECT *, row_number() OVER (PARTITION BY alert_id ORDER BY record_offset DESC, part DESC) AS nth,
           min(time) OVER (PARTITION BY alert_id) AS fired_at
    FROM alerts WHERE topic = '{ENGINE_TOPIC}' AND alert_id IS NOT NULL
)
SELECT alert_id, rule_id, rule_version, alert_key, window_start, severity, count, first_seen, last_seen,
       outcome AS engine_outcome, reason, tenant, environment, actor, delegated_actor, trace_id, target,
       exercise, attributes, checkpoint_size, fired_at, source AS engine_source, event_id AS engine_event,
       evidence
FROM ranked WHERE nth = 1 ORDER BY fired_at DESC, alert_id
"""  # noqa: S608  # the topic is a constant
_STEPS: Final = f"""
SELECT alert_id, outcome, severity, owner, verdict_id, comment, actor, time, event_id, attributes, filename,
       file_row_number
FROM {PLACED}events WHERE kind = 'alert' AND {_TRIAGE}
"""  # noqa: S608  # constants alone
_NO_STEP: Final[dict[str, Any]] = dict.fromkeys(
    ("outcome", "severity", "owner", "verdict_id", "comment", "actor", "time", "event_id")
)
_ENGINE_STEPS: Final = f"""
SELECT time, topic, outcome, severity, count, actor, owner, verdict_id, comment, event_id FROM alerts
WHERE alert_id = $1 AND topic = '{ENGINE_TOPIC}' ORDER BY record_offset, part
"""  # noqa: S608  # as above


def stands(alert: Mapping[str, Any]) -> bool:
    """Whether an alert counts: not withdrawn, no drill's, and of a rule that is not in staging."""
    return (
        alert["engine_state"] != "withdrawn"
        and alert["exercise"] is None
        and alert["rule_state"] != "staging"
    )


def about(alert: Mapping[str, Any]) -> str:
    """What an alert is about, as text: the values of its key."""
    return ", ".join(str(part) for part in orjson.loads(alert["alert_key"]))


def gravest_first(alert: Mapping[str, Any]) -> tuple[int, float, str]:
    """A key to sort by: severity, then the newest."""
    return -rank(alert["severity"]), -alert["last_seen"].timestamp(), alert["alert_id"]


def alerts_of(ledger: Ledger, *, at: int | None = None) -> list[dict[str, Any]]:
    """Every alert as it stands, the newest first. Withdrawn ones are among them."""
    rows = ledger.query(at).trusted(_LAST).to_pylist()
    steps = triage_steps(ledger, at=at)
    return [_alert(row, steps[row["alert_id"]][-1] if row["alert_id"] in steps else _NO_STEP) for row in rows]


def triage_steps(ledger: Ledger, *, at: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """By alert, what people decided, in the order of sealing, whichever way it came."""
    rows = ledger.query(at).trusted(_STEPS).to_pylist()
    found: dict[str, list[dict[str, Any]]] = {}
    for _, row in sorted(zip(seal_order(ledger, rows), rows, strict=True), key=lambda pair: pair[0]):
        found.setdefault(row["alert_id"], []).append(row)
    return found


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
    """Every step of an alert by time: `unseen` where its author had not seen the step of triage before it."""
    engine: list[dict[str, Any]] = ledger.query(at).trusted(_ENGINE_STEPS, [alert_id]).to_pylist()
    steps = [{**row, "based_on": None, "unseen": False} for row in engine]
    before: str | None = None
    for row in triage_steps(ledger, at=at).get(alert_id, ()):
        based_on = orjson.loads(row["attributes"] or "{}").get("based_on")
        step = {name: row[name] for name in ("time", "outcome", "severity", "actor", "owner", "verdict_id",
                                             "comment", "event_id")}  # fmt: skip
        unseen = before is not None and based_on is not None and based_on != before
        steps.append({**step, "topic": TRIAGE_TOPIC, "count": None, "based_on": based_on, "unseen": unseen})
        before = row["event_id"]
    return sorted(steps, key=lambda step: step["time"])


def false_positive_ratios(alerts: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """By rule: (false positives, alerts with a verdict that says whether it was right)."""
    found: dict[str, tuple[int, int]] = {}
    for one in alerts:
        if one["verdict_id"] in JUDGED and one["engine_state"] != "withdrawn" and one["exercise"] is None:
            wrong, judged = found.get(one["rule_id"], (0, 0))
            found[one["rule_id"]] = (wrong + (one["verdict_id"] == FALSE_POSITIVE), judged + 1)
    return found


def _alert(row: dict[str, Any], step: Mapping[str, Any]) -> dict[str, Any]:
    attributes = orjson.loads(row.pop("attributes") or "{}")
    row["engine_state"] = ENGINE_STATES[row.pop("engine_outcome")]
    # Without a step of triage nothing has risen.
    risen = rank(row["severity"]) > rank(step["severity"], len(LEVELS))
    triage = "open" if step["outcome"] == "reopened" else step["outcome"]
    row["state"] = "open" if triage is None or (risen and triage != "acknowledged") else triage
    row |= {name: step[name] for name in ("owner", "verdict_id", "comment")}
    row["triaged_by"], row["triaged_at"] = step["actor"], step["time"]
    row["title"] = attributes.get("title")
    row["runbook"] = attributes.get("runbook")
    row["rule_state"] = attributes.get("rule_state")
    row["late"] = bool(attributes.get("late"))
    row["revoke"] = attributes.get("revoke", [])
    row["last_event"] = step["event_id"] or row["engine_event"]
    return row
