"""What each step of the identity stack says in its event: pure functions from facts to fields.

The services and the simulated scenarios use the same ones, so that both tell the same things.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from issuer.policy.engine import NAME as ENGINE
from issuer.policy.question import SessionFacts, Verdict
from issuer.registry.identities import spiffe_id
from issuer.registry.people import Grant, Resource
from issuer.registry.tools import Action
from issuer.tokens.claims import CredentialClaims

SOURCE: Final = "issuer"
Fields = dict[str, Any]


def time_text(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event(kind: str, event_id: str, at: float, instance: str, **fields: Any) -> Fields:
    """One event: what every event has, and the fields that are known of it."""
    whole = {
        "event_id": event_id, "kind": kind, "time": time_text(at), "source": SOURCE, "instance": instance,
        **fields,
    }  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def of_session(
    session: SessionFacts, *, trace_id: str, task_id: str, expires_at: int | None = None
) -> Fields:
    """The session that acts."""
    return {
        "tenant": session.tenant, "environment": session.environment, "trust_zone": session.zone,
        "trace_id": trace_id, "task_id": task_id, "session_id": session.sid, "session_risk": session.risk,
        "session_data_classes": list(session.data_classes), "session_verified": True,
        "session_expires_at": None if expires_at is None else time_text(expires_at),
        "actor": session.user, "purpose": session.purpose, "exercise": session.exercise,
    }  # fmt: skip


def of_credential(claims: CredentialClaims) -> Fields:
    """The credential that was issued or used, and for whom it speaks."""
    chain = claims.chain
    return {
        "tenant": claims.tenant, "environment": claims.env, "trust_zone": claims.zone,
        "trace_id": claims.txn, "task_id": claims.task_id, "session_id": claims.sid,
        "actor": chain[0], "delegated_actor": chain[-1], "delegation": chain,
        "credential_id": claims.jti, "parent_credential_id": claims.parent,
        "credential_type": credential_type(claims), "audience": claims.aud, "scopes": claims.scopes,
        "issued_at": time_text(claims.iat), "expires_at": time_text(claims.exp), "purpose": claims.purpose,
        "grant_id": claims.grant_id, "exception_id": claims.exception_id, "exercise": claims.exercise,
    }  # fmt: skip


def credential_type(claims: CredentialClaims) -> str:
    """`break_glass` under an exception, `capability` for one endpoint, else `session`."""
    if claims.exception_id is not None:
        return "break_glass"
    return "capability" if claims.aud.startswith(("tool:", "egress:")) else "session"


def of_workload(identity: str) -> Fields:
    """The machine identity that authenticated."""
    try:
        return {"workload": spiffe_id(identity)}
    except ValueError:
        return {"workload": identity}


def of_verdict(verdict: Verdict) -> Fields:
    """What the policy said, and which policy it was."""
    attributes: dict[str, Any] = dict(verdict.details)
    if verdict.errors:
        attributes["policy_errors"] = [text[:500] for text in verdict.errors[:5]]
    return {
        "decision": verdict.decision, "reason": verdict.reason, "policy_id": verdict.policy_id,
        **of_policy(verdict.version, verdict.digest), "exception_id": verdict.exception_id,
        "attributes": attributes or None,
    }  # fmt: skip


def of_policy(version: str, digest: str) -> Fields:
    """The policy that was active."""
    return {"policy_version": version, "policy_digest": digest, "policy_engine": ENGINE}


def of_grant(grant: Grant) -> Fields:
    """Leave to delegate: who to whom, across what, by whose word, until when."""
    return {
        "grant_id": grant.id, "grant_covers": list(grant.covers), "approved_by": grant.approver,
        "actor": grant.delegator, "delegated_actor": grant.delegate,
        "delegation": [grant.delegator, grant.delegate], "reason": grant.reason,
        "expires_at": time_text(grant.expires_at.timestamp()),
    }  # fmt: skip


def of_action(action: Action, resource: Resource | str) -> Fields:
    """What is done, on what."""
    fields: Fields = {
        "action": action.name, "action_type": action.action_type, "impact": action.impact,
        "data_class": action.data_class, "required_scopes": list(action.required_scopes),
    }  # fmt: skip
    if isinstance(resource, str):
        return {**fields, "resource": resource}
    return {
        **fields, "resource": resource.id, "resource_tenant": resource.tenant,
        "resource_environment": resource.environment, "resource_trust_zone": resource.zone,
        "data_class": stricter(resource.data_class, action.data_class),
    }  # fmt: skip


def stricter(one: str, other: str) -> str:
    """The stricter of two data classes."""
    order = ("public", "internal", "confidential", "restricted")
    return max(one, other, key=order.index)


def merged(*parts: Mapping[str, Any]) -> Fields:
    """Several groups of fields as one; a later one wins, but None never does, and attributes add up."""
    whole: Fields = {}
    for part in parts:
        known = whole.get("attributes")
        whole.update({name: value for name, value in part.items() if value is not None})
        if known is not None and isinstance(part.get("attributes"), dict):
            whole["attributes"] = {**known, **part["attributes"]}
    return whole
