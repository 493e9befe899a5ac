"""Drills: declared exercises, whose events say so, and whose timing is read from the ledger afterwards."""

from __future__ import annotations

from issuer.emitting.steps import Fields, merged, of_policy
from issuer.policy.bundle import Bundle
from issuer.scenarios.flow import Task
from issuer.scenarios.healthy import RESEARCH, TRIAGE
from issuer.scenarios.world import World, example_bundle

POINTS = (("tool_router", "ticket:read", TRIAGE), ("data_adapter", "customer:read", RESEARCH))


def revocation_drill(world: World, at: float) -> None:
    """A session is revoked in an emergency; every enforcement point blocks within seconds."""
    incident = world.plant("revocation-drill", [], [TRIAGE, RESEARCH])
    world.exercise = f"drill-revocation-{world.new_id()[:8]}"
    task = Task.begin(world, at, "acme", [TRIAGE, RESEARCH], "support", user="user:alice")
    held = []
    for _, name, agent in POINTS:
        tool, action = world.action(name)
        target = world.resource(action.resource_type, "acme")
        claims = task.capability(agent, tool, action)
        decision = task.decision(claims, tool.pep, action, target, task.verdict(action, target, agent))
        incident.say(task.done(decision))
        held.append((claims, tool, action, target))
    task.wait(5, 10)
    sid = task.session.sid
    incident.say(task.say("signal", target=f"session:{sid}", reason="session-revoked"))
    incident.say(
        task.say(
            "revocation", target=f"session:{sid}", reason="emergency drill", outcome="revoked",
            attributes={"cause": "revocation"},
        )
    )  # fmt: skip
    for claims, tool, action, target in held:
        task.wait(0.2, 0.9)
        incident.say(task.decision(claims, tool.pep, action, target, task.denied("session_revoked")))
    task.wait(1, 2)
    incident.say(task.say("session", outcome="ended", reason="revocation"))
    incident.say(task.say("task", outcome="failed", reason="revocation"))
    world.exercise = None


def rollback_drill(world: World, at: float) -> None:
    """A policy that is too tight is activated, honest calls are denied, and it is rolled back."""
    incident = world.plant("rollback-drill", [], [TRIAGE])
    world.exercise = f"drill-rollback-{world.new_id()[:8]}"
    first = world.engine.bundle
    second = tighter()
    incident.say(_activated(world, at, second, first.version, outcome="activated"))
    world.use_policy(second)
    task = Task.begin(world, at + 5, "acme", [TRIAGE], "support", user="user:alice")
    task.broken = True
    ticket = world.resource("ticket", "acme")
    task.call(TRIAGE, "ticket:read", ticket)
    for _ in range(3):
        task.call(TRIAGE, "ticket:update", ticket)
        incident.say(world.events[-1])
        task.wait(5, 15)
    task.end()
    incident.say(
        _activated(world, task.at + 30, first, second.version, outcome="rolled_back", approval_id="CHG-drill")
    )
    world.use_policy(first)
    for pep in ("tool_router", "data_adapter", "gateway"):
        incident.say(
            world.say(
                "revocation", task.at + 30.4, target=f"policy:{first.version}", reason="policy-change",
                pep=pep, outcome="dropped", environment="production", request_id=world.new_id(),
                attributes={"cause": "policy_change"},
            )
        )  # fmt: skip
    after = Task.begin(world, task.at + 40, "acme", [TRIAGE], "support", user="user:alice")
    after.call(TRIAGE, "ticket:update", ticket)
    incident.say(world.events[-1])
    after.end()
    world.exercise = None


def tighter() -> Bundle:
    """Version 2 of the example's policy: writing is denied at a much lower risk."""
    first = example_bundle()
    return example_bundle(
        {
            "bundle.yml": first.files["bundle.yml"].replace(b'version: "1"', b'version: "2"'),
            "bounds.cedar": first.files["bounds.cedar"].replace(b"session.risk >= 40", b"session.risk >= 5"),
        }
    )


def _activated(
    world: World, at: float, bundle: Bundle, before: str, *, outcome: str, approval_id: str | None = None
) -> Fields:
    return world.say(
        "policy", at,
        **merged(
            of_policy(bundle.version, bundle.digest),
            {"policy_id": bundle.about.name, "previous_policy_version": before, "outcome": outcome,
             "owner": bundle.about.author, "approved_by": "user:dan", "approval_id": approval_id,
             "reason": "drill", "request_id": world.new_id()},
        ),
    )  # fmt: skip
