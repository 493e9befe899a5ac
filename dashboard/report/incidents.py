"""What people had to look at in a week: alerts by rule, the grave ones, and the cases they made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any, Final

from detections.alerting.cases import cases_of
from detections.alerting.standing import FALSE_POSITIVE, UNRESOLVED, about, stands
from detections.defaults import VERDICT_NAMES, VERDICTS
from detections.metrics.periods import Period, before
from detections.rulebook.rule import rank
from ledger.format.manifest import instant
from ledger.reader import Ledger

_TRUE_POSITIVES: Final = frozenset({VERDICTS["true-positive"], VERDICTS["security-risk"]})


def by_rule(alerts: Iterable[Mapping[str, Any]], week: Period) -> list[dict[str, Any]]:
    """The alerts of a week by rule, with what people judged of them and how many the week before had."""
    found: dict[str, dict[str, Any]] = {}
    last_week = before(week, "week", UTC)
    for one in alerts:
        seen = one["first_seen"]
        if not last_week.start <= seen < week.end:
            continue
        row = found.setdefault(one["rule_id"], {
            "rule": one["rule_id"], "alerts": 0, "open": 0, "true_positives": 0, "false_positives": 0,
            "other_verdicts": 0, "withdrawn": 0, "staging": 0, "last_week": 0,
        })  # fmt: skip
        if seen < week.start:
            row["last_week"] += stands(one)
        elif one["engine_state"] == "withdrawn":
            row["withdrawn"] += 1
        elif not stands(one):
            row["staging"] += 1
        else:
            row["alerts"] += 1
            row["open"] += one["state"] in UNRESOLVED
            if one["verdict_id"] is not None:
                row[_verdict_column(one["verdict_id"])] += 1
    return sorted(found.values(), key=lambda row: (-row["alerts"], row["rule"]))


def _verdict_column(verdict: int) -> str:
    if verdict == FALSE_POSITIVE:
        return "false_positives"
    return "true_positives" if verdict in _TRUE_POSITIVES else "other_verdicts"


def incidents(alerts: Iterable[dict[str, Any]], week: Period) -> list[dict[str, Any]]:
    """Alerts of high or critical severity, first seen in the week or from before and unresolved."""
    found = [
        one for one in alerts
        if stands(one) and rank(one["severity"]) >= rank("high") and one["first_seen"] < week.end
        and (one["first_seen"] >= week.start or one["state"] in UNRESOLVED)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-rank(one["severity"]), one["first_seen"], one["alert_id"]))


def incident_row(one: Mapping[str, Any]) -> dict[str, Any]:
    """An alert as a row of the table `incidents`."""
    return {
        "severity": one["severity"], "title": one["title"] or one["rule_id"], "rule": one["rule_id"],
        "about": about(one), "tenant": one["tenant"],
        "first_seen": instant(one["first_seen"]), "last_seen": instant(one["last_seen"]),
        "count": one["count"], "state": one["state"], "owner": one["owner"],
        "verdict": VERDICT_NAMES.get(one["verdict_id"]), "comment": one["comment"],
        "alert_id": one["alert_id"], "event": f"{one['engine_source']}#{one['engine_event']}",
    }  # fmt: skip


def cases(ledger: Ledger, week: Period, size: int) -> list[dict[str, Any]]:
    """Cases that are open, or moved in the week."""
    return [
        {
            **{name: one[name] for name in ("state", "owner", "tenant", "opened_at", "moved_at")},
            "case_id": f"case:{one['case_id']}",
            "title": one["title"] or one["case_id"], "alerts": len(one["alerts"]),
            "evidence": len(one["evidence"]),
            "event": f"{one['steps'][-1]['source']}#{one['steps'][-1]['event_id']}",
        }
        for one in cases_of(ledger, at=size)
        if one["opened_at"] < week.end and (one["state"] == "open" or one["moved_at"] >= week.start)
    ]  # fmt: skip
