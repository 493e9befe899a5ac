"""From names to a verdict: who, what and on what are looked up, then the policy is asked.

The caller names the session, the agent, the action and the resource, and may name the credential that is
used; everything else that a policy sees is what is registered or was recorded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from issuer.deployment import Deployment
from issuer.emitting.steps import Fields, merged, of_action, of_session, of_verdict
from issuer.policy.engine import APPROVAL_REQUIRED, DEFAULT_DENY, Engine
from issuer.policy.question import Question, Verdict
from issuer.registry.people import Resource
from issuer.registry.tools import Action
from issuer.state.approvals import Approval, approved_step, ask_for_approval, find_approval, use_approval
from issuer.state.credentials import find_credential
from issuer.state.grants import active_exception, covers
from issuer.state.sessions import Session, find_session
from ledger.errors import UsageError


@dataclass(frozen=True, slots=True)
class Step:
    """One step that somebody wants to take, by names."""

    action: str
    resource: str
    sid: str
    subject: str
    """The user of the session; the service, where there is no user."""
    agent: str | None
    credential_id: str | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict and what it was about."""

    verdict: Verdict
    facts: Fields
    """What the event of it says."""
    approval_id: str | None = None
    """The request that waits for somebody's word, where that is what is missing."""


def decide(deployment: Deployment, step: Step, egress: Action | None = None) -> Decided:
    """The policy's verdict on one step. An approval that it rests on is used up with it.

    `egress` is the action of sending to a destination, whose endpoint is then the step's resource.
    """
    try:
        engine = deployment.policy.engine()
    except UsageError:
        return Decided(Verdict("error", "no_policy", DEFAULT_DENY, "none", ""), {})
    session = find_session(deployment.db, step.sid)
    action = egress or find_action(deployment, step.action)
    resource: Resource | str | None = deployment.registry.resources.get(step.resource)
    if egress is not None:
        resource = step.resource
    facts = _facts(session, step, action, resource)
    missing = _missing(deployment, session, step, action, resource)
    if missing is not None or session is None or action is None or resource is None:
        verdict = Verdict("deny", missing, DEFAULT_DENY, engine.bundle.version, engine.bundle.digest)
        return Decided(verdict, merged(facts, of_verdict(verdict)))
    user = deployment.registry.users.get(session.facts.user)
    grants = _grants(deployment, step)
    approval = None
    if step.agent is not None and isinstance(resource, Resource):
        approval = approved_step(
            deployment.db, agent=step.agent, action=action.name, resource=resource.id, sid=step.sid,
            now=deployment.now(),
        )  # fmt: skip
    question = Question(
        session=session.facts, action=action, resource=resource, user=user, agent=step.agent,
        covers=covers(deployment.db, grants, now=deployment.now()), approved=approval is not None,
    )  # fmt: skip
    if question.covers:
        facts = merged(facts, {"grant_id": grants[0], "grant_covers": sorted(question.covers)})
    verdict = _in_emergency(deployment, engine, question, engine.decide(question))
    if verdict.allowed and approval is not None:
        facts = merged(facts, {"approval_id": approval.id, "approved_by": approval.approved_by})
        if not use_approval(deployment.db, approval.id, now=deployment.now()):
            verdict = dataclasses.replace(verdict, decision="deny", reason=APPROVAL_REQUIRED)
    asked = _ask(deployment, step, verdict, session)
    return Decided(verdict, merged(facts, of_verdict(verdict), asked), asked.get("approval_id"))


def find_action(deployment: Deployment, name: str) -> Action | None:
    """The action of this name of a tool of this environment."""
    for tool in deployment.registry.tools.values():
        found = tool.action(name) if tool.environment == deployment.environment else None
        if found is not None:
            return found
    return None


def record_approval(deployment: Deployment, approval: Approval, *, outcome: str, by: str | None) -> None:
    """The event of an approval that was asked for, given or withdrawn."""
    session = find_session(deployment.db, approval.sid)
    same: Fields = {}
    if session is not None:
        same = of_session(session.facts, trace_id=session.txn, task_id=session.task_id)
    deployment.recorder.record(
        "review",
        **merged(
            same,
            {"approval_id": approval.id, "target": f"approval:{approval.id}", "outcome": outcome,
             "delegated_actor": approval.agent, "action": approval.action, "resource": approval.resource,
             "approved_by": by if outcome == "approved" else None, "owner": approval.user,
             "request_id": deployment.new_id()},
        ),
    )  # fmt: skip


def _missing(
    deployment: Deployment,
    session: Session | None,
    step: Step,
    action: Action | None,
    resource: Resource | str | None,
) -> str | None:
    """Why there is nothing to ask the policy about; None where there is."""
    if session is None:
        return "session_unknown"
    if not session.lives(deployment.now()):
        return "session_ended"
    if step.subject != session.facts.user:
        return "subject_mismatch"
    if step.agent is not None and step.agent not in deployment.registry.workloads:
        return "agent_unknown"
    if action is None:
        return "action_unknown"
    if resource is None:
        return "resource_unknown"
    if isinstance(resource, Resource) and resource.id.partition(":")[0] != action.resource_type:
        return "resource_unknown"
    if step.credential_id is not None:
        found = find_credential(deployment.db, step.credential_id)
        if found is None or found[0]["sid"] != step.sid or found[0]["act"]["sub"] != step.agent:
            return "credential_unknown"
        if found[1] is not None:
            return "credential_revoked"
    return None


def _grants(deployment: Deployment, step: Step) -> list[str]:
    """The grants of the credential that is used, and of those that it was derived from."""
    found: list[str] = []
    jti = step.credential_id
    for _ in range(16):
        held = find_credential(deployment.db, jti) if jti is not None else None
        if held is None:
            break
        if held[0].get("grant_id") is not None:
            found.append(held[0]["grant_id"])
        jti = held[0]["parent"]
    return found


def _in_emergency(deployment: Deployment, engine: Engine, question: Question, verdict: Verdict) -> Verdict:
    """After a deny: the same once more under an exception that covers this very step, if one is open."""
    resource = question.resource
    if verdict.decision != "deny" or question.agent is None or isinstance(resource, str):
        return verdict
    exception = active_exception(
        deployment.db, question.agent, environment=question.session.environment,
        scopes=question.action.required_scopes, resource=resource.id, now=deployment.now(),
    )  # fmt: skip
    if exception is None:
        return verdict
    again = engine.decide(question, break_glass=True)
    return dataclasses.replace(again, exception_id=exception.id) if again.allowed else verdict


def _ask(deployment: Deployment, step: Step, verdict: Verdict, session: Session) -> Fields:
    if verdict.reason != APPROVAL_REQUIRED or step.agent is None:
        return {}
    approval_id, is_new = ask_for_approval(
        deployment.db, deployment.new_id(), agent=step.agent, action=step.action, resource=step.resource,
        sid=step.sid, user=session.facts.user, now=deployment.now(),
    )  # fmt: skip
    if not approval_id:
        return {}
    if is_new:
        approval = find_approval(deployment.db, approval_id)
        assert approval is not None  # it was put there in this transaction
        record_approval(deployment, approval, outcome="asked", by=None)
    return {"approval_id": approval_id}


def _facts(
    session: Session | None, step: Step, action: Action | None, resource: Resource | str | None
) -> dict[str, Any]:
    known = (
        {} if session is None else of_session(session.facts, trace_id=session.txn, task_id=session.task_id)
    )
    done = (
        {"action": step.action, "resource": step.resource}
        if action is None
        else of_action(action, step.resource if resource is None else resource)
    )
    return merged(
        {"actor": step.subject, "session_id": step.sid}, known, done,
        {"delegated_actor": step.agent, "credential_id": step.credential_id},
    )  # fmt: skip
