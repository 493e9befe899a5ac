"""Audit entries of HashiCorp Vault and OpenBao (JSON devices): a request and its response are two events.

The request is what was decided; the response issued a token, wrapped something, or was carried out. Devices
salt their hashes differently, and every entry goes to all of them: hashed values stay in `raw` alone, so that
the same entry by two devices is the same event. What a device with `log_raw` shows of secrets is masked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from ingest import masking, rows
from ingest.adapters.json_values import as_address, as_list, as_object, as_text, as_texts, as_time, at
from ingest.adapters.mapping import Sourced, of_user
from ingest.adapters.objects import ForeignObject, adapter_with
from ingest.strictjson import pointer_token

FIELD_MAP: Final = (
    ("/request/id", "event_id"),
    ("/type", "event_id"),
    ("/time", "time"),
    ("/request/id", "request_id"),
    ("/auth/display_name", "actor"),
    ("/response/auth/display_name", "actor"),
    ("/auth/policies", "roles"),
    ("/response/auth/policies", "roles"),
    ("/request/remote_address", "client_ip"),
    ("/request/operation", "action"),
    ("/request/operation", "action_type"),
    ("/request/namespace/path", "resource"),
    ("/request/path", "resource"),
    ("/auth/policy_results/allowed", "decision"),
    ("/error", "decision"),
    ("/error", "reason"),
    ("/error", "outcome"),
    ("/auth/policy_results/granting_policies", "policy_id"),
    ("/auth/accessor", "credential_id"),
    ("/response/auth/accessor", "credential_id"),
    ("/response/wrap_info/accessor", "credential_id"),
    ("/auth/accessor", "parent_credential_id"),
    ("/auth/token_type", "credential_type"),
    ("/auth/token_issue_time", "issued_at"),
    ("/auth/token_ttl", "expires_at"),
    ("/auth/entity_id", "attributes"),
    ("/auth/metadata", "attributes"),
    ("/request/mount_type", "attributes"),
    ("/request/data", "attributes"),
)
"""Where in an entry each field is read from; all of it also stands in `raw`."""
GRADE: Final = 1
"""The context grade that it can reach: policies have names and no versions."""
_ENGINE: Final = "vault"
_HASHED: Final = "hmac-sha256:"
_DENIED: Final = "permission denied"
_READS: Final = frozenset({"read", "list", "help", "header"})


def _entries(one: ForeignObject, options: Sourced) -> Iterator[rows.Row]:
    sent = one.sent
    if sent.get("type") not in ("request", "response"):
        raise rows.Refused("missing" if "type" not in sent else "not one of the known words", "type")
    clean, places = one.masked(sent)
    if not _has_hashes(sent):
        clean = _without_texts(clean, places)
    event = _event(clean, options)
    event |= options.filled(clean)
    yield one.row(event, _attributes(clean), clean, places)


def _without_texts(clean: dict[str, Any], places: list[str]) -> dict[str, Any]:
    """An entry of a device that hashes nothing, without the texts that were written and read."""
    changed = dict(clean)
    for name in ("request", "response"):
        half = as_object(clean.get(name))
        if "data" in half:
            changed[name] = {**half, "data": _blank(half["data"], f"/{name}/data", places)}
    return changed


def _has_hashes(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_hashes, value.values()))
    if isinstance(value, list):
        return any(map(_has_hashes, value))
    return _is_hash(value)


def _blank(value: Any, place: str, places: list[str]) -> Any:
    if isinstance(value, dict):
        return {name: _blank(one, f"{place}/{pointer_token(name)}", places) for name, one in value.items()}
    if isinstance(value, list):
        return [_blank(one, f"{place}/{number}", places) for number, one in enumerate(value)]
    if not isinstance(value, str) or value in ("", masking.MASK):
        return value
    places.append(place)
    return masking.MASK


def _event(sent: dict[str, Any], options: Sourced) -> dict[str, Any]:
    request, auth = as_object(sent.get("request")), as_object(sent.get("auth"))
    made = as_object(at(sent, "/response/auth"))
    request_id, type_ = as_text(request.get("id")), sent["type"]
    operation = as_text(request.get("operation"))
    answer, reason = _answer(sent, auth)
    event: dict[str, Any] = {
        "event_id": None if request_id is None else f"{request_id}/{type_}",
        "kind": "decision",
        "time": sent.get("time"),
        "source": options.source or _ENGINE,
        "request_id": request_id,
        "actor": of_user(as_text(auth.get("display_name")) or as_text(made.get("display_name"))),
        "roles": as_texts(auth.get("policies")),
        "client_ip": as_address(request.get("remote_address")),
        "action": None if operation is None else f"vault:{operation}",
        "action_type": None if operation is None else "read" if operation in _READS else "write",
        "resource": _resource(request),
        "decision": answer,
        "reason": reason,
        "policy_id": _policies(auth),
        "policy_engine": _ENGINE,
        **_credential(auth),
    }
    if type_ == "response":
        event |= {"outcome": "succeeded" if answer == "allow" else "failed", "policy_engine": None,
                  "policy_id": None, **_answered(sent, event)}  # fmt: skip
    return event


def _answer(sent: dict[str, Any], auth: dict[str, Any]) -> tuple[str, str | None]:
    error = as_text(sent.get("error")) or as_text(at(sent, "/response/data/error"))
    if at(auth, "/policy_results/allowed") is False or _DENIED in (error or ""):
        return "deny", "permission-denied"
    if error is not None:
        return "error", "error"
    return "allow", None


def _answered(sent: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    """What a response did: a token that it made, below the one that was shown, or the thing itself."""
    made, wrapped = as_object(at(sent, "/response/auth")), as_object(at(sent, "/response/wrap_info"))
    if not made and not wrapped:
        return {"kind": "action", "decision": None}
    issued: dict[str, Any] = {"kind": "issuance", "parent_credential_id": event["credential_id"],
                              "credential_id": None, "credential_type": None,
                              "issued_at": None, "expires_at": None}  # fmt: skip
    if wrapped:
        since = as_time(wrapped.get("creation_time"))
        issued |= {"credential_id": _plain(wrapped.get("accessor")), "credential_type": "capability",
                   "issued_at": since, "expires_at": _later(since, wrapped.get("ttl"))}  # fmt: skip
    else:
        # A login's own `auth` is what it made: no token was shown for it.
        shown = (
            event["credential_id"] if _accessor(sent, "auth") != _accessor(sent, "response/auth") else None
        )
        issued |= _credential({"token_issue_time": sent.get("time"), **made})
        issued |= {"parent_credential_id": shown, "roles": as_texts(made.get("policies"))}
    return issued


def _accessor(sent: dict[str, Any], place: str) -> Any:
    return at(sent, f"/{place}/accessor")


def _credential(auth: dict[str, Any]) -> dict[str, Any]:
    """The token by its accessor, which opens nothing; a hash of it would name no two devices' token."""
    ttl = auth.get("token_ttl", auth.get("lease_duration"))
    since = as_time(auth.get("token_issue_time"))
    lasting = isinstance(ttl, int) and not isinstance(ttl, bool)
    return {
        "credential_id": _plain(auth.get("accessor")),
        "credential_type": ("session" if ttl else "static") if auth.get("token_type") and lasting else None,
        "issued_at": since,
        "expires_at": _later(since, ttl) if ttl else None,
    }


def _plain(value: Any) -> str | None:
    text = as_text(value)
    return None if text is None or text.startswith(_HASHED) or text == masking.MASK else text


def _later(since: str | None, seconds: Any) -> str | None:
    if since is None or not isinstance(seconds, int) or isinstance(seconds, bool):
        return None
    try:
        return (rows.parse_time(since) + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return None


def _resource(request: dict[str, Any]) -> str | None:
    path = as_text(request.get("path"))
    if path is None:
        return None
    return f"vault:{as_text(at(request, '/namespace/path')) or ''}{path}"


def _policies(auth: dict[str, Any]) -> str | None:
    """The policies that allowed it, by name."""
    granting = as_list(at(auth, "/policy_results/granting_policies"))
    names = {name for one in granting if (name := as_text(as_object(one).get("name"))) is not None}
    return ",".join(sorted(names)) or None


def _unhashed(value: Any) -> Any:
    """Without what a device hashed."""
    if isinstance(value, dict):
        return {name: _unhashed(one) for name, one in value.items() if not _is_hash(one)}
    if isinstance(value, list):
        return [_unhashed(one) for one in value if not _is_hash(one)]
    return value


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_HASHED)


def _attributes(sent: dict[str, Any]) -> dict[str, Any]:
    auth, request = as_object(sent.get("auth")), as_object(sent.get("request"))
    kept = {name: auth.get(name) for name in ("entity_id", "metadata", "token_type", "remaining_uses")}
    kept |= {name: request.get(name) for name in ("mount_type", "mount_point", "data", "wrap_ttl",
                                                  "policy_override", "client_id")}  # fmt: skip
    kept["mount_class"] = request.get("mount_class")
    kept["error"] = sent.get("error")
    kept["forwarded_from"] = sent.get("forwarded_from")
    unhashed: dict[str, Any] = _unhashed(kept)
    return unhashed


from_options: Final = adapter_with(_ENGINE, Sourced, _entries)
