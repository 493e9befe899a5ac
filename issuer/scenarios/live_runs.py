"""What is played against started services: healthy tasks, and the two drills."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from issuer.scenarios.live import Live, Opened
from ledger.errors import UsageError

TRIAGE: Final = "agent:production/support-triage"
RESEARCH: Final = "agent:production/crm-research"
MATCHER: Final = "agent:production/invoice-matcher"
REPLY: Final = "agent:production/support-reply"
RUNNER: Final = "agent:production/refund-runner"
HELPER: Final = "agent:production/incident-helper"
REPORTER: Final = "agent:production/report-writer"
USES: Final = (
    ("tool_router", TRIAGE, "ticket:read", "ticket:4711", "support"),
    ("data_adapter", RESEARCH, "customer:read", "customer:100", "support"),
    ("gateway", HELPER, "deploy:read", "deploy:web", "support"),
    ("worker", RESEARCH, "report:run", "report:monthly", "support"),
)
"""One accepted use at each enforcement point that answers at once."""
BLOCK_SECONDS: Final = 10.0
"""How long a drill waits for the first refusal: beyond every bound."""
TRY_SECONDS: Final = 0.02


@dataclass(slots=True)
class LiveRun:
    """What was done, for the truth beside it."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    trace_ids: list[str] = field(default_factory=list)

    def say(self, session: Opened, what: str, answer: httpx.Response) -> httpx.Response:
        """One call."""
        self.calls.append(
            {"trace_id": session.trace_id, "call": what, "status": answer.status_code,
             "request_id": answer.headers.get("x-request-id")}
        )  # fmt: skip
        return answer


def healthy_tasks(live: Live, seed: int, count: int) -> LiveRun:
    """So many tasks of a working hour, one after the other, with a step-up among them."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable story, not a secret
    run = LiveRun()
    for number in range(count):
        if number % 7 == 3:
            _refund(live, run)
            continue
        agent, purpose, scopes, steps = chance.choice(_STORIES)
        session = live.session("user:alice", [agent], purpose, list(scopes))
        run.trace_ids.append(session.trace_id)
        for action, resource in steps:
            answer = run.say(session, action, live.do(agent, session, action, resource))
            queued = answer.json().get("result", {}).get("queued")
            if queued is not None:
                # What waits in a queue counts only while its session does.
                _until(lambda message=queued: live.is_done(message))  # type: ignore[misc]  # a default argument
        live.end(session)
    return run


_STORIES: Final = (
    (TRIAGE, "support", ("ticket:read", "ticket:update"),
     (("ticket:read", "ticket:4711"), ("ticket:update", "ticket:4711"))),
    (RESEARCH, "support", ("customer:read",), (("customer:read", "customer:100"),)),
    (MATCHER, "finance", ("invoice:read", "invoice:update"),
     (("invoice:read", "invoice:2217"), ("invoice:update", "invoice:2217"))),
    (REPORTER, "reporting", ("report:run",), (("report:run", "report:monthly"),)),
)  # fmt: skip


def _refund(live: Live, run: LiveRun) -> None:
    """A refund: refused, approved by somebody else, carried out."""
    session = live.session("user:erin", [RUNNER], "finance", ["payment:refund"])
    run.trace_ids.append(session.trace_id)
    first = run.say(session, "payment:refund", live.do(RUNNER, session, "payment:refund", "payment:8842"))
    approval = first.json().get("approval_id")
    if approval is None:
        raise UsageError(f"A refund was answered with {first.status_code}, without a request for approval.")
    live.as_person("user:dan", f"/approvals/{approval}/approve")
    run.say(session, "payment:refund", live.do(RUNNER, session, "payment:refund", "payment:8842"))
    live.end(session)


@dataclass(frozen=True, slots=True)
class RevocationDrill:
    """A drill that was run: its id, and what was measured from outside."""

    id: str
    sid: str
    trace_id: str
    blocked_after: dict[str, float]
    """Seconds from the revocation to the first refusal, by enforcement point, as the caller saw them."""


def revocation_drill(live: Live, revoke: Callable[[str], None]) -> RevocationDrill:
    """A session is used at each enforcement point, then revoked; each is tried until it refuses.

    Raises:
        UsageError: a use was refused before, or not refused in time.
    """
    name = f"drill-revocation-{secrets.token_hex(4)}"
    scopes = [*(action for _, _, action, _, _ in USES), "ticket:notify"]
    agents = sorted({REPLY, *(agent for _, agent, *_ in USES)})
    session = live.session("user:grace", agents, "support", scopes, exercise=name)
    outward = live.exchange(
        REPLY, session.token, audience=f"egress:{live.environment}/mail", scope="ticket:notify"
    )
    held = {}
    for pep, agent, action, resource, _ in USES:
        tool, _ = live.where(action)
        token = live.exchange(agent, session.token, audience=f"tool:{live.environment}/{tool}", scope=action)
        answer = live.call(agent, token, action, resource)
        if answer.status_code != 200:
            raise UsageError(f"{pep} refused {action} before the drill: {answer.status_code}.")
        held[pep] = (agent, token, action, resource)
    begun = time.monotonic()
    revoke(session.sid)
    blocked: dict[str, float] = {}
    while len(blocked) < len(held):
        for pep, (agent, token, action, resource) in held.items():
            if pep not in blocked and live.call(agent, token, action, resource).status_code != 200:
                blocked[pep] = time.monotonic() - begun
        if time.monotonic() - begun > BLOCK_SECONDS:
            raise UsageError(f"Not every enforcement point refused within {BLOCK_SECONDS:g} s: {blocked}.")
        time.sleep(TRY_SECONDS)
    # Last, when the others have heard: a drill sends nothing out of the house.
    _until(lambda: live.send(REPLY, outward, "mail", "/v1/messages").status_code == 401)
    blocked["egress"] = time.monotonic() - begun
    return RevocationDrill(name, session.sid, session.trace_id, blocked)


@dataclass(frozen=True, slots=True)
class RollbackDrill:
    """A drill that was run: its id, and whether every request was answered meanwhile."""

    id: str
    trace_id: str
    answered: int
    unanswered: int


def rollback_drill(live: Live, roll_back: Callable[[], None]) -> RollbackDrill:
    """A policy is rolled back while requests go on; every one of them must be answered."""
    name = f"drill-rollback-{secrets.token_hex(4)}"
    session = live.session("user:alice", [TRIAGE], "support", ["ticket:read"], exercise=name)
    token = live.exchange(
        TRIAGE, session.token, audience=f"tool:{live.environment}/tickets", scope="ticket:read"
    )
    counts = {"answered": 0, "unanswered": 0}
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                status = live.call(TRIAGE, token, "ticket:read", "ticket:4711").status_code
            except httpx.HTTPError:
                status = 599
            counts["answered" if status < 500 else "unanswered"] += 1

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        _until(lambda: counts["answered"] >= 5 or counts["unanswered"] > 0)
        roll_back()
        reached = counts["answered"] + 20
        _until(lambda: counts["answered"] >= reached or counts["unanswered"] > 0)
    finally:
        stop.set()
        asking.join()
    live.end(session)
    return RollbackDrill(name, session.trace_id, counts["answered"], counts["unanswered"])


def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + BLOCK_SECONDS
    while not reached():
        if time.monotonic() > end:
            raise UsageError("The services answer too slowly for a drill.")
        time.sleep(TRY_SECONDS)
