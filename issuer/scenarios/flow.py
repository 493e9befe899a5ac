"""One task as it goes through the identity stack: session, credentials, decisions, calls, its end.

The verdicts are those of the real policy, and the events are made by the functions that the services use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from issuer.broker.target import LIFE_SECONDS
from issuer.emitting.steps import (
    Fields,
    merged,
    of_action,
    of_credential,
    of_policy,
    of_session,
    of_verdict,
    of_workload,
)
from issuer.policy.question import ISSUE, SEND, Question, SessionFacts, Verdict
from issuer.registry.people import Resource
from issuer.registry.tools import Action, Tool
from issuer.scenarios.world import World
from issuer.tokens.claims import Actor, Confirmation, CredentialClaims

PEP_WORKLOAD: Final = {
    "gateway": "gateway", "tool_router": "router", "data_adapter": "adapter", "worker": "worker",
    "egress": "egress",
}  # fmt: skip
_ISSUE: Final = Action(
    name=ISSUE, impact="low", action_type="execute", required_scopes=[ISSUE], data_class="internal"
)


@dataclass(slots=True)
class Task:
    """One task under way. `at` is the time that it has reached."""

    world: World
    at: float
    session: SessionFacts
    trace_id: str
    task_id: str
    expires_at: int
    address: str
    agents: tuple[str, ...]
    roots: dict[str, CredentialClaims] = field(default_factory=dict)
    broken: bool = False
    """Whether something that it needed was denied for good."""

    @classmethod
    def begin(
        cls, world: World, at: float, tenant: str, agents: Sequence[str], purpose: str,
        *, environment: str = "production", risk: int | None = None,
        data_classes: Sequence[str] | None = None,
        user: str | None = None, task_id: str | None = None,
    ) -> Task:  # fmt: skip
        """A session is opened, and a task begins in it."""
        person = world.registry.users[user] if user is not None else world.user(tenant)
        facts = SessionFacts(
            world.new_id(), person.id, tenant, environment, person.zone, purpose,
            person.risk if risk is None else risk, tuple(data_classes or person.data_classes),
        )  # fmt: skip
        task = cls(
            world, at, facts, world.new_id(), task_id or f"task-{world.new_id()[:16]}", int(at) + 3_600,
            world.address(tenant), tuple(agents),
        )  # fmt: skip
        desk = of_workload(f"orchestrator:{environment}/desk")
        task.say("session", **desk, outcome="started")
        task.say("task", **desk, outcome="started")
        return task

    def wait(self, low: float, high: float) -> None:
        """Time passes."""
        self.at += self.world.chance.uniform(low, high)

    def fields(self) -> Fields:
        """The session that acts, in each of its events."""
        whole = of_session(
            self.session, trace_id=self.trace_id, task_id=self.task_id, expires_at=self.expires_at
        )
        return {**whole, "client_ip": self.address}

    def say(self, kind: str, **more: Any) -> Fields:
        """An event of this task, now."""
        return self.world.say(
            kind, self.at, **merged(self.fields(), {"request_id": self.world.new_id()}, more)
        )

    def root(self, agent: str) -> CredentialClaims:
        """The agent's own credential of this session; issued when it is first needed."""
        known = self.roots.get(agent)
        if known is None or known.exp <= self.at:
            scopes = list(self.world.registry.workloads[agent].scopes)
            audience = f"broker:{self.session.environment}/main"
            known = self.issue(agent, audience, scopes, parent=None, life=900)
            self.roots[agent] = known
        return known

    def issue(
        self, agent: str, audience: str, scopes: Sequence[str], *, parent: CredentialClaims | None, life: int,
        once: bool = False, grant_id: str | None = None, exception_id: str | None = None,
    ) -> CredentialClaims:  # fmt: skip
        """A credential by the broker: its event, and its claims."""
        chain = [self.session.user] if parent is None else parent.chain
        chain = [*chain] if chain[-1] == agent else [*chain, agent]
        verdict = self.verdict(_ISSUE, audience, agent)
        claims = self.claims(
            chain, audience, scopes, life=life, version=verdict.version, once=once, grant_id=grant_id,
            parent=self.session.sid if parent is None else parent.jti, exception_id=exception_id,
        )  # fmt: skip
        self.say(
            "issuance",
            **merged(of_verdict(verdict), of_credential(claims), of_workload(agent), {"pep": "broker"}),
        )
        self.wait(0.004, 0.02)
        return claims

    def claims(
        self, chain: Sequence[str], audience: str, scopes: Sequence[str], *, life: int, version: str,
        parent: str, once: bool = False, grant_id: str | None = None, exception_id: str | None = None,
    ) -> CredentialClaims:  # fmt: skip
        """The claims of a credential, without their checks: they are ours."""
        act: Actor | None = None
        for name in chain[1:]:
            act = Actor.model_construct(sub=name, act=act)
        assert act is not None  # somebody acts
        now = int(self.at)
        return CredentialClaims.model_construct(
            iss="broker", iat=now, exp=min(now + life, self.expires_at), jti=self.world.new_id(),
            sub=chain[0], client_id=chain[-1], act=act, sid=self.session.sid, txn=self.trace_id,
            task_id=self.task_id, aud=audience, scope=" ".join(scopes), tenant=self.session.tenant,
            env=self.session.environment, zone=self.session.zone, purpose=self.session.purpose,
            policy_version=version, request_id="", cnf=Confirmation.model_construct(jkt=""), parent=parent,
            once=once, grant_id=grant_id, exception_id=exception_id, exercise=None,
        )  # fmt: skip

    def capability(self, agent: str, tool: Tool, action: Action, **more: Any) -> CredentialClaims:
        """A capability for one action of a tool."""
        return self.issue(
            agent, tool.endpoint, action.required_scopes, parent=more.pop("parent", None) or self.root(agent),
            life=LIFE_SECONDS[action.impact], once=action.impact == "high", **more,
        )  # fmt: skip

    def call(
        self, agent: str, name: str, resource: Resource, *, approved_by: str | None = None,
        covers: frozenset[str] = frozenset(), claims: CredentialClaims | None = None,
        destination: str | None = None, **more: Any,
    ) -> Verdict:  # fmt: skip
        """One call of a tool: capability, decision, and the action where it was allowed."""
        tool, action = self.world.action(name, self.session.environment)
        used = claims or self.capability(agent, tool, action)
        verdict = self.verdict(action, resource, agent, approved=approved_by is not None, covers=covers)
        decision = self.decision(used, tool.pep, action, resource, verdict, approved_by=approved_by, **more)
        if not verdict.allowed:
            return verdict
        self.wait(0.01, 0.15)
        if destination is not None:
            self.send(used, tool, destination)
        self.done(decision, destination=destination)
        self.wait(0.02, 0.4)
        return verdict

    def decision(
        self, claims: CredentialClaims, pep: str, action: Action, resource: Resource | str, verdict: Verdict,
        **more: Any,
    ) -> Fields:  # fmt: skip
        """What an enforcement point decided."""
        workload = f"{PEP_WORKLOAD[pep]}:{self.session.environment}/main"
        whole = merged(
            of_action(action, resource), of_credential(claims), of_verdict(verdict), of_workload(workload),
            {"pep": pep, "span_id": self.world.new_id()[:16]}, more,
        )  # fmt: skip
        return self.say("decision", **whole)

    def done(self, decision: Fields, *, outcome: str = "succeeded", **more: Any) -> Fields:
        """The call was made."""
        dropped = {"event_id", "kind", "at", "decision", "reason", "source", "instance", "attributes"}
        same = {name: value for name, value in decision.items() if name not in dropped}
        return self.say(
            "action",
            **merged(
                same,
                {"decision_ref": decision["event_id"], "outcome": outcome,
                 "parent_span_id": decision["span_id"], "span_id": self.world.new_id()[:16]},
                more,
            ),
        )  # fmt: skip

    def send(self, claims: CredentialClaims, tool: Tool, destination: str) -> None:
        """What a tool sends outside: through the egress mediator, with a child of the credential."""
        known = self.world.registry.destinations[destination]
        router = f"{PEP_WORKLOAD[tool.pep]}:{self.session.environment}/main"
        child = self.issue(router, known.endpoint, known.required_scopes, parent=claims, life=300)
        action = Action(
            name=SEND, impact=known.impact, action_type="execute", required_scopes=known.required_scopes,
            data_class="internal",
        )  # fmt: skip
        verdict = self.verdict(action, known.endpoint, router)
        decision = self.decision(
            child, "egress", action, known.endpoint, verdict, destination=destination,
            bytes_out=self.world.chance.randrange(200, 4_000),
        )  # fmt: skip
        self.wait(0.05, 0.3)
        self.done(decision)

    def approve(self, agent: str, action: Action, resource: Resource, approver: str) -> str:
        """Somebody else agrees to one step."""
        approval_id = self.world.new_id()
        common = {
            "approval_id": approval_id, "target": f"approval:{approval_id}", "action": action.name,
            "resource": resource.id, "delegated_actor": agent, "owner": self.session.user,
        }  # fmt: skip
        self.say("review", **common, outcome="asked")
        self.wait(20, 180)
        self.say("review", **common, outcome="approved", approved_by=approver)
        self.wait(1, 10)
        return approval_id

    def end(self, *, outcome: str | None = None) -> None:
        """The task is over, and its session with it."""
        self.wait(0.1, 1.0)
        result = outcome or ("failed" if self.broken else "succeeded")
        self.say("task", outcome=result)
        self.say("session", outcome="ended", reason="task_end")

    def policy(self) -> Fields:
        """The policy that is active."""
        bundle = self.world.engine.bundle
        return of_policy(bundle.version, bundle.digest)

    def denied(self, reason: str, policy_id: str = "default-deny") -> Verdict:
        """A deny that is not this policy's own: an enforcement point that did not know better yet."""
        bundle = self.world.engine.bundle
        return Verdict("deny", reason, policy_id, bundle.version, bundle.digest)

    def verdict(
        self, action: Action, resource: Resource | str, agent: str, *, approved: bool = False,
        covers: frozenset[str] = frozenset(), break_glass: bool = False,
    ) -> Verdict:  # fmt: skip
        """What the policy says of one step of this task."""
        return self.world.decide(
            Question(
                session=self.session, action=action, resource=resource,
                user=self.world.registry.users.get(self.session.user), agent=agent, covers=covers,
                approved=approved,
            ),
            break_glass=break_glass,
        )  # fmt: skip
