"""Events as OCSF activities: what was decided and done (6003), issued and opened (3002), granted (3003)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from detections.delivery.ocsf import described, milliseconds, without_none

API_ACTIVITY: Final = 6003
AUTHENTICATION: Final = 3002
AUTHORIZE_SESSION: Final = 3003
CLASS_OF: Final = {
    "decision": API_ACTIVITY, "action": API_ACTIVITY, "issuance": AUTHENTICATION, "session": AUTHENTICATION,
    "delegation": AUTHORIZE_SESSION,
}  # fmt: skip
"""By kind; other kinds have no class that says what they say."""
COLUMNS: Final = (
    "event_id", "kind", "time", "source", "tenant", "environment", "request_id", "trace_id", "span_id",
    "session_id", "session_expires_at", "actor", "delegated_actor", "workload", "client_ip", "user_agent",
    "roles", "action", "action_type", "resource", "data_class", "destination", "decision", "reason",
    "policy_id", "policy_version", "credential_id", "credential_type", "audience", "scopes", "issued_at",
    "expires_at", "grant_id", "grant_covers", "approved_by", "outcome",
)  # fmt: skip
"""What an event needs to have for this."""
_OTHER: Final = 99
_VERBS: Final = {
    "create": 1, "post": 1, "insert": 1, "write": 3, "read": 2, "get": 2, "list": 2, "view": 2, "head": 2,
    "update": 3, "put": 3, "patch": 3, "delete": 4, "remove": 4,
}  # fmt: skip
"""Activities of class 6003, by the last word of an action."""
_ALLOWED: Final = {"allow": 1, "deny": 2}
_INFORMATIONAL, _LOW, _MEDIUM = 1, 2, 3
_SEVERITIES: Final = {"deny": _LOW, "error": _MEDIUM}


def activity(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """An event as its class wants it, times in milliseconds since 1970; None for a kind without a class."""
    class_uid = CLASS_OF.get(str(event.get("kind")))
    if class_uid is None:
        return None
    number, more = _BY_CLASS[class_uid](event)
    decision = event.get("decision")
    told: dict[str, Any] = {
        "activity_id": number, "category_uid": class_uid // 1_000, "class_uid": class_uid,
        "type_uid": class_uid * 100 + number, "time": milliseconds(event["time"]),
        "severity_id": _SEVERITIES.get(str(decision), _INFORMATIONAL), "status_id": _status(event),
        "status_detail": event.get("reason"), "action_id": _ALLOWED.get(str(decision)),
        "metadata": {**described(event), "log_name": event.get("source"),
                     "correlation_uid": event.get("trace_id")},
        "src_endpoint": {"ip": event.get("client_ip"), "name": event.get("workload")},
        "unmapped": {name: event.get(name) for name in ("environment", "span_id", "data_class", "destination",
                                                        "approved_by")},
        **more,
    }  # fmt: skip
    found: dict[str, Any] = without_none(told)
    # Class 6003 asks for where it came from, also where nobody said.
    if class_uid != API_ACTIVITY and not found["src_endpoint"]:
        del found["src_endpoint"]
    return found


def _status(event: Mapping[str, Any]) -> int:
    """1 success, 2 failure, 0 unknown: by the outcome where there is one, else by the decision."""
    outcome, decision = event.get("outcome"), event.get("decision")
    if outcome in ("failed", "refused") or decision in ("deny", "error"):
        return 2
    return 1 if outcome is not None or decision == "allow" else 0


def _user(event: Mapping[str, Any]) -> dict[str, Any]:
    """Who acts: the agent, where one does."""
    name = event.get("delegated_actor") or event.get("actor")
    return {} if name is None else {"uid": name, "name": str(name).rpartition(":")[2]}


def _session(event: Mapping[str, Any]) -> dict[str, Any] | None:
    if event.get("session_id") is None:
        return None
    return {"uid": event["session_id"], "expiration_time": milliseconds(event.get("session_expires_at"))}


def _api(event: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    action = str(event.get("action") or "")
    verb = action.rpartition(":")[2].lower()
    number = _VERBS.get(verb, _VERBS.get(str(event.get("action_type")), _OTHER))
    decided = {
        "decision": event.get("decision"),
        "policy": {"uid": event.get("policy_id"), "version": event.get("policy_version")},
    }
    through = event.get("actor") if event.get("delegated_actor") else None
    failed = event.get("decision") in ("deny", "error") or event.get("outcome") == "failed"
    return number, {
        "actor": {
            "user": _user(event), "session": _session(event), "invoked_by": through,
            "authorizations": [without_none(decided)] if event.get("decision") else None,
        },
        "api": {
            "operation": action or "unknown", "service": {"name": event.get("audience")},
            "request": {"uid": event.get("request_id") or event.get("event_id")},
            "response": {"error": event.get("reason") or "failed"} if failed else None,
        },
        "http_request": {"user_agent": event["user_agent"]} if event.get("user_agent") else None,
        "resources": [_resource(str(event["resource"]))] if event.get("resource") else None,
    }  # fmt: skip


def _resource(name: str) -> dict[str, str]:
    kind, colon, _ = name.partition(":")
    return {"uid": name, "type": kind} if colon else {"uid": name}


def _authentication(event: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """An issuance is a ticket; a session begins and ends."""
    number = {"started": 1, "failed": 1, "ended": 2}.get(str(event.get("outcome")), _OTHER)
    token = {
        "uid": event.get("credential_id"), "type": event.get("credential_type"),
        "created_time": milliseconds(event.get("issued_at")),
        "expiration_time": milliseconds(event.get("expires_at")),
    }  # fmt: skip
    return 3 if event["kind"] == "issuance" else number, {
        "user": _user(event),
        "session": _session(event),
        "service": {"name": event.get("audience") or event.get("source")},
        "authentication_token": token if any(token.values()) else None,
    }


def _grant(event: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """A grant that is opened assigns privileges."""
    return 1 if event.get("outcome") == "opened" else _OTHER, {
        "user": _user(event),
        "session": _session(event),
        "privileges": event.get("grant_covers") or event.get("scopes"),
        "iam_roles": [{"name": one} for one in event["roles"]] if event.get("roles") else None,
        "group": {"uid": event["grant_id"]} if event.get("grant_id") else None,
    }


_BY_CLASS: Final = {API_ACTIVITY: _api, AUTHENTICATION: _authentication, AUTHORIZE_SESSION: _grant}
