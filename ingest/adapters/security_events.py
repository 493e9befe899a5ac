"""What the claims of a security event token say, as our events (RFC 8417, RFC 9493, CAEP 1.0, RISC 1.0)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ingest import rows
from ingest.adapters.json_values import as_list, as_object, as_text, moment_of, named

_VERIFICATION: Final = "verification"
_REVOKED: Final = "session-revoked"
_CREDENTIAL: Final = "credential-change"
_RISK: Final = "risk-level-change"
_ENDED: Final = frozenset({"revoke", "delete"})
_WORDS: Final = {"credential-compromise": "credential-compromised"}
"""Where the event model has another word for the same."""
_HELD: Final = {"opaque": "id", "iss_sub": "sub", "email": "email", "phone_number": "phone_number",
                "account": "uri", "uri": "uri", "did": "url", "jwt_id": "jti", "saml_assertion_id":
                "assertion_id"}  # fmt: skip
"""By format of a subject identifier (RFC 9493, section 3.2), the member that names the subject."""
_PREFIXES: Final = {"jwt_id": "credential", "saml_assertion_id": "credential", "did": "did", "uri": "uri"}
_PARTS: Final = (("session", "session"), ("user", "user"), ("device", "device"), ("application", "agent"),
                 ("org_unit", "group"), ("group", "group"), ("tenant", "tenant"))  # fmt: skip
"""Members of a complex subject, the narrowest first, and what we call each."""


def events_of(claims: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One signal for each event, and the revocation that it means.

    Raises:
        rows.Refused: there is no event, or one has another shape.
    """
    jti, told = as_text(claims.get("jti")), claims.get("events")
    if jti is None:
        raise rows.Refused("missing", "event_id")
    if not isinstance(told, dict) or not told:
        raise rows.Refused("missing", "events")
    for number, type_ in enumerate(sorted(told)):
        details = told[type_]
        if not isinstance(details, dict):
            raise rows.Refused("wrong type: object expected", "events")
        name = jti if len(told) == 1 else f"{jti}/{number}"
        yield from _of_one(claims, type_, details, name)


def _of_one(
    claims: dict[str, Any], type_: str, details: dict[str, Any], name: str
) -> Iterator[dict[str, Any]]:
    short = type_.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    subject = claims.get("sub_id", details.get("subject", claims.get("sub")))
    event: dict[str, Any] = {
        "event_id": name,
        "kind": "signal",
        "time": moment_of(details.get("event_timestamp", claims.get("iat"))),
        "request_id": as_text(claims.get("txn")),
        "target": _target(subject),
        "tenant": _id_of(as_object(as_object(subject).get("tenant"))),
        "reason": _reason(short, details),
        "attributes": {
            "event": type_,
            "subject": subject,
            **{key: value for key, value in details.items() if key not in ("event_timestamp", "subject")},
        },
    }
    if short == _VERIFICATION:
        yield event | {"kind": "heartbeat", "target": None}
        return
    yield event
    ended = short == _CREDENTIAL and as_text(details.get("change_type")) in _ENDED
    if short == _REVOKED or ended:
        target = event["target"] if short == _REVOKED else _credential(details, event["target"])
        yield {**event, "event_id": f"{name}/revocation", "kind": "revocation", "target": target,
               "attributes": dict(event["attributes"])}  # fmt: skip


def _reason(short: str, details: dict[str, Any]) -> str:
    if short == _RISK:
        return f"{short}:{as_text(details.get('current_level')) or 'UNKNOWN'}"
    return _WORDS.get(short, short)


def _credential(details: dict[str, Any], subject: str | None) -> str:
    """The credential that is gone: by its serial number, else by its kind and whose it was."""
    serial = as_text(details.get("x509_serial")) or as_text(details.get("credential_id"))
    if serial is not None:
        return f"credential:{serial}"
    kind = as_text(details.get("credential_type")) or "credential"
    return f"credential:{kind}/{subject}" if subject else f"credential:{kind}"


def _target(subject: Any) -> str | None:
    """Our name for a subject; of a complex one for its narrowest part."""
    if isinstance(subject, str):
        return subject if ":" in subject else named("user", subject)
    given = as_object(subject)
    if given.get("format") == "aliases":
        first = next(iter(as_list(given.get("identifiers"))), None)
        return _target(first) if as_object(first).get("format") != "aliases" else None
    simple = _simple(given, "user")
    if simple is not None:
        return simple
    parts = ((as_object(given.get(member)), kind) for member, kind in _PARTS)
    return next((found for part, kind in parts if (found := _simple(part, kind)) is not None), None)


def _simple(identifier: dict[str, Any], kind: str) -> str | None:
    form, held = as_text(identifier.get("format")), _id_of(identifier)
    if held is None or form is None:
        return None
    if form == "opaque" and ":" in held:
        return held
    return f"{_PREFIXES.get(form, kind)}:{held}"


def _id_of(identifier: dict[str, Any]) -> str | None:
    return as_text(identifier.get(_HELD.get(as_text(identifier.get("format")) or "", "")))
