"""A generated day of a small company's agents, as native events: what `demo` seals.

Seeded: the same seed gives the same events. Three teams' agents work on tickets for two tenants;
each task is one trace from the user's session over token exchange and policy decisions to the tool
calls. One planted trace asks for more than its delegation allows, and is denied.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

SOURCE: Final = "issuer/demo"
POLICY: Final = "2026-11-20.3"
TENANTS: Final = ("acme", "globex")
USERS: Final = ("user:alice", "user:bob", "user:chen", "user:dana")
TEAMS: Final = {
    "agent:support-planner": ("agent:ticket-reader", "agent:reply-writer"),
    "agent:finance-planner": ("agent:invoice-matcher", "agent:ledger-poster"),
    "agent:ops-planner": ("agent:log-searcher", "agent:restart-runner"),
}
TOOLS: Final = {
    "agent:ticket-reader": ("ticket:read", "ticket", "read", "low", "internal"),
    "agent:reply-writer": ("ticket:reply", "ticket", "write", "medium", "internal"),
    "agent:invoice-matcher": ("invoice:read", "invoice", "read", "medium", "confidential"),
    "agent:ledger-poster": ("payment:post", "payment", "write", "high", "restricted"),
    "agent:log-searcher": ("log:search", "log", "read", "low", "internal"),
    "agent:restart-runner": ("service:restart", "service", "execute", "high", "internal"),
}
DENY_REASONS: Final = ("scope_missing", "tenant_boundary", "risk_too_high", "outside_hours")
DENIED_ONE_IN: Final = 17


class SampleDay:
    """The events of one UTC day from `start`, `tasks` tasks in all."""

    def __init__(self, start: datetime, *, tasks: int = 600, seed: int = 7) -> None:
        self.start = start
        self.tasks = tasks
        self._random = random.Random(seed)  # noqa: S311 - a repeatable story, not a secret
        self._seed = seed
        self.denied_trace = self._id("trace", "planted", 32)

    def events(self) -> Iterator[dict[str, Any]]:
        """Events in order of time, as senders put them on the wire."""
        stories = [story for task in range(self.tasks) for story in self._task(task)]
        stories += self._planted()
        stories.sort(key=lambda event: (event["time"], event["event_id"]))
        for sequence, event in enumerate(stories):
            yield {**event, "sequence": sequence}

    def _task(self, task: int) -> list[dict[str, Any]]:
        chance = self._random
        planner = chance.choice(sorted(TEAMS))
        when = self.start + timedelta(seconds=chance.uniform(0, 86_000))
        base = self._base(task, chance.choice(USERS), planner, chance.choice(TENANTS))
        events = [self._issuance(base, when, [f"{TOOLS[a][1]}:*" for a in TEAMS[planner]], None)]
        denied = False
        for call in range(chance.randint(1, 4)):
            agent = chance.choice(TEAMS[planner])
            when += timedelta(milliseconds=chance.randint(40, 2_500))
            refused = chance.randrange(DENIED_ONE_IN) == 0
            denied |= refused
            reason = chance.choice(DENY_REASONS) if refused else None
            events += self._call(base, when, agent, call, reason, number=str(chance.randint(1_000, 9_999)))
        when += timedelta(milliseconds=chance.randint(100, 900))
        outcome = "failed" if denied else "succeeded"
        events.append(self._event(base, when, "task", "end", action=None, outcome=outcome))
        return events

    def _planted(self) -> list[dict[str, Any]]:
        when = self.start + timedelta(hours=14, minutes=3)
        base = self._base(self.tasks, "user:alice", "agent:finance-planner", "acme")
        base["trace_id"] = self.denied_trace
        events = [self._issuance(base, when, ["invoice:*"], None)]
        step = timedelta(milliseconds=350)
        events += self._call(base, when + step, "agent:invoice-matcher", 0, None, number="2217")
        events += self._call(base, when + 2 * step, "agent:ledger-poster", 1, "scope_missing", number="8841")
        events.append(
            self._event(base, when + 3 * step, "task", "end", action=None, outcome="failed", reason="denied")
        )
        return events

    def _base(self, task: int, user: str, planner: str, tenant: str) -> dict[str, Any]:
        name = str(task)
        return {
            "tenant": tenant,
            "environment": "production",
            "trust_zone": "internal",
            "trace_id": self._id("trace", name, 32),
            "task_id": f"task-{task:05d}",
            "session_id": self._id("session", name, 16),
            "session_risk": 12,
            "session_verified": True,
            "actor": user,
            "delegated_actor": planner,
            "delegation": [user, planner],
            "request_id": self._id("request", name, 16),
        }

    def _issuance(
        self, base: dict[str, Any], when: datetime, scopes: list[str], parent: str | None
    ) -> dict[str, Any]:
        span = self._id("span", base["trace_id"] + "issue", 16)
        return self._event(
            base, when, "issuance", "token", span_id=span, pep="broker", decision="allow",
            credential_id=self._id("credential", base["trace_id"], 16), parent_credential_id=parent,
            credential_type="session", scopes=scopes, expires_at=_time(when + timedelta(minutes=30)),
        )  # fmt: skip

    def _call(
        self, base: dict[str, Any], when: datetime, agent: str, call: int, refused: str | None, *, number: str
    ) -> list[dict[str, Any]]:
        action, resource, action_type, impact, data_class = TOOLS[agent]
        key = f"{base['trace_id']}{call}"
        shared = {
            **base,
            "delegated_actor": agent,
            "delegation": [*base["delegation"], agent],
            "action": action,
            "action_type": action_type,
            "impact": impact,
            "data_class": data_class,
            "resource": f"{resource}:{number}",
            "resource_tenant": base["tenant"],
            "workload": f"spiffe://demo.example/{agent.partition(':')[2]}",
            "credential_id": self._id("credential", key, 16),
            "parent_credential_id": self._id("credential", base["trace_id"], 16),
            "credential_type": "capability",
            "audience": f"tool:{resource}",
            "scopes": [action],
            "required_scopes": [action],
            "expires_at": _time(when + timedelta(minutes=5)),
        }
        if refused == "tenant_boundary":
            shared["resource_tenant"] = next(name for name in TENANTS if name != base["tenant"])
        span = self._id("span", key, 16)
        decided = self._event(
            shared, when, "decision", f"decide{call}", span_id=span, pep="tool_router",
            parent_span_id=self._id("span", base["trace_id"] + "issue", 16),
            decision="deny" if refused else "allow", reason=refused,
            attributes={"ticket": f"T-{number}", "hops": len(shared["delegation"]) - 1},
        )  # fmt: skip
        if refused:
            return [decided]
        done = when + timedelta(milliseconds=25)
        return [
            decided,
            self._event(
                shared, done, "action", f"act{call}", span_id=self._id("span", key + "act", 16),
                parent_span_id=span, pep="tool_router", outcome="succeeded", decision_ref=decided["event_id"],
            ),
        ]  # fmt: skip

    def _event(
        self, base: dict[str, Any], when: datetime, kind: str, name: str, **more: Any
    ) -> dict[str, Any]:
        event = {
            "event_id": self._id("event", base["trace_id"] + name, 32),
            "kind": kind,
            "time": _time(when),
            "source": SOURCE,
            "instance": "demo-1",
            "policy_id": "agents",
            "policy_version": POLICY,
            "policy_engine": "cedar",
            **base,
            **more,
        }
        return {field: value for field, value in event.items() if value is not None}

    def _id(self, kind: str, name: str, digits: int) -> str:
        return hashlib.sha256(f"{self._seed}/{kind}/{name}".encode()).hexdigest()[:digits]


def _time(when: datetime) -> str:
    return when.isoformat(timespec="microseconds").replace("+00:00", "Z")
