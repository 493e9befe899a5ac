"""What a route is sent: one message for an alert, as its receiver reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from detections.delivery.ocsf import SEVERITIES, detection_finding
from detections.delivery.routes import Route
from ledger.format.manifest import instant, with_instants
from ledger.format.plain_text import plain

_PAGER_SEVERITY: Final = {1: "info", 2: "info", 3: "warning", 4: "error", 5: "critical"}


def message(route: Route, step: Mapping[str, Any], routing_key: str | None = None) -> bytes:
    """One alert step in the route's form."""
    if route.form == "text":
        return _text(step)
    return orjson.dumps(_FORMS[route.form](step, routing_key))


def digest(route: Route, steps: Sequence[Mapping[str, Any]]) -> bytes:
    """Alerts about what happened more than a day before they were sealed, in one message."""
    if route.form == "text":
        lines = [f"{len(steps):,} alerts about what happened more than a day before", ""]
        return "\n".join([*lines, *(_line(step) for step in steps[:1_000])]).encode()
    return orjson.dumps({"kind": "digest", "route": route.name, "count": len(steps),
                         "alerts": [_native(step, None) for step in steps[:1_000]]})  # fmt: skip


def _native(step: Mapping[str, Any], _: str | None) -> dict[str, Any]:
    own = {"topic", "topic_id", "partition", "record_offset", "part", "nonce", "raw", "erased_leaf", "masked"}
    found = with_instants({name: one for name, one in step.items() if one is not None and name not in own})
    found["attributes"] = orjson.loads(step.get("attributes") or "{}")
    return found


def _ocsf(step: Mapping[str, Any], _: str | None) -> dict[str, Any]:
    return detection_finding(step)


def _slack(step: Mapping[str, Any], _: str | None) -> dict[str, Any]:
    # Names come from events: no mention, link or emphasis of the receiver's own markup survives.
    return {
        "text": _line(step).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"),
        "mrkdwn": False,
    }


def _pagerduty(step: Mapping[str, Any], routing_key: str | None) -> dict[str, Any]:
    over = step["outcome"] == "withdrawn"
    rank = SEVERITIES.get(step.get("severity") or "", 3)
    return {
        "routing_key": routing_key, "event_action": "resolve" if over else "trigger",
        "dedup_key": step["alert_id"],
        "payload": {"summary": _line(step)[:1_024], "source": "decision-ledger",
                    "severity": _PAGER_SEVERITY[rank], "custom_details": _native(step, None)},
    }  # fmt: skip


def _text(step: Mapping[str, Any]) -> bytes:
    """The subject on the first line, the text below it."""
    attributes = orjson.loads(step.get("attributes") or "{}")
    lines = [
        _line(step),
        f"When:      {instant(step['first_seen'])} to {instant(step['last_seen'])}",
        f"Rule:      {step.get('rule_id')}",
        f"Tenant:    {step.get('tenant') or '-'}",
        f"Principal: {step.get('delegated_actor') or step.get('actor') or '-'}",
        f"Runbook:   {attributes.get('runbook')}",
        f"Look at it: decision-ledger alerts show {step['alert_id'][:12]}",
    ]
    return "\n".join(plain(line) for line in lines).encode()


def _line(step: Mapping[str, Any]) -> str:
    title = orjson.loads(step.get("attributes") or "{}").get("title") or step.get("rule_id")
    return plain(
        f"[{step.get('severity')}] {title}: {step.get('alert_key')} ({step.get('outcome')}, "
        f"{step.get('count')} events) {step.get('reason') or ''}".rstrip()
    )


_FORMS: Final = {"native": _native, "ocsf": _ocsf, "slack": _slack, "pagerduty": _pagerduty}
