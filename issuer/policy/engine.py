"""The decision: Cedar over a bundle and what is registered, and never more lenient than Cedar's own words.

Cedar skips a `forbid` that errors and answers Allow: so an answer counts as allow only where it is Allow and
nothing errored. Agent and user are asked about separately, and both must be permitted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import cedarpy

from issuer.policy.bundle import Bundle
from issuer.policy.question import Question, Verdict
from issuer.registry.identities import Workload
from issuer.registry.people import Resource, User
from ledger.errors import UsageError
from ledger.events import Answer

NAME: Final = "cedar"
DEFAULT_DENY: Final = "default-deny"
NOT_PERMITTED: Final = "not_permitted"
POLICY_ERROR: Final = "policy_error"
APPROVAL_REQUIRED: Final = "approval_required"


class Engine:
    """One bundle over one set of entities; immutable, so that no request sees two versions."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        users: Iterable[User],
        workloads: Iterable[Workload],
        resources: Iterable[Resource],
        endpoints: Mapping[str, str],
    ) -> None:
        """`endpoints` are names of endpoints with their environments.

        Raises:
            UsageError: the entities do not fit the bundle's schema.
        """
        self.bundle = bundle
        entities = [
            *(_entity("User", one.id, tenant=one.tenant, zone=one.zone, roles=one.roles) for one in users),
            *(_workload(one) for one in workloads),
            *(_resource(one) for one in resources),
            *(_entity("Endpoint", name, environment=where) for name, where in endpoints.items()),
        ]
        try:
            self._entities = cedarpy.Entities.from_json_str(json.dumps(entities), bundle.schema)
        except ValueError as error:
            said = " ".join(str(error).split())[:300]
            raise UsageError(
                f"What is registered does not fit the schema of bundle {bundle.about.name}: {said}.",
                "Correct the bundle's schema.",
            ) from None

    def decide(self, question: Question, *, break_glass: bool = False) -> Verdict:
        """The verdict on one question."""
        context = _context(question, break_glass=break_glass)
        requests = [
            {"principal": principal, "action": {"type": "Action", "id": question.action.name},
             "resource": _target(question), "context": context}
            for principal in _principals(question)
        ]  # fmt: skip
        if not requests:
            return self._verdict("deny", NOT_PERMITTED, DEFAULT_DENY, context)
        try:
            results = cedarpy.is_authorized_batch(
                requests, self.bundle.policies, self._entities, self.bundle.schema
            )
        except (ValueError, TypeError) as error:
            return self._verdict("error", POLICY_ERROR, DEFAULT_DENY, context, [str(error)])
        errors = [error for result in results for error in result.diagnostics.errors]
        if errors:
            return self._verdict("error", POLICY_ERROR, DEFAULT_DENY, context, errors)
        denied = [result for result in results if result.decision is not cedarpy.Decision.Allow]
        determining = sorted(
            name
            for result in denied or results
            for name in result.diagnostics.id_annotations_by_reason.values()
        )
        policy_id = determining[0] if determining else DEFAULT_DENY
        if denied:
            reasons = [self.bundle.reasons[name] for name in determining if name in self.bundle.reasons]
            # Nobody is asked to approve what would be refused all the same.
            reasons.sort(key=lambda reason: reason == APPROVAL_REQUIRED)
            return self._verdict("deny", reasons[0] if reasons else NOT_PERMITTED, policy_id, context)
        return self._verdict("allow", None, policy_id, context)

    def _verdict(
        self, decision: Answer, reason: str | None, policy_id: str, context: dict[str, Any],
        errors: Sequence[str] = (),
    ) -> Verdict:  # fmt: skip
        told = {name: context[name] for name in ("crosses", "approved", "break_glass")}
        told |= {name: context["session"][name] for name in ("purpose", "risk")}
        return Verdict(
            decision, reason, policy_id, self.bundle.version, self.bundle.digest, errors=tuple(errors),
            details=told,
        )  # fmt: skip


def _principals(question: Question) -> list[dict[str, str]]:
    found = []
    if question.agent is not None:
        kind = "Agent" if question.agent.startswith("agent:") else "Service"
        found.append({"type": kind, "id": question.agent})
    if question.user is not None:
        found.append({"type": "User", "id": question.user.id})
    return found


def _target(question: Question) -> dict[str, str]:
    if isinstance(question.resource, str):
        return {"type": "Endpoint", "id": question.resource}
    return {"type": "Resource", "id": question.resource.id}


def _context(question: Question, *, break_glass: bool) -> dict[str, Any]:
    session, action = question.session, question.action
    context: dict[str, Any] = {
        "session": {
            "risk": session.risk, "tenant": session.tenant, "environment": session.environment,
            "zone": session.zone, "purpose": session.purpose, "data_classes": [*session.data_classes],
        },
        "action_type": action.action_type,
        "impact": action.impact,
        "required_scopes": [*action.required_scopes],
        "crosses": question.crosses,
        "approved": question.approved,
        "break_glass": break_glass,
    }  # fmt: skip
    if question.user is not None:
        context["user"] = {"__entity": {"type": "User", "id": question.user.id}}
    return context


def _entity(kind: str, name: str, /, **attributes: Any) -> dict[str, Any]:
    return {"uid": {"type": kind, "id": name}, "attrs": attributes, "parents": []}


def _workload(one: Workload) -> dict[str, Any]:
    return _entity(
        "Agent" if one.kind == "agent" else "Service", one.id, environment=one.environment, system=one.system,
        purposes=one.purposes, scopes=one.scopes,
    )  # fmt: skip


def _resource(one: Resource) -> dict[str, Any]:
    return _entity(
        "Resource", one.id, kind=one.id.partition(":")[0], tenant=one.tenant, environment=one.environment,
        zone=one.zone, data_class=one.data_class,
    )  # fmt: skip
