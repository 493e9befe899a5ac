"""A company at work, with what fools naive rules in it: retries, step-ups, a new agent, a nightly batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from issuer.emitting.steps import merged, of_grant, of_workload, time_text
from issuer.scenarios.flow import Task
from issuer.scenarios.world import TENANTS, World

HOUR: Final = 3_600.0
DAY: Final = 24 * HOUR
TRIAGE: Final = "agent:production/support-triage"
REPLY: Final = "agent:production/support-reply"
RESEARCH: Final = "agent:production/crm-research"
MATCHER: Final = "agent:production/invoice-matcher"
PAYER: Final = "agent:production/payment-runner"
REVIEWER: Final = "agent:production/code-reviewer"
RELEASE: Final = "agent:production/release-manager"
HELPER: Final = "agent:production/incident-helper"
STAGING: Final = "agent:staging/release-manager"
QA: Final = "agent:development/qa-runner"
REPORTER: Final = "agent:production/report-writer"

Story = Callable[[World, float, str], None]


def support(world: World, at: float, tenant: str) -> None:
    """A customer's question: read, looked up, answered by mail."""
    task = Task.begin(world, at, tenant, [TRIAGE, REPLY], "support")
    ticket = world.resource("ticket", tenant)
    task.call(TRIAGE, "ticket:read", ticket)
    if world.chance.random() < 0.6:
        task.call(TRIAGE, "customer:read", world.resource("customer", tenant))
    task.call(TRIAGE, "ticket:update", ticket)
    if world.chance.random() < 0.7:
        root = task.root(TRIAGE)
        handed = task.issue(
            REPLY, REPLY, ["ticket:read"], parent=root, life=900, grant_id="grant-support-handover"
        )
        tool, action = world.action("ticket:read")
        task.call(REPLY, "ticket:read", ticket, claims=task.capability(REPLY, tool, action, parent=handed))
        task.call(REPLY, "ticket:notify", ticket, destination="mail")
    task.end()


def research(world: World, at: float, tenant: str) -> None:
    """Somebody wants to know about a customer."""
    task = Task.begin(world, at, tenant, [RESEARCH], "support")
    for _ in range(world.chance.randint(1, 4)):
        task.call(RESEARCH, "customer:read", world.resource("customer", tenant))
    task.end()


def invoices(world: World, at: float, tenant: str) -> None:
    """Invoices are matched."""
    task = Task.begin(world, at, tenant, [MATCHER], "finance")
    for _ in range(world.chance.randint(2, 6)):
        invoice = world.resource("invoice", tenant)
        task.call(MATCHER, "invoice:read", invoice)
        if world.chance.random() < 0.5:
            task.call(MATCHER, "invoice:update", invoice)
    task.end()


def payment(world: World, at: float, tenant: str) -> None:
    """A payment, for which somebody else's word is asked and given: a deny, and then an allow."""
    task = Task.begin(
        world, at, "cedarline", [PAYER], "finance", user="user:erin",
        data_classes=["internal", "confidential", "restricted"],
    )  # fmt: skip
    del tenant
    target = world.resource("payment", "cedarline")
    _, action = world.action("payment:send")
    task.call(PAYER, "payment:read", target)
    task.call(PAYER, "payment:send", target)
    approval = task.approve(PAYER, action, target, "user:dan")
    task.call(PAYER, "payment:send", target, approved_by="user:dan", approval_id=approval, destination="bank")
    task.end()


def review(world: World, at: float, tenant: str) -> None:
    """A change is read and commented."""
    task = Task.begin(world, at, tenant, [REVIEWER], "engineering")
    repository = world.resource("repository", tenant)
    for _ in range(world.chance.randint(1, 3)):
        task.call(REVIEWER, "repository:read", repository)
    task.call(REVIEWER, "repository:comment", repository)
    task.end()


def retry(world: World, at: float, tenant: str) -> None:
    """A permission that has not arrived everywhere yet: denied a few times, then allowed."""
    task = Task.begin(world, at, tenant, [TRIAGE], "support")
    ticket = world.resource("ticket", tenant)
    tool, action = world.action("ticket:update")
    for _ in range(world.chance.randint(2, 4)):
        claims = task.capability(TRIAGE, tool, action)
        task.decision(claims, "tool_router", action, ticket, task.denied("scope_missing"))
        task.wait(2, 8)
    task.call(TRIAGE, "ticket:update", ticket)
    task.end()


def boundary(world: World, at: float, tenant: str) -> None:
    """A typing error: somebody else's ticket is asked for, and refused."""
    task = Task.begin(world, at, tenant, [TRIAGE], "support")
    others = [name for name in TENANTS if name != tenant]
    task.call(TRIAGE, "ticket:read", world.resource("ticket", world.chance.choice(others)))
    task.call(TRIAGE, "ticket:read", world.resource("ticket", tenant))
    task.end()


def release(world: World, at: float, tenant: str) -> None:
    """The one on call starts a release, with somebody's word."""
    task = Task.begin(world, at, "acme", [RELEASE], "release", user="user:grace")
    del tenant
    target = world.resource("deploy", "acme")
    _, action = world.action("deploy:start")
    task.call(RELEASE, "deploy:read", target)
    task.call(RELEASE, "deploy:start", target)
    approval = task.approve(RELEASE, action, target, "user:dan")
    task.call(RELEASE, "deploy:start", target, approved_by="user:dan", approval_id=approval)
    task.end()


def rehearsal(world: World, at: float, tenant: str) -> None:
    """A release is tried in staging, and a change in development, each by the agent of its environment."""
    del tenant
    stage = Task.begin(world, at, "acme", [STAGING], "release", environment="staging", user="user:grace")
    target = world.registry.resources["deploy:web-staging"]
    stage.call(STAGING, "deploy:read", target)
    stage.call(STAGING, "deploy:start", target)
    stage.end()
    sandbox = Task.begin(
        world, stage.at + 60, "acme", [QA], "engineering", environment="development", user="user:grace"
    )
    changed = world.registry.resources["repository:web-development"]
    sandbox.call(QA, "repository:read", changed)
    sandbox.call(QA, "repository:comment", changed)
    sandbox.end()


def nightly_batch(world: World, day: float) -> None:
    """At two in the morning each tenant's invoices are read, one after the other."""
    at = day + 2 * HOUR
    for tenant in TENANTS:
        if tenant == "dunmore":
            continue  # who may see nothing confidential has no invoices
        task = Task.begin(world, at, tenant, [REPORTER], "reporting")
        for _ in range(40):
            task.call(REPORTER, "invoice:read", world.resource("invoice", tenant))
        task.end()
        at = task.at + 60


def release_day(world: World, day: float) -> None:
    """A release goes out, and for some minutes many honest calls are denied: new scopes are not there yet."""
    release(world, day + 10 * HOUR, "acme")
    for number in range(12):
        retry(world, day + 10 * HOUR + 200 + number * 25, TENANTS[number % 5])


def oncall_override(world: World, day: float) -> None:
    """An exception in the night, as it should be: opened with all it needs, used, closed, reviewed."""
    at = day + 3.2 * HOUR
    exception: dict[str, Any] = {
        "exception_id": "exc-oncall", "owner": "user:carol", "approved_by": "user:dan", "impact": "high",
        "reason": "the night's release must be taken back", "environment": "production",
        "delegated_actor": HELPER, "scopes": ["deploy:start"], "resource": "deploy:1000",
    }  # fmt: skip
    lived = {
        "issued_at": time_text(at),
        "expires_at": time_text(at + 2 * HOUR),
        "review_due_at": time_text(at + 2 * DAY),
    }
    world.say("exception", at, **exception, **lived, outcome="opened", request_id=world.new_id())
    task = Task.begin(world, at + 60, "acme", [HELPER], "engineering", user="user:grace")
    tool, action = world.action("deploy:start")
    claims = task.capability(HELPER, tool, action, exception_id="exc-oncall")
    target = world.registry.resources["deploy:1000"]
    verdict = task.verdict(action, target, HELPER, break_glass=True)
    decision = task.decision(claims, tool.pep, action, target, verdict, exception_id="exc-oncall")
    task.say("exception", **exception, **lived, outcome="used")
    task.done(decision)
    task.end()
    closed = task.at + 300
    world.say("exception", closed, **exception, **lived, outcome="closed", request_id=world.new_id())
    world.say(
        "exception", closed + DAY, **exception, **lived, outcome="reviewed", comment="as agreed",
        request_id=world.new_id(),
    )  # fmt: skip


def heartbeats(world: World, begin: float, end: float) -> None:
    """The emitter says once an hour that it lives; what it sent is filled in when all is in order."""
    at = begin + HOUR
    while at < end:
        world.say("heartbeat", at, outcome="alive", request_id=world.new_id())
        at += HOUR


STORIES: Final[tuple[tuple[Story, float], ...]] = (
    (support, 10.0), (research, 4.0), (invoices, 4.0), (review, 4.0), (payment, 1.0), (release, 0.3),
    (rehearsal, 0.8), (retry, 0.7), (boundary, 0.5),
)  # fmt: skip
"""What happens in a company, and how often beside the rest."""


def traffic(world: World, day: float, *, rate: float, hours: float = 24.0) -> None:
    """A day's tasks: `rate` of them in a working hour, few at night, fewer on a weekend."""
    weekend = int((day - world.start) // DAY) % 7 in (5, 6)
    stories, weights = zip(*STORIES, strict=True)
    hour = 0.0
    while hour < hours:
        clock = int(hour) % 24
        busy = 1.0 if 8 <= clock < 18 else 0.08
        expected = rate * busy * (0.1 if weekend else 1.0) * min(1.0, hours - hour)
        count = int(expected) + (world.chance.random() < expected % 1)
        for _ in range(count):
            story: Story = world.chance.choices(stories, weights)[0]
            begin = day + (hour + world.chance.random() * min(1.0, hours - hour)) * HOUR
            story(world, begin, world.chance.choice(_tenants(story)))
        hour += 1.0


def first_policy(world: World, at: float) -> None:
    """The policy that decides was activated, by somebody's word, before all this."""
    bundle = world.engine.bundle
    world.say(
        "policy", at,
        **merged(
            {"policy_id": bundle.about.name, "policy_version": bundle.version, "policy_digest": bundle.digest,
             "policy_engine": "cedar", "owner": bundle.about.author, "approved_by": "user:dan",
             "reason": "the first policy of this deployment", "outcome": "activated",
             "request_id": world.new_id()},
            of_workload("broker:production/main"),
        ),
    )  # fmt: skip


def first_grants(world: World, at: float) -> None:
    """The grants that hand-overs rest on were opened before."""
    for grant in world.registry.grants.values():
        world.say(
            "delegation", at, **of_grant(grant), issued_at=time_text(at), environment="production",
            outcome="opened", request_id=world.new_id(),
        )  # fmt: skip


def _tenants(story: Story) -> list[str]:
    # Who may see nothing confidential has no invoices and no customers.
    return [name for name in TENANTS if name != "dunmore" or story in (review, retry, boundary)]
