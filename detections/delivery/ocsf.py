"""An alert as a Detection Finding of the Open Cybersecurity Schema Framework (OCSF 1.3, class 2004)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

VERSION: Final = "1.3.0"
CLASS: Final = 2004
SEVERITIES: Final = {"informational": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_ACTIVITIES: Final = {"fired": 1, "updated": 2, "confirmed": 2, "withdrawn": 3, "acknowledged": 2,
                      "resolved": 3, "dismissed": 3}  # fmt: skip
_STATUSES: Final = {"acknowledged": 2, "dismissed": 3, "resolved": 4, "withdrawn": 3}


def detection_finding(step: Mapping[str, Any]) -> dict[str, Any]:
    """An alert step (an event of kind alert) as a finding; times in milliseconds since 1970."""
    attributes = orjson.loads(step.get("attributes") or "{}")
    outcome = str(step.get("outcome"))
    activity = _ACTIVITIES.get(outcome, 0)
    finding: dict[str, Any] = {
        "activity_id": activity, "category_uid": 2, "class_uid": CLASS, "type_uid": CLASS * 100 + activity,
        "time": milliseconds(step["time"]), "severity_id": SEVERITIES.get(step.get("severity") or "", 0),
        "severity": step.get("severity"), "status_id": _STATUSES.get(outcome, 1), "status": outcome,
        "message": step.get("reason"), "count": step.get("count"), "verdict_id": step.get("verdict_id"),
        "comment": step.get("comment"),
        "metadata": described(step),
        "finding_info": {
            "uid": step["alert_id"], "title": attributes.get("title") or step.get("rule_id"),
            "first_seen_time": milliseconds(step.get("first_seen")),
            "last_seen_time": milliseconds(step.get("last_seen")),
            "created_time": milliseconds(step["time"]), "src_url": attributes.get("runbook"),
            "analytic": {"type_id": 1, "uid": step.get("rule_id"), "name": step.get("rule_id"),
                         "version": step.get("rule_version")},
        },
        "evidences": [{"data": {"event": ref}} for ref in step.get("evidence") or []],
        "resources": _principals(step),
        "unmapped": {
            "alert_key": step.get("alert_key"), "window_start": milliseconds(step.get("window_start")),
            "checkpoint_size": step.get("checkpoint_size"), "environment": step.get("environment"),
        },
    }  # fmt: skip
    whole: dict[str, Any] = without_none(finding)
    return whole


def _principals(step: Mapping[str, Any]) -> list[dict[str, str]] | None:
    found = [
        {"uid": str(step[name]), "type": str(step[name]).partition(":")[0]}
        for name in ("actor", "delegated_actor")
        if step.get(name)
    ]
    return found or None


def described(event: Mapping[str, Any]) -> dict[str, Any]:
    """The `metadata` of an event."""
    return {
        "version": VERSION, "uid": event["event_id"], "tenant_uid": event.get("tenant"),
        "product": {"name": "Decision Ledger", "vendor_name": "Decision Ledger"},
    }  # fmt: skip


def milliseconds(time: object) -> int | None:
    """Since 1970; None for what is no time."""
    return int(time.timestamp() * 1_000) if isinstance(time, datetime) else None


def without_none(value: Any) -> Any:
    """A value without the members that say nothing."""
    if isinstance(value, dict):
        return {name: without_none(one) for name, one in value.items() if one is not None}
    return value
