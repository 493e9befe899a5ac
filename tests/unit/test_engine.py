"""The engine over a real ledger: what it seals, what moves it, and what does not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import rfc8785

from detections.alerting.risk import risk_scores
from detections.alerting.standing import alert_of, alerts_of, history_of
from detections.alerting.triage import Triage, seal_triage, triage_event
from detections.engine import Engine
from detections.judging import RuleJudge
from detections.rulebook.rule_files import read_rules, rule_document, shipped_rules
from ingest.adapters import adapter
from ingest.authority import Intake, apply
from ingest.decoded import Limits
from ledger.config_cli import seal_config
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from ledger.writer import Writer
from tests.making import Made, make_ledger, row, stretch

START = datetime(2026, 11, 23, tzinfo=UTC)
STREAM = OffsetKey("decisions", 0, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1")


class Firm:
    """A ledger, one writer of events with a clock that the test sets, and engines."""

    def __init__(self, made: Made, rules: Sequence[str] | None = None) -> None:
        self.made = made
        self.writer = made.writer()
        self.sent = 0
        self.engines: list[Engine] = []
        if rules is not None:
            self.load("rules", [rule_document(rule) for rule in shipped_rules() if rule.id in rules])

    def load(self, name: str, value: Any) -> None:
        seal_config(self.writer, name, rfc8785.dumps(value))

    def load_rule(self, text: str, place: Path) -> None:
        file = place / "rule.yml"
        file.write_text(text)
        self.load("rules", [rule_document(rule) for rule in read_rules(file)])

    def send(
        self, events: Sequence[dict[str, Any]], *, complete: bool = True, key: OffsetKey = STREAM
    ) -> None:
        start = self.sent
        self.sent += len(events)
        numbered = [
            {
                "event_id": f"e{start + n}",
                "source": "test",
                "kind": "decision",
                "retention": "standard",
                **one,
            }
            for n, one in enumerate(events)
        ]
        one = stretch(numbered, start, key)
        one.complete = self.made.clock() if complete else None
        self.writer.commit([one])

    def wait(self, **span: float) -> None:
        self.made.clock.advance(timedelta(**span).total_seconds())
        self.writer.tick([(STREAM, self.made.clock())])

    def engine(self, **memory: int) -> Engine:
        engine = Engine(self.made.writer(name="engine", remember=False), memory={"threads": 1, **memory})
        self.engines.append(engine)
        return engine

    def judge(self, engine: Engine | None = None) -> list[dict[str, Any]]:
        one = engine or self.engine()
        while one.run() is not None:
            pass
        return self.alerts()

    def alerts(self) -> list[dict[str, Any]]:
        with Ledger.open(str(self.made.folder), remember=False) as ledger:
            return alerts_of(ledger)

    def close(self) -> None:
        for one in self.engines:
            one.close()


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def _denies(made: Made, count: int, **more: Any) -> list[dict[str, Any]]:
    now = made.clock.now
    return [
        {"time": now - timedelta(seconds=count - n), "decision": "deny", "delegated_actor": "agent:a",
         "action": "ticket:read", "resource": "ticket:1", "tenant": "acme", **more}
        for n in range(count)
    ]  # fmt: skip


def test_an_alert_is_out_at_once_and_confirmed_when_nothing_on_time_can_change_it(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    firm.send(_denies(made, 8))
    (alert,) = firm.judge(engine)
    assert (alert["engine_state"], alert["state"], alert["count"]) == ("provisional", "open", 8)
    assert (alert["tenant"], alert["delegated_actor"]) == ("acme", "agent:a")
    assert alert["evidence"] == [f"test#e{n}" for n in range(8)]
    firm.wait(minutes=3)
    assert firm.judge(engine)[0]["engine_state"] == "provisional"
    firm.wait(minutes=10)
    assert firm.judge(engine)[0]["engine_state"] == "confirmed"
    with Ledger.open(str(made.folder), remember=False) as ledger:
        assert [one["outcome"] for one in history_of(ledger, alert["alert_id"])] == ["fired", "confirmed"]
        assert ledger.verify().ok
    firm.close()


def test_a_late_success_takes_a_provisional_alert_back(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    firm.send(_denies(made, 8))
    assert firm.judge(engine)[0]["engine_state"] == "provisional"
    now = made.clock.now
    firm.send([{"time": now, "decision": "allow", "delegated_actor": "agent:a", "action": "ticket:read",
                "resource": "ticket:1"}])  # fmt: skip
    (alert,) = firm.judge(engine)
    assert alert["engine_state"] == "withdrawn"
    firm.close()


def test_a_backlog_settles_nothing(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    firm.send(_denies(made, 8))
    firm.judge(engine)
    made.clock.advance(50 * 60)
    firm.send([{"time": made.clock.now - timedelta(minutes=49), "decision": "allow"}], complete=False)
    firm.judge(engine)
    made.clock.advance(8 * 60)
    firm.send([{"time": made.clock.now - timedelta(minutes=50), "decision": "allow"}], complete=False)
    (alert,) = firm.judge(engine)
    assert alert["engine_state"] == "provisional"
    made.clock.advance(10 * 60)
    firm.send([{"time": made.clock.now - timedelta(minutes=50), "decision": "allow"}], complete=False)
    (alert,) = firm.judge(engine)
    assert alert["engine_state"] == "confirmed"  # nothing waits for a source that is an hour behind
    assert engine.watch.clocks.stalled() == [STREAM]
    firm.close()


def test_what_comes_too_late_adds_an_alert_and_changes_none(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    then = made.clock.now
    firm.send(_denies(made, 8))
    firm.judge(engine)
    firm.wait(hours=3)
    firm.wait(hours=1)
    (first,) = firm.judge(engine)
    assert first["engine_state"] == "confirmed"
    late = [{**one, "delegated_actor": "agent:late"} for one in _denies(made, 8)]
    for n, one in enumerate(late):
        one["time"] = then - timedelta(seconds=8 - n)
    voids = {"time": then, "decision": "allow", "delegated_actor": "agent:a", "action": "ticket:read",
             "resource": "ticket:1"}  # fmt: skip
    firm.send([*late, voids])
    alerts = {json.loads(one["alert_key"])[0]: one for one in firm.judge(engine)}
    assert alerts["agent:a"]["engine_state"] == "confirmed"
    assert not alerts["agent:a"]["late"]
    assert alerts["agent:late"]["late"]
    firm.close()


def test_a_sender_cannot_move_the_clocks_and_what_is_dated_ahead_is_never_judged(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    ahead = _denies(made, 8)
    for one in ahead:
        one["time"] += timedelta(hours=20)
    firm.send(ahead)
    assert firm.judge(engine) == []
    assert engine.watch.memory.ahead == 8
    assert engine.watch.clocks.settle <= made.clock.now
    firm.close()


def test_forged_alerts_and_another_sources_name_are_dead_letters_and_change_nothing(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    firm.send(_denies(made, 8))
    (alert,) = firm.judge(engine)
    forged = [
        {"event_id": f"{alert['alert_id']}/e1", "kind": "alert", "outcome": "withdrawn",
         "alert_id": alert["alert_id"], "rule_id": "repeated-denies"},
        {"event_id": "x", "kind": "alert", "outcome": "dismissed", "alert_id": alert["alert_id"]},
        {"event_id": "y", "kind": "decision", "source": "decision-ledger"},
        {"event_id": "z", "kind": "decision", "source": "the/other"},
    ]  # fmt: skip
    now = made.clock().isoformat()
    values = [json.dumps({"source": "test", "time": now, **one}).encode() for one in forged]
    decoded = adapter("native").decode(pa.array(values, pa.large_binary()), Limits(), made.clock())
    judged = apply(decoded, Intake(name="test", claimed_by_others=("the/other",)))
    assert len(judged.events) == 0
    assert len({one.message for one in judged.rejected}) == 4
    # Even where such an event were sealed by another way in, it is no step of an engine or of triage.
    engine.watch.known.take({**forged[0], "topic": "decisions"})
    engine.watch.known.take({**forged[1], "topic": "decisions"})
    firm.wait(hours=3)
    (after,) = firm.judge(engine)
    assert (after["engine_state"], after["state"]) == ("confirmed", "open")
    firm.close()


GOOD = """\
title: Every deny
id: every-deny
description: One alert for each principal that was denied.
level: low
suppress: 1h
key: [principal]
runbook: repeated-denies.md
query: SELECT principal, time, ref AS evidence FROM decisions WHERE decision = 'deny'
tests:
  - name: one
    events: [{at: 0s, kind: decision, decision: deny, actor: "user:a"}]
    alerts: [{key: ["user:a"]}]
  - {name: none, events: [{at: 0s, kind: decision, decision: allow, actor: "user:a"}]}
"""
FAILING = GOOD.replace("every-deny", "failing").replace(
    "decision = 'deny'", "decision = 'deny' AND CAST(action || coalesce(session_id, '1') AS BIGINT) > 0"
)
GREEDY = GOOD.replace("every-deny", "greedy").replace(
    "SELECT principal, time, ref AS evidence FROM decisions WHERE decision = 'deny'",
    "SELECT principal, time, ref AS evidence FROM decisions WHERE decision = 'deny' AND 0 < ("
    "SELECT count(DISTINCT a.ref || b.ref || c.ref || d.ref) FROM decisions a, decisions b, decisions c,"
    " decisions d)",
)


@pytest.mark.parametrize("bad", [FAILING, GREEDY], ids=["failing", "greedy"])
def test_a_rule_that_fails_or_takes_too_much_stops_no_other(
    made: Made, tmp_path: Path, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detections.hits.MAX_SECONDS", 1.0)
    firm = Firm(made)
    both = tmp_path / "rules"
    both.mkdir()
    (both / "good.yml").write_text(GOOD)
    (both / "bad.yml").write_text(bad)
    firm.load("rules", [rule_document(rule) for rule in read_rules(both)])
    engine = firm.engine()
    firm.send(_denies(made, 200))
    (alert,) = firm.judge(engine)
    assert alert["rule_id"] == "every-deny"
    (trouble,) = engine.watch.troubles.values()
    assert trouble.rule_id in {"failing", "greedy"}
    assert trouble.message
    firm.close()


HUNGRY = GREEDY.replace("greedy", "hungry")


def test_a_rule_that_eats_the_memory_leaves_those_beside_it_their_answers(made: Made, tmp_path: Path) -> None:
    firm = Firm(made)
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "hungry.yml").write_text(HUNGRY)
    for number in range(6):
        (rules / f"good-{number}.yml").write_text(GOOD.replace("every-deny", f"every-deny-{number}"))
    firm.load("rules", [rule_document(rule) for rule in read_rules(rules)])
    engine = firm.engine(threads=2, memory_bytes=100 << 20)
    firm.send(_denies(made, 200))
    alerts = firm.judge(engine)
    assert sorted(alert["rule_id"] for alert in alerts) == [f"every-deny-{number}" for number in range(6)]
    assert list(engine.watch.troubles) == ["hungry"]
    assert "allocate" in engine.watch.troubles["hungry"].message
    firm.close()


def test_a_rule_that_lacked_memory_beside_another_is_judged_alone(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine(threads=2)
    find = RuleJudge.find
    failed: list[str] = []

    def starved(judge: RuleJudge, stretch: Any) -> None:
        if judge.force.id not in failed:
            failed.append(judge.force.id)
            raise duckdb.OutOfMemoryException("failed to allocate")
        find(judge, stretch)

    monkeypatch.setattr(RuleJudge, "find", starved)
    firm.send(_denies(made, 8))
    (alert,) = firm.judge(engine)
    assert (alert["rule_id"], failed) == ("repeated-denies", ["repeated-denies"])
    assert not engine.watch.troubles
    firm.close()


def test_two_engines_seal_every_alert_once(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    one, other = firm.engine(), firm.engine()
    for number in range(6):
        firm.send([{**deny, "delegated_actor": f"agent:{number}"} for deny in _denies(made, 8)])
        if number % 2:
            one.writer.refresh()
            other.run()
        one.run()
        other.run()
        firm.wait(minutes=2)
    firm.wait(hours=3)
    firm.judge(one)
    firm.judge(other)
    alerts = firm.judge(one)
    assert len(alerts) == 6
    assert {alert["engine_state"] for alert in alerts} == {"confirmed"}
    with Ledger.open(str(made.folder), remember=False) as ledger:
        for alert in alerts:
            outcomes = [step["outcome"] for step in history_of(ledger, alert["alert_id"])]
            assert outcomes == ["fired", "confirmed"]
        assert ledger.sql("SELECT count(*) AS n FROM dead_letters").to_pylist() == [{"n": 0}]
        assert ledger.verify().ok
    firm.close()


def test_an_engine_that_starts_anew_says_nothing_twice(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    firm.send(_denies(made, 8))
    before = firm.judge()
    size = firm.writer.state.size
    firm.writer.refresh()
    after = firm.judge()
    assert [one["engine_event"] for one in after] == [one["engine_event"] for one in before]
    firm.writer.refresh()
    assert firm.writer.state.size <= size + 2
    firm.close()


def test_triage_is_sealed_and_reopens_only_when_severity_rises(made: Made) -> None:
    firm = Firm(made, ["cross-tenant-attempts"])
    engine = firm.engine()
    firm.send(_denies(made, 3, resource_tenant="b"))
    (alert,) = firm.judge(engine)
    assert (alert["severity"], alert["state"]) == ("medium", "open")
    writer: Writer = made.writer(name="triage", remember=False)
    seal_triage(
        writer, [triage_event(alert, Triage("dismissed", "user:x", None, "false-positive", "a test"))]
    )
    (alert,) = firm.judge(engine)
    assert (alert["state"], alert["verdict_id"], alert["triaged_by"]) == ("dismissed", 1, "user:x")
    firm.send(_denies(made, 12, resource_tenant="b"))
    assert firm.judge(engine)[0]["state"] == "dismissed"
    firm.send([{**_denies(made, 1)[0], "decision": "allow", "resource_tenant": "b"}])
    (alert,) = firm.judge(engine)
    assert (alert["severity"], alert["state"]) == ("high", "open")
    with Ledger.open(str(made.folder), remember=False) as ledger:
        assert alert_of(ledger, alert["alert_id"][:8])["alert_id"] == alert["alert_id"]
        assert ledger.verify().ok
    firm.close()


def test_rule_exceptions_tiers_and_exercises_count_from_when_they_were_sealed(made: Made) -> None:
    firm = Firm(made, ["repeated-denies"])
    engine = firm.engine()
    until = (made.clock.now + timedelta(hours=1)).isoformat()
    excused = {"rule": "repeated-denies", "match": {"principal": "agent:a"}, "owner": "user:o",
               "reason": "a migration", "expires_at": until}  # fmt: skip
    firm.load("rule-exceptions", [excused])
    drill = {"id": "drill-1", "sources": ["test"], "begins_at": START.isoformat(),
             "ends_at": (START + timedelta(days=9)).isoformat()}  # fmt: skip
    firm.load("exercises", [drill])
    firm.wait(seconds=30)
    firm.send(_denies(made, 8))
    firm.send(_denies(made, 8, delegated_actor="agent:b", exercise="drill-1"))
    firm.send(_denies(made, 8, delegated_actor="agent:c", exercise="drill-2"))
    alerts = {json.loads(one["alert_key"])[0]: one for one in firm.judge(engine)}
    assert sorted(alerts) == ["agent:b", "agent:c"]
    assert alerts["agent:b"]["exercise"] == "drill-1"
    assert alerts["agent:c"]["exercise"] is None
    firm.wait(hours=2)
    firm.send(_denies(made, 8))
    assert "agent:a" in {json.loads(one["alert_key"])[0] for one in firm.judge(engine)}
    firm.close()


def test_new_rules_judge_what_came_since_and_the_first_ones_all_that_came_before(
    made: Made, tmp_path: Path
) -> None:
    made.writer().commit([stretch([row(900, decision="deny", actor="user:old")])])
    firm = Firm(made, ["repeated-denies"])
    firm.wait(minutes=1)
    firm.load_rule(GOOD, tmp_path)
    engine = firm.engine()
    assert firm.judge(engine) == []  # before its sealing the first rule set was in force
    firm.wait(minutes=1)
    firm.send([{"time": made.clock.now, "decision": "deny", "actor": "user:new"}])
    assert [json.loads(one["alert_key"]) for one in firm.judge(engine)] == [["user:new"]]
    firm.close()


def test_evidence_is_bounded_and_its_count_is_not(made: Made, tmp_path: Path) -> None:
    firm = Firm(made)
    firm.load_rule(GOOD, tmp_path)
    engine = firm.engine()
    firm.send([{"time": made.clock.now - timedelta(milliseconds=n + 1), "decision": "deny", "actor": "user:a"}
               for n in np.arange(3_000).tolist()])  # fmt: skip
    (alert,) = firm.judge(engine)
    assert (alert["count"], len(alert["evidence"])) == (3_000, 1_000)
    firm.close()


def test_a_flood_is_judged_in_parts_and_blinds_no_rule(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detections.hits.MAX_ROWS", 50)
    firm = Firm(made)
    firm.load_rule(GOOD, tmp_path)
    engine = firm.engine()
    firm.send(_denies(made, 250))
    assert [one["count"] for one in firm.judge(engine)] == [250]
    now = made.clock.now
    firm.send([{"time": now, "decision": "deny", "actor": f"user:{n}"} for n in range(60)])
    firm.judge(engine)
    assert "about one second" in engine.watch.troubles["every-deny"].message
    firm.close()


def test_recent_rows_are_kept_in_few_tables_and_none_is_lost(made: Made, tmp_path: Path) -> None:
    firm = Firm(made)
    firm.load_rule(GOOD.replace("suppress: 1h", "suppress: 1h\nwindow: 2h"), tmp_path)
    engine = firm.engine()
    for number in range(40):
        made.clock.advance(60)
        firm.send(_denies(made, 3, delegated_actor=f"agent:{number % 7}"))
        firm.judge(engine)
    assert len(engine.watch.memory._chunks) <= 4
    firm.wait(hours=9)
    assert sum(one["count"] for one in firm.judge(engine)) == 120
    assert engine.watch.memory._chunks == []
    firm.close()


def test_open_alerts_add_up_by_principal(made: Made) -> None:
    firm = Firm(made, ["repeated-denies", "shared-identity"])
    engine = firm.engine()
    firm.send([one for agent in "ab" for one in _denies(made, 8, delegated_actor=f"agent:{agent}")])
    firm.send(
        [
            {
                "time": made.clock.now - timedelta(seconds=ago),
                "kind": "action",
                "delegated_actor": "agent:a",
                "environment": where,
            }
            for where, ago in (("production", 60), ("staging", 1))
        ]
    )
    firm.judge(engine)
    scores = [(one.principal, one.score, one.worst) for one in risk_scores(firm.alerts())]
    assert scores[1:] == [("agent:b", 10, "medium")]
    assert scores[0][0] == "agent:a"
    assert scores[0][1] > 10
    (first, *_) = [one for one in firm.alerts() if one["delegated_actor"] == "agent:b"]
    seal_triage(firm.writer, [triage_event(first, Triage("dismissed", "user:c", None, "benign", None))])
    assert [one.principal for one in risk_scores(firm.alerts())] == ["agent:a"]
    firm.close()
