"""Taking authority back: what is revoked, the signal to every enforcement point, and the event of it."""

from __future__ import annotations

from typing import Any, Final

from issuer.emitting.recorder import Recorder
from issuer.state.credentials import find_credential, revoke_with_descendants
from issuer.state.database import Database
from issuer.state.sessions import end_session, find_session
from issuer.state.signals import add_signal
from ledger.errors import UsageError

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
SESSION_REVOKED: Final = _CAEP + "session-revoked"
CREDENTIAL_CHANGE: Final = _CAEP + "credential-change"
RISK_CHANGE: Final = _CAEP + "risk-level-change"
OWN: Final = "urn:decision-ledger:event:"
POLICY_CHANGED: Final = OWN + "policy-changed"
APPROVAL_WITHDRAWN: Final = OWN + "approval-withdrawn"
TICKET_CLOSED: Final = OWN + "ticket-closed"
KEY_REPLACED: Final = OWN + "key-replaced"
PRINCIPAL_REVOKED: Final = OWN + "principal-revoked"

JTIS_PER_SIGNAL: Final = 100
"""Descendants named in one signal, so that the signed event stays below the size of a token."""
HIGH_RISK: Final = 70
RAISED_RISK: Final = 40


def tell(
    db: Database,
    recorder: Recorder,
    target: str,
    event: str,
    *,
    reason: str,
    cause: str,
    details: dict[str, Any] | None = None,
    jti: str | None = None,
) -> bool:
    """Put one signal into the stream; False where its id is known already."""
    found = add_signal(
        db, jti or recorder.new_id(), target, event,
        reason=reason, cause=cause, details=details or {}, now=recorder.clock(),
    )  # fmt: skip
    return found is not None


def take_back(
    db: Database, recorder: Recorder, target: str, event: str, *, reason: str, jti: str | None = None
) -> list[str] | None:
    """End what a target names, and tell every enforcement point, naming all that was derived from it.

    The credentials that this call revoked; None where the signal's id `jti` was told before.
    """
    kind, _, name = target.partition(":")
    revoked: list[str] = []
    with db.transaction():
        if kind == "session":
            end_session(db, name, cause="revocation", now=recorder.clock())
        elif kind == "credential":
            revoked = revoke_with_descendants(db, name, now=recorder.clock())
        details: dict[str, Any] = {"credentials": revoked[:JTIS_PER_SIGNAL]} if kind == "credential" else {}
        first = tell(db, recorder, target, event, reason=reason, cause="revocation", details=details, jti=jti)
        for begin in range(JTIS_PER_SIGNAL, len(revoked), JTIS_PER_SIGNAL):
            part = revoked[begin : begin + JTIS_PER_SIGNAL]
            tell(
                db, recorder, target, event, reason=reason, cause="revocation", details={"credentials": part}
            )
    return revoked if first else None


def revoke(
    db: Database, recorder: Recorder, target: str, *, reason: str, by: str, signal: bool = False, **facts: Any
) -> list[str]:
    """Revoke `session:SID`, `credential:JTI` or a principal such as `agent:production/x`.

    A credential takes all that was derived from it along. Returns the credentials that are named in signals.
    `signal` says that it is compromised, and not just given back.

    Raises:
        UsageError: there is no such session or credential, or this is no target.
    """
    kind, colon, name = target.partition(":")
    if not colon or not name:
        raise UsageError(
            f"{target!r} cannot be revoked.",
            "Write session:SID, credential:JTI or a principal.",
        )
    with db.transaction():
        if kind == "session":
            facts = {**_facts_of_session(db, name), **facts}
        elif kind == "credential":
            facts = {**_facts_of(db, name), **facts}
        event = {"session": SESSION_REVOKED, "credential": CREDENTIAL_CHANGE}.get(kind, PRINCIPAL_REVOKED)
        revoked = take_back(db, recorder, target, event, reason=reason) or []
        if signal:
            word = "session-revoked" if kind == "session" else "credential-compromised"
            recorder.record(
                "signal", **{"target": target, "reason": word, "request_id": recorder.new_id(), **facts}
            )
        recorder.record(
            "revocation",
            **{"target": target, "reason": reason, "actor": by, "outcome": "revoked",
               "attributes": {"cause": "revocation", "credentials": len(revoked)}, **facts},
        )  # fmt: skip
    return revoked


def risk_word(risk: int) -> str:
    """CAEP's word for a risk from 0 to 100."""
    return "HIGH" if risk >= HIGH_RISK else "MEDIUM" if risk >= RAISED_RISK else "LOW"


def _facts_of_session(db: Database, sid: str) -> dict[str, Any]:
    session = find_session(db, sid)
    if session is None:
        raise UsageError(f"There is no session {sid!r}.", "Look it up in the ledger: session_id.")
    return {
        "session_id": sid, "tenant": session.facts.tenant, "environment": session.facts.environment,
        "trace_id": session.txn, "task_id": session.task_id,
        **({} if session.facts.exercise is None else {"exercise": session.facts.exercise}),
    }  # fmt: skip


def _facts_of(db: Database, jti: str) -> dict[str, Any]:
    facts = facts_of_credential(db, jti)
    if not facts:
        raise UsageError(f"There is no credential {jti!r}.", "Look it up in the ledger: credential_id.")
    return facts


def facts_of_credential(db: Database, jti: str) -> dict[str, Any]:
    """What an event about a credential says of it; nothing where it is unknown."""
    found = find_credential(db, jti)
    if found is None:
        return {}
    claims, _ = found
    return {
        "credential_id": jti, "session_id": claims["sid"], "tenant": claims["tenant"],
        "environment": claims["env"], "trace_id": claims["txn"], "task_id": claims["task_id"],
    }  # fmt: skip
