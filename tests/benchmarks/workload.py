"""Native decision events for benchmarks: 38 fields or 40, about 1,060 bytes of JSON, by seed.

A request of a session is a trace of some six events, interleaved with those of `OPEN_TRACES` others;
a session makes some ten requests. Event, request, credential and trace ids hold 128 random bits, span
ids 64; the first three and the span are new for every event. Three events in ten carry `attributes`. All
times of up to a million events lie on one UTC date.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from ledger.events import ARROW_SCHEMA

START = datetime(2026, 11, 23, tzinfo=UTC)
MEAN_GAP_US = 50_000
TRACES_PER_SESSION = 10
EVENTS_PER_TRACE = 6
OPEN_TRACES = 16
PEOPLE = 60
TICKETS = 500
RANDOM_IDS = {
    "event_id": 16, "request_id": 16, "trace_id": 16, "credential_id": 16, "session_id": 16, "span_id": 8,
}  # fmt: skip
"""Random bytes in each distinct value of the id fields."""
TOPIC = "decisions"
TOPIC_ID = "q1Wl0r6pQ2mYx3b7Zt9KcA"
PARTITIONS = 4

_ACTIONS = (
    ("ticket:read", "read", "low", "internal"),
    ("ticket:update", "write", "low", "internal"),
    ("repo:read", "read", "low", "confidential"),
    ("repo:merge", "write", "high", "confidential"),
    ("customer:export", "read", "high", "restricted"),
    ("deploy:start", "execute", "high", "internal"),
    ("mail:send", "execute", "medium", "public"),
    ("role:assign", "admin", "high", "restricted"),
)
_TENANTS = ("acme", "globex", "initech", "umbrella", "hooli")
_AGENTS = ("triage", "release", "support", "research", "billing", "oncall")
_PEPS = ("gateway", "broker", "tool_router", "data_adapter", "egress", "worker")
_REASONS = ("policy-allow", "policy-allow", "policy-allow", "scope-exceeded", "tenant-mismatch")
_CHANNELS = ("chat", "mail", "schedule")
_PURPOSES = (
    "resolve the customer's open request",
    "prepare the weekly release notes",
    "answer a question about an invoice",
)


def _stream(seed: int) -> Iterator[dict[str, Any]]:
    rng = Random(seed)
    rand, pick, bits = rng.random, rng.choice, rng.randbytes
    now_us = 0
    second, second_text = -1, ""
    sequences = [0] * 8
    people = [
        (f"user:{pick('abcdefgh')}{int(rand() * 400):03d}", pick(_TENANTS), f"10.3.{int(rand() * 9)}.{n}")
        for n in range(PEOPLE)
    ]
    sessions: list[tuple[str, str, str, str, int, str, str]] = []
    traces: list[tuple[str, str, tuple[str, str, str, str, int, str, str]]] = []
    while True:
        at = int(rand() * OPEN_TRACES)
        if at >= len(traces) or rand() < 1 / EVENTS_PER_TRACE:
            if not sessions or rand() < 1 / TRACES_PER_SESSION:
                expires = START + timedelta(hours=8, minutes=now_us // 300_000_000 * 5)
                actor, tenant, address = people[int(rand() * PEOPLE)]
                agent = f"agent:{pick(_AGENTS)}-{int(rand() * 2)}"
                until = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
                sessions.append((bits(16).hex(), tenant, actor, agent, int(rand() * 7) * 10, until, address))
                del sessions[:-64]
            ticket = f"ticket:{int(rand() * rand() * TICKETS)}"
            traces[at : at + 1] = [(bits(16).hex(), ticket, sessions[int(rand() * len(sessions))])]
        trace, ticket, session_of = traces[min(at, len(traces) - 1)]
        session, tenant, actor, agent, risk, expires_at, address = session_of
        now_us += int(rand() * 2 * MEAN_GAP_US)
        if now_us // 1_000_000 != second:
            second = now_us // 1_000_000
            second_text = (START + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.")
        ids = bits(56).hex()
        shard = int(rand() * 8)
        sequences[shard] += 1
        action, action_type, impact, data_class = _ACTIONS[int(rand() * rand() * 8)]
        choice = int(rand() * 5)
        version = int(rand() * rand() * 6)
        event: dict[str, Any] = {
            "event_id": ids[:32],
            "kind": "decision" if rand() < 0.8 else "action",
            "time": f"{second_text}{now_us % 1_000_000:06d}Z",
            "source": "opa/todo-pdp" if shard < 6 else "cerbos/eu",
            "instance": f"pdp-{shard}",
            "sequence": sequences[shard],
            "pep": _PEPS[shard % 6],
            "tenant": tenant,
            "environment": "prod",
            "trust_zone": "corp",
            "request_id": ids[32:64],
            "trace_id": trace,
            "span_id": ids[96:112],
            "task_id": f"task-{now_us // 2_000_000}",
            "session_id": session,
            "session_risk": risk,
            "session_expires_at": expires_at,
            "actor": actor,
            "delegated_actor": agent,
            "delegation": [actor, agent],
            "workload": f"svc:{agent[6:]}",
            "client_ip": address,
            "action": action,
            "action_type": action_type,
            "impact": impact,
            "resource": ticket,
            "resource_tenant": tenant if choice < 4 else "acme",
            "data_class": data_class,
            "decision": "allow" if choice < 3 else "deny",
            "reason": _REASONS[choice],
            "policy_id": "todo/authz",
            "policy_version": f"v{version}",
            "roles": ["member"],
            "policy_engine": "opa",
            "credential_id": ids[64:96],
            "credential_type": "capability",
            "audience": "tickets",
            "scopes": [action],
        }
        if event["kind"] == "action":
            event["bytes_out"] = int(rand() * 9000)
        if rand() < 0.3:
            event["attributes"] = {
                "justification": _PURPOSES[choice % 3],
                "channel": _CHANNELS[version % 3],
                "urgent": choice == 4,
            }
        yield event


def events(n: int, seed: int) -> list[dict[str, Any]]:
    """`n` events in wire form."""
    return list(islice(_stream(seed), n))


def each_line(n: int, seed: int) -> Iterator[bytes]:
    """The same `n` events as JSON, one after another, without line ends."""
    return (orjson.dumps(event) for event in islice(_stream(seed), n))


def json_lines(n: int, seed: int) -> list[bytes]:
    """As `each_line`, in a list."""
    return list(each_line(n, seed))


def id_entropy(events_table: pa.Table) -> int:
    """Bytes of randomness in a table's ids: what no encoding can go below."""
    return sum(size * len(pc.unique(events_table[name].drop_null())) for name, size in RANDOM_IDS.items())


def table(n: int, seed: int) -> pa.Table:
    """The same `n` events as sealed rows: the columns of `ledger.events.ARROW_SCHEMA`, coordinates set."""
    rows = events(n, seed)
    for position, row in enumerate(rows):
        row["retention"] = "standard"
        row["topic"], row["topic_id"] = TOPIC, TOPIC_ID
        row["partition"], row["record_offset"] = position % PARTITIONS, position // PARTITIONS
        row["part"] = 0
        for name in ("time", "session_expires_at"):
            row[name] = datetime.fromisoformat(row[name])
        if "attributes" in row:
            row["attributes"] = rfc8785.dumps(row["attributes"]).decode()
    return pa.Table.from_pylist(rows, schema=ARROW_SCHEMA)
