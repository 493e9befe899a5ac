"""Audit events of Teleport (versions 15 to 19), as its log file and its event handler write them.

Certificates are issuances, access requests grants of roles, locks revocations; logins, joins and connections
are sessions. Whether a thing succeeded stands in `success`, else in the last letter of `code`: I, W or E.
`ei` counts the events of a session and starts again with the next, so it is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import as_address, as_object, as_text, as_texts, at, named
from ingest.adapters.mapping import Mapped
from ingest.adapters.objects import ForeignObject, adapter_with

FIELD_MAP: Final = (
    ("/uid", "event_id"),
    ("/time", "time"),
    ("/cluster_name", "source"),
    ("/server_id", "instance"),
    ("/user", "actor"),
    ("/identity/user", "actor"),
    ("/identity/impersonator", "actor"),
    ("/bot_name", "delegated_actor"),
    ("/identity/bot_name", "delegated_actor"),
    ("/reviewer", "approved_by"),
    ("/roles", "roles"),
    ("/identity/roles", "roles"),
    ("/sid", "session_id"),
    ("/addr.remote", "client_ip"),
    ("/user_agent", "user_agent"),
    ("/event", "action"),
    ("/server_hostname", "resource"),
    ("/app_name", "resource"),
    ("/db_service", "resource"),
    ("/kubernetes_cluster", "resource"),
    ("/name", "resource"),
    ("/success", "outcome"),
    ("/code", "outcome"),
    ("/error", "reason"),
    ("/reason", "reason"),
    ("/identity/expires", "expires_at"),
    ("/expires", "expires_at"),
    ("/id", "grant_id"),
    ("/target", "target"),
    ("/ei", "attributes"),
    ("/attributes", "attributes"),
    ("/identity", "attributes"),
)
"""Where in an event each field is read from; all of it also stands in `raw`."""
GRADE: Final = 1
"""The context grade that it can reach: roles have names and no versions."""
_ENGINE: Final = "teleport"
_NEVER: Final = "0001-01-01T00:00:00Z"
_SESSIONS: Final = {
    "user.login": "started", "user.logout": "ended", "bot.join": "started", "instance.join": "started",
    "session.start": "started", "session.end": "ended", "session.join": "started",
    "app.session.start": "started", "app.session.end": "ended",
    "db.session.start": "started", "db.session.end": "ended",
    "windows.desktop.session.start": "started", "windows.desktop.session.end": "ended",
}  # fmt: skip
_APPROVED: Final = frozenset({"APPROVED", "PROMOTED"})
_GONE: Final = frozenset({"delete", "expire"})
_REFUSALS: Final = frozenset({"auth"})
_RESOURCES: Final = (
    ("node", "server_hostname"), ("app", "app_name"), ("database", "db_service"),
    ("cluster", "kubernetes_cluster"), ("desktop", "desktop_name"),
)  # fmt: skip


def _events(one: ForeignObject, options: Mapped) -> Iterator[rows.Row]:
    if as_text(one.sent.get("event")) is None:
        raise rows.Refused("missing", "event")
    clean, places = one.masked(one.sent)
    event = _event(clean)
    # Certificates of some versions carry no id.
    event["event_id"] = as_text(clean.get("uid")) or f"sha256:{one.digest()}"
    event |= options.filled(clean)
    yield one.row(event, _attributes(clean), clean, places)


def _event(sent: dict[str, Any]) -> dict[str, Any]:
    name, identity = sent["event"], as_object(sent.get("identity"))
    cluster = as_text(sent.get("cluster_name"))
    failed = _failed(sent)
    return {
        "kind": "action",
        "time": sent.get("time"),
        "source": f"{_ENGINE}/{cluster}" if cluster else _ENGINE,
        "instance": as_text(sent.get("server_id")),
        **_who(sent, identity),
        "roles": as_texts(sent.get("roles")) or as_texts(identity.get("roles")),
        "session_id": as_text(sent.get("sid")),
        "client_ip": as_address(sent.get("addr.remote")) or as_address(at(sent, "/addr/remote")),
        "user_agent": as_text(sent.get("user_agent")),
        "action": f"teleport:{name}",
        "resource": _resource(sent),
        "outcome": "failed" if failed else "succeeded",
        "reason": as_text(sent.get("error")) or as_text(sent.get("message")) if failed else None,
        **_meaning(sent, name, identity, failed=failed),
    }


def _failed(sent: dict[str, Any]) -> bool:
    success = sent.get("success")
    if isinstance(success, bool):
        return not success
    return (as_text(sent.get("code")) or "").endswith(("W", "E"))


def _who(sent: dict[str, Any], identity: dict[str, Any]) -> dict[str, str | None]:
    """The user, and the bot that acts for whoever it impersonates."""
    user = as_text(sent.get("user")) or as_text(identity.get("user"))
    bot = as_text(sent.get("bot_name")) or as_text(identity.get("bot_name"))
    over = as_text(sent.get("impersonator")) or as_text(identity.get("impersonator"))
    if bot is not None:
        # A bot's own user is named after it: it acts for nobody.
        own = user is None or user == f"bot-{bot}"
        return {"actor": None if own else named("user", user), "delegated_actor": f"agent:{bot}"}
    if over is not None and over != user:
        return {"actor": named("user", user), "delegated_actor": named("user", over)}
    return {"actor": named("user", user)}


def _meaning(sent: dict[str, Any], name: str, identity: dict[str, Any], *, failed: bool) -> dict[str, Any]:
    """The kind of an event, and what that kind alone has."""
    if name == "cert.create":
        return {
            "kind": "issuance",
            "decision": "error" if failed else "allow",
            "credential_type": "session",
            "expires_at": _end(identity.get("expires")),
        }
    if name.startswith("access_request."):
        return _request(sent, name.removeprefix("access_request."))
    if name == "lock.created":
        return {"kind": "revocation", "target": _locked(sent), "reason": as_text(sent.get("message")),
                "expires_at": _end(sent.get("expires"))}  # fmt: skip
    if name in _SESSIONS:
        return {"kind": "session", "outcome": "failed" if failed else _SESSIONS[name]}
    if name in _REFUSALS:
        return {"kind": "decision", "decision": "deny" if failed else "allow", "policy_engine": _ENGINE}
    return {}


def _request(sent: dict[str, Any], step: str) -> dict[str, Any]:
    """A request for roles: a grant from the step that leaves it approved until it goes, not before."""
    state, grant = as_text(sent.get("state")), as_text(sent.get("id"))
    told = {
        "grant_id": grant,
        "reason": as_text(sent.get("reason")),
        "expires_at": _end(sent.get("expires")),
        "target": named("grant", grant),
    }
    if step in _GONE:
        return {**told, "kind": "delegation", "outcome": "closed"}
    if state in _APPROVED:
        return {**told, "kind": "delegation", "outcome": "opened",
                "approved_by": named("user", sent.get("reviewer"))}  # fmt: skip
    if state == "DENIED":
        return {**told, "grant_id": None, "kind": "decision", "decision": "deny", "policy_engine": _ENGINE,
                "outcome": "failed"}  # fmt: skip
    return {**told, "grant_id": None, "kind": "action", "outcome": "started"}


def _locked(sent: dict[str, Any]) -> str | None:
    """What a lock stops, by the first thing that it names."""
    target = as_object(sent.get("target"))
    ours = {"user": "user", "role": "role", "bot_name": "agent", "server_id": "node",
            "access_request": "grant", "device": "device", "mfa_device": "device"}  # fmt: skip
    found = (named(kind, target.get(theirs)) for theirs, kind in ours.items())
    return next((one for one in found if one is not None), named("lock", sent.get("name")))


def _end(value: Any) -> str | None:
    return None if value == _NEVER else as_text(value)


def _resource(sent: dict[str, Any]) -> str | None:
    for kind, name in _RESOURCES:
        if as_text(sent.get(name)) is not None:
            return f"{kind}:{sent[name]}"
    kind = sent["event"].partition(".")[0]
    return named(kind, sent.get("name")) or named(kind, sent.get("id"))


def _attributes(sent: dict[str, Any]) -> dict[str, Any]:
    kept = ("code", "ei", "attributes", "identity", "login", "method", "user_kind", "cert_type", "server_id",
            "proto", "error", "message", "target", "roles", "resource_ids", "command", "exitCode",
            "db_user", "db_name", "kubernetes_users", "kubernetes_groups", "http_method", "path",
            "cluster_name", "impersonator", "bot_instance_id", "state", "proposed_state", "reviewer",
            "annotations")  # fmt: skip
    return {name: sent.get(name) for name in kept}


from_options: Final = adapter_with(_ENGINE, Mapped, _events)
