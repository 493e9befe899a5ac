"""What goes wrong: the six failure modes, a theft, an abuse. Each is planted, and told to the truth."""

from __future__ import annotations

from typing import Any, Final

from issuer.emitting.steps import Fields, merged, of_credential, of_workload
from issuer.policy.question import Verdict
from issuer.revocation import CREDENTIAL_CHANGE
from issuer.scenarios.flow import Task
from issuer.scenarios.healthy import DAY, HELPER, HOUR, PAYER, REPORTER, RESEARCH, TRIAGE
from issuer.scenarios.world import World
from issuer.tokens.claims import CredentialClaims

LEGACY: Final = "legacy-gateway"
"""A gateway that nobody has moved to the stack yet: it does what the stack would refuse."""


def shared_identity(world: World, at: float) -> None:
    """Failure mode 1: the staging agent's identity works in production as well."""
    agent = "agent:staging/release-manager"
    incident = world.plant("shared-identity", ["shared-identity"], [agent], 1)
    staging = Task.begin(world, at, "acme", [agent], "release", environment="staging", user="user:grace")
    staging.call(agent, "deploy:read", world.registry.resources["deploy:web-staging"])
    incident.say(world.events[-1])
    staging.end()
    task = Task.begin(world, at + 1_200, "acme", [agent], "release", user="user:grace")
    tool, action = world.action("deploy:read")
    target = world.resource("deploy", "acme")
    for _ in range(3):
        claims = _claims(task, agent, tool.endpoint, ["deploy:read"])
        verdict = _allowed(task)
        decision = task.decision(
            claims, tool.pep, action, target, verdict, source=LEGACY, **of_workload(agent)
        )
        incident.say(decision)
        incident.say(task.done(decision, source=LEGACY))
        task.wait(60, 300)
    task.end()


def context_lost(world: World, at: float) -> None:
    """Failure mode 2: work goes through a queue, and the session that it belongs to does not."""
    incident = world.plant("context-lost", ["session-context-lost"], [REPORTER], 2)
    tool, action = world.action("report:run")
    for number in range(4):
        task = Task.begin(world, at + number * 900, "acme", [REPORTER], "reporting")
        target = world.resource("report", "acme")
        claims = task.capability(REPORTER, tool, action)
        task.end()
        task.wait(600, 900)
        decision = task.decision(claims, "worker", action, target, task.verdict(action, target, REPORTER))
        for event in (decision, task.done(decision)):
            event["session_verified"] = False
            if number % 2:
                del event["session_id"], event["session_expires_at"]
            incident.say(event)


def stale_cache(world: World, at: float) -> None:
    """Failure mode 3: an enforcement point goes on with what it cached, after task and token ended."""
    incident = world.plant("stale-cache", ["stale-credential"], [RESEARCH], 3)
    task = Task.begin(world, at, "borealis", [RESEARCH], "support")
    tool, action = world.action("customer:read")
    target = world.resource("customer", "borealis")
    claims = task.capability(RESEARCH, tool, action)
    verdict = task.verdict(action, target, RESEARCH)
    task.done(task.decision(claims, tool.pep, action, target, verdict))
    task.end()
    world.say(
        "revocation", task.at, **task.fields(), target=f"credential:{claims.jti}", reason="policy-change",
        pep=tool.pep, outcome="dropped", request_id=world.new_id(), attributes={"cause": "policy_change"},
    )  # fmt: skip
    for _ in range(3):
        task.wait(200, 400)
        decision = task.decision(claims, tool.pep, action, target, verdict)
        incident.say(decision)
        incident.say(task.done(decision))


def copied_role(world: World, at: float) -> None:
    """Failure mode 4: an agent was given a person's role, and uses a hundredth of it, for days."""
    agent = "agent:production/incident-helper"
    incident = world.plant("copied-role", ["human-role-copied"], [agent], 4)
    wide = ["*:*", "ticket:*", "deploy:*", "repository:*", "customer:*", "payment:*"]
    tool, action = world.action("ticket:read")
    for number in range(30):
        task = Task.begin(world, at + number * DAY / 12, "acme", [agent], "engineering", user="user:grace")
        claims = _claims(task, agent, tool.endpoint, wide)
        incident.say(task.say("issuance", **_issued(task, claims, agent)))
        target = world.resource("ticket", "acme")
        decision = task.decision(claims, tool.pep, action, target, task.verdict(action, target, agent))
        incident.say(decision)
        incident.say(task.done(decision))
        task.end()


def break_glass(world: World, at: float) -> None:
    """Failure mode 5: an exception without an owner and an end, used, and never looked at again."""
    incident = world.plant("break-glass", ["break-glass"], [HELPER], 5)
    bare: dict[str, Any] = {
        "exception_id": f"exc-{world.new_id()[:8]}", "delegated_actor": HELPER, "scopes": ["deploy:start"],
        "resource": "deploy:*", "impact": "high", "environment": "production",
    }  # fmt: skip
    incident.say(world.say("exception", at, **bare, outcome="opened", request_id=world.new_id()))
    for number in range(2):
        task = Task.begin(
            world, at + 600 + number * 5 * HOUR, "acme", [HELPER], "engineering", user="user:grace"
        )
        tool, action = world.action("deploy:start")
        target = world.resource("deploy", "acme")
        claims = task.capability(HELPER, tool, action, exception_id=bare["exception_id"])
        verdict = task.verdict(action, target, HELPER, break_glass=True)
        decision = task.decision(claims, tool.pep, action, target, verdict, exception_id=bare["exception_id"])
        incident.say(task.say("exception", **bare, outcome="used"))
        incident.say(decision)
        incident.say(task.done(decision))
        task.end()


def no_context(world: World, at: float) -> None:
    """Failure mode 6: an old decision point logs yes and no, and little else."""
    incident = world.plant("no-context", ["missing-context"], [TRIAGE], 6)
    for number in range(20):
        incident.say(
            world.say(
                "decision", at + number * 120, source="legacy-pdp", instance="legacy-pdp-1",
                delegated_actor=TRIAGE, action="ticket:read", resource=world.resource("ticket", "acme").id,
                decision="allow", tenant="acme", environment="production",
            )
        )  # fmt: skip


def credential_theft(world: World, at: float) -> None:
    """A capability is used from elsewhere; it is revoked, and one enforcement point is late to hear of it."""
    incident = world.plant(
        "credential-theft", ["credential-replay", "ineffective-revocation"], [PAYER, "user:erin"]
    )
    task = Task.begin(
        world, at, "cedarline", [PAYER], "finance", user="user:erin",
        data_classes=["internal", "confidential", "restricted"],
    )  # fmt: skip
    tool, action = world.action("payment:read")
    target = world.resource("payment", "cedarline")
    claims = task.capability(PAYER, tool, action)
    verdict = task.verdict(action, target, PAYER)
    own = task.decision(claims, tool.pep, action, target, verdict)
    incident.say(own)
    task.done(own)
    task.wait(60, 120)
    home, task.address = task.address, "203.0.113.77"
    for _ in range(3):
        decision = task.decision(claims, tool.pep, action, world.resource("payment", "cedarline"), verdict)
        incident.say(decision)
        incident.say(task.done(decision))
        task.wait(20, 60)
    incident.say(_signal(task, claims.jti))
    task.wait(20, 40)
    late = task.decision(claims, tool.pep, action, target, verdict)
    incident.say(late)
    incident.say(task.done(late))
    task.wait(1, 3)
    incident.say(task.decision(claims, tool.pep, action, target, task.denied("credential_revoked")))
    task.address = home
    task.end(outcome="failed")


def delegated_abuse(world: World, at: float) -> None:
    """An agent hands over to a stranger, which looks for what it may not see, and finds it."""
    other = "agent:production/report-writer"
    incident = world.plant(
        "delegated-abuse", ["unusual-delegation", "undelegated-crossing", "cross-tenant-attempts"],
        [TRIAGE, other],
    )  # fmt: skip
    task = Task.begin(world, at, "acme", [TRIAGE], "support", user="user:alice")
    root = task.root(TRIAGE)
    handed = task.claims(
        [*root.chain, other], other, ["customer:read"], life=900, version=root.policy_version, parent=root.jti
    )
    incident.say(task.say("issuance", **_issued(task, handed, TRIAGE)))
    tool, action = world.action("customer:read")
    claims = task.claims(
        [*root.chain, other], tool.endpoint, ["customer:read"], life=300, version=root.policy_version,
        parent=handed.jti,
    )  # fmt: skip
    incident.say(task.say("issuance", **_issued(task, claims, other)))
    for tenant in ("borealis", "cedarline", "elmwood", "borealis"):
        target = world.resource("customer", tenant)
        incident.say(
            task.decision(claims, tool.pep, action, target, task.denied("tenant_boundary", "tenant-boundary"))
        )
        task.wait(5, 20)
    target = world.resource("customer", "elmwood")
    allowed = _allowed(task)
    decision = task.decision(claims, tool.pep, action, target, allowed, source=LEGACY)
    incident.say(decision)
    incident.say(task.done(decision, source=LEGACY))
    task.end()


def _claims(task: Task, agent: str, audience: str, scopes: list[str]) -> CredentialClaims:
    return task.claims(
        [task.session.user, agent], audience, scopes, life=900,
        version=task.world.engine.bundle.version, parent=task.session.sid,
    )  # fmt: skip


def _issued(task: Task, claims: CredentialClaims, workload: str) -> Fields:
    return merged(
        of_credential(claims), of_workload(workload), task.policy(),
        {"pep": "broker", "decision": "allow", "policy_id": "credential-for-workloads"},
    )  # fmt: skip


def _allowed(task: Task) -> Verdict:
    bundle = task.world.engine.bundle
    return Verdict("allow", None, "agent-within-scopes", bundle.version, bundle.digest)


def _signal(task: Task, jti: str) -> Fields:
    task.say("revocation", target=f"credential:{jti}", reason="credential-compromised", outcome="revoked",
             attributes={"cause": "revocation", "event": CREDENTIAL_CHANGE})  # fmt: skip
    return task.say("signal", target=f"credential:{jti}", reason="credential-compromised")
