"""Settled alerts are the same however a log is cut into runs, restarted, or reordered within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detections.alerting.alert import WITHDRAWN
from detections.configs.timeline import Timeline
from detections.rulebook.rule_files import shipped_rules
from detections.trial import BEGIN, MemoryLog, log_of
from detections.watch import Watch
from ledger.format.manifest import Entry

RULES = {rule.id: rule for rule in shipped_rules()}
LATENESS = timedelta(minutes=5)
QUIET = timedelta(days=3)
AGENTS = ("agent:a", "agent:b", "user:c")
WORDS = st.sampled_from

EVENTS = st.fixed_dictionaries(
    {
        "kind": WORDS(["decision"] * 6 + ["action"] * 3 + ["issuance"] * 2 + ["session", "heartbeat"]
                      + ["exception", "revocation", "signal", "policy", "delegation"]),
        "minute": st.integers(0, 40 * 60),
    },
    optional={
        "decision": WORDS(["allow", "deny", "deny"]),
        "outcome": WORDS(["succeeded", "opened", "closed", "ended", "reviewed", "used", "rolled_back"]),
        "delegated_actor": WORDS(AGENTS),
        "action": WORDS(["ticket:read", "payment:send", "deploy:start"]),
        "resource": WORDS(["ticket:1", "payment:2", "deploy:3"]),
        "tenant": WORDS(["acme"]), "resource_tenant": WORDS(["acme", "other"]),
        "environment": WORDS(["production", "staging"]),
        "session_id": WORDS(["s1", "s2"]), "credential_id": WORDS(["c1", "c2", "c3"]),
        "parent_credential_id": WORDS(["c1", "s1"]),
        "scopes": WORDS([["ticket:read"], ["*:*"], ["payment:send"]]),
        "required_scopes": WORDS([["ticket:read"]]), "client_ip": WORDS(["192.0.2.1", "203.0.113.1"]),
        "pep": WORDS(["worker", "gateway", "egress"]), "impact": WORDS(["high", "low"]),
        "destination": WORDS(["mail", "bank"]), "bytes_out": WORDS([10, 40_000_000]),
        "policy_id": WORDS(["p"]), "policy_version": WORDS(["1", "2"]), "policy_engine": WORDS(["cedar"]),
        "delegation": WORDS([["user:c", "agent:a"], ["agent:a", "agent:b"], ["agent:a", "agent:b",
        "agent:a"]]),
        "target": WORDS(["credential:c1", "session:s1", "agent:a"]),
        "reason": WORDS(["credential-compromised", "policy-change"]),
        "exception_id": WORDS(["x1", "x2"]), "grant_id": WORDS(["g1"]),
        "review_minute": st.integers(0, 30 * 60), "expires_minute": st.integers(0, 30 * 60),
        "sequence": st.integers(1, 6), "instance": WORDS(["one"]), "dropped": st.integers(0, 3),
    },
)  # fmt: skip


def _event(number: int, drawn: dict[str, Any]) -> dict[str, Any]:
    given = dict(drawn)
    value: dict[str, Any] = {"event_id": f"e{number}", "source": "test", "retention": "standard"}
    value["time"] = BEGIN + timedelta(minutes=given.pop("minute"), microseconds=number)
    for name, field in (("review_minute", "review_due_at"), ("expires_minute", "expires_at")):
        if name in given:
            value[field] = BEGIN + timedelta(minutes=given.pop(name))
    return {**value, **given}


def _planted(rule_id: str) -> list[dict[str, Any]]:
    """What the rule's own positive tests are made of, so that something is found in most examples."""
    found: list[dict[str, Any]] = []
    for number, test in enumerate(RULES[rule_id].tests):
        if test.alerts and not test.configs:
            for table in log_of(rule_id, test).tables.values():
                for row in table.to_pylist():
                    kept = {name: value for name, value in row.items() if value is not None}
                    later = timedelta(hours=number, microseconds=500 + len(found))
                    kept["event_id"] = f"{number}-{kept['event_id']}"
                    found.append({**kept, "time": kept["time"] + later})
    return found


def _delivered(events: Sequence[dict[str, Any]], batches: Sequence[int], jitter: Sequence[int]) -> MemoryLog:
    """The events as a stream delivers them: in order of arrival, each at most LATENESS behind its time."""
    late = [jitter[n % len(jitter)] for n in range(len(events))] if jitter else [0] * len(events)
    arrived = sorted(
        zip(events, late, strict=True), key=lambda pair: pair[0]["time"] + timedelta(seconds=pair[1])
    )
    log, at = MemoryLog(), 0
    sizes = list(batches) or [len(arrived)]
    while at < len(arrived):
        size = sizes[len(log.entries) % len(sizes)]
        run = arrived[at : at + size]
        # The settle clock before an entry is the time of the one before it: nothing in it is late then.
        when = max(event["time"] + timedelta(seconds=wait) for event, wait in run)
        log.append([event for event, _ in run], when)
        at += size
    log.tick(BEGIN + timedelta(minutes=40 * 60) + QUIET)
    return log


def _standing(
    rules: Sequence[str], log: MemoryLog, cuts: Sequence[int], restarts: Sequence[int] = ()
) -> dict[str, tuple[Any, ...]]:
    timeline = Timeline()
    timeline.set("rules", [RULES[name] for name in rules])
    sealed: list[dict[str, Any]] = []
    watch, done = Watch.over(timeline, log), 0
    edges = sorted({*(cut % (len(log.entries) + 1) for cut in cuts), len(log.entries)})
    for number, edge in enumerate(edges):
        if number in restarts:
            watch.close()
            watch = Watch.over(timeline, log)
            watch.known.take_all(sealed)
            watch.recall(log.entries[:done])
        run: list[Entry] = log.entries[done:edge]
        steps = watch.advance(run)
        watch.sealed(steps)
        assert not watch.troubles
        sealed += steps
        done = edge
    watch.close()
    last = {step["alert_id"]: step for step in sealed}
    assert len({step["event_id"] for step in sealed}) == len(sealed)
    return {
        name: (step["rule_version"], step["alert_key"], step["window_start"], step["count"], step["severity"],
               tuple(step["evidence"]), step["outcome"])
        for name, step in last.items()
        if step["outcome"] != WITHDRAWN
    }  # fmt: skip


@pytest.mark.parametrize("rule_id", RULES)
@settings(max_examples=3)
@given(
    drawn=st.lists(EVENTS, max_size=40),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    restarts=st.lists(st.integers(0, 6), max_size=2),
    batches=st.lists(st.integers(1, 9), max_size=3),
    jitter=st.lists(st.integers(0, 290), max_size=5),
)
def test_settled_alerts_do_not_depend_on_how_the_log_was_read(
    rule_id: str, drawn: list[dict[str, Any]], cuts: list[int], restarts: list[int], batches: list[int],
    jitter: list[int],
) -> None:  # fmt: skip
    events = [*_planted(rule_id), *(_event(number, one) for number, one in enumerate(drawn))]
    whole = _delivered(events, [], [])
    backtest = _standing([rule_id], whole, [])
    assert backtest or drawn  # without anything else, what was planted is found
    stream = _delivered(events, batches or [1], jitter)
    assert _standing([rule_id], stream, range(len(stream.entries))) == backtest
    assert _standing([rule_id], stream, cuts, restarts) == backtest
