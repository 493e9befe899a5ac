"""A signal as a security event token, there and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from issuer.revocation import CREDENTIAL_CHANGE, PRINCIPAL_REVOKED, RISK_CHANGE, SESSION_REVOKED
from issuer.state.signals import Signal
from issuer.tokens.jws import EVENT, KeyFor, TokenRefused, check_times, sign, verify
from issuer.tokens.keys import Key

_ALERT_ID: Final = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Told:
    """What a security event says: about what, what happened, and why."""

    jti: str
    target: str
    event: str
    reason: str
    cause: str
    details: Mapping[str, Any]
    at: int

    @property
    def alert_id(self) -> str | None:
        """The alert for which a detection asks for this, where one does."""
        said = self.details.get("alert_id")
        return said if isinstance(said, str) and _ALERT_ID.fullmatch(said) else None


def event_token(signal: Signal, *, issuer: str, audience: str, key: Key) -> str:
    """One signal, signed."""
    claims = {
        "iss": issuer, "iat": signal.at, "jti": signal.jti, "aud": audience,
        "sub_id": {"format": "opaque", "id": signal.target},
        "events": {
            signal.event: {
                "event_timestamp": signal.at, "reason_admin": {"en": signal.reason},
                "cause": signal.cause, **signal.details,
            }
        },
    }  # fmt: skip
    return sign(claims, EVENT, key)


def read_event(text: str, key_for: KeyFor, *, issuers: tuple[str, ...], audience: str, now: float) -> Told:
    """What a security event of one of these issuers says; it has no end.

    Raises:
        TokenRefused: it is not by one of them, not for us, or says nothing that is understood.
    """
    claims = verify(text, EVENT, key_for)
    if claims.get("iss") not in issuers:
        raise TokenRefused("token_issuer", "The event is by no listed transmitter.")
    audiences = claims.get("aud")
    if audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise TokenRefused("token_audience", "The event is for another receiver.")
    if "exp" in claims or "sub" in claims:
        raise TokenRefused("token_claims", "A security event has neither exp nor sub.")
    check_times(claims, now, needs_end=False)
    jti, events, subject = claims.get("jti"), claims.get("events"), claims.get("sub_id")
    if not isinstance(jti, str) or not 1 <= len(jti) <= 256:
        raise TokenRefused("token_claims", "The event has no jti.")
    if not isinstance(events, dict) or len(events) != 1:
        raise TokenRefused("token_claims", "The token holds not exactly one event.")
    ((event, details),) = events.items()
    if not isinstance(details, dict):
        raise TokenRefused("token_claims", "The event's details are no object.")
    target = _target(subject)
    reason = details.get("reason_admin")
    text_of = next(iter(reason.values()), None) if isinstance(reason, dict) else reason
    cause = details.get("cause")
    return Told(
        jti, target, event, text_of[:256] if isinstance(text_of, str) else _short(event),
        cause if isinstance(cause, str) else cause_of(event), details, claims["iat"],
    )  # fmt: skip


def cause_of(event: str) -> str:
    """Why caches drop for an event type of CAEP."""
    return "risk_change" if event == RISK_CHANGE else "revocation"


def understood(event: str) -> bool:
    """Whether this is an event type that something is done about."""
    return event in (SESSION_REVOKED, CREDENTIAL_CHANGE, RISK_CHANGE, PRINCIPAL_REVOKED)


def _short(event: str) -> str:
    return event.rstrip("/").rpartition("/")[2].rpartition(":")[2][:256] or "signal"


def _target(subject: Any) -> str:
    """Our name for a subject identifier (RFC 9493).

    Raises:
        TokenRefused: its format is not one that is read here.
    """
    if isinstance(subject, dict):
        kind = subject.get("format")
        parts: dict[str, tuple[str, ...]] = {"opaque": ("id",), "iss_sub": ("sub",), "jwt_id": ("jti",)}
        held = [subject.get(name) for name in parts.get(str(kind), ())]
        if held and all(isinstance(value, str) and 0 < len(value) <= 256 for value in held):
            name = str(held[0])
            if kind == "jwt_id":
                return f"credential:{name}"
            if kind == "iss_sub":
                return name if ":" in name else f"user:{name}"
            if ":" in name:
                return name
    raise TokenRefused("subject_unknown", "The event's sub_id is not of a format that is read here.")
