"""Answers to alerts: what the engine lets be revoked, and what a responder does of it, and how much."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from detections.response.responder import Responder
from detections.response.settings import ResponseSettings, read_response
from detections.response.transmitter import Transmitter, make_key
from issuer.signals.events import read_event
from ledger.errors import UsageError
from ledger.format.state import ENGINE_TOPIC
from ledger.reader import Ledger
from tests.http_receiver import HttpReceiver
from tests.making import Made, make_ledger
from tests.unit.test_engine import Firm

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ALERT = "a" * 32
RULE = """\
title: A session that is denied again and again
id: probing-session
description: Three denies in one session.
level: high
window: 10m
suppress: 10m
key: [session]
respond: revoke
runbook: repeated-denies.md
query: |
  SELECT session_id AS session, time, ref AS evidence, 'session:' || session_id AS revoke,
         count(DISTINCT ref) OVER (
           PARTITION BY session_id ORDER BY time RANGE BETWEEN $window PRECEDING AND CURRENT ROW
         ) >= 3 AS completes
  FROM decisions WHERE decision = 'deny'
tests:
  - name: three
    defaults: {kind: decision, decision: deny, session_id: s1, actor: "user:a"}
    events: [{at: 0s, times: 3, every: 1s}]
    alerts: [{key: [s1], count: 3}]
  - name: two
    defaults: {kind: decision, decision: deny, session_id: s1, actor: "user:a"}
    events: [{at: 0s, times: 2, every: 1s}]
"""


class Receiver(HttpReceiver):
    """A receiver of security events."""

    def __init__(self) -> None:
        super().__init__("/events", 202, b'{"err": "invalid_key", "description": "unknown"}')


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def settings(receiver: Receiver, tmp_path: Path) -> ResponseSettings:
    make_key(tmp_path / "key.jwk")
    file = tmp_path / "response.yml"
    file.write_text(
        f"response:\n  signals: {receiver.url}\n  audience: http://signals.example\n"
        "  issuer: https://detections.example\n  key_file: key.jwk\n  stop_file: STOP\n  per_hour: 2\n"
    )
    return read_response(file)


def responder(settings: ResponseSettings, tmp_path: Path) -> Responder:
    return Responder(settings, tmp_path / "state" / "_response.json", 0)


def step(*targets: str, outcome: str = "confirmed", alert: str = ALERT, **more: Any) -> dict[str, Any]:
    attributes = {"revoke": list(targets), "respond": True, **more.pop("attributes", {})}
    return {
        "event_id": f"{alert}/e1", "topic": ENGINE_TOPIC, "outcome": outcome, "alert_id": alert,
        "rule_id": "probing-session", "last_seen": NOW, "attributes": json.dumps(attributes), **more,
    }  # fmt: skip


def key_of(settings: ResponseSettings) -> OKPKey:
    return OKPKey.import_key(json.loads(settings.key_file.read_text()))


def test_a_session_and_a_credential_are_revoked_once_however_often_they_are_named(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path
) -> None:
    one = responder(settings, tmp_path)
    one.take(3, NOW, [step("session:s1", outcome="fired"), step("session:s1", "credential:c1")])
    assert one.send(NOW) == 2
    one.take(4, NOW, [step("session:s1", alert="b" * 32)])
    assert one.send(NOW) == 0
    one.close()
    again = responder(settings, tmp_path)
    assert again.cursor == 5
    again.take(5, NOW, [step("credential:c1")])
    assert again.send(NOW) == 0
    again.close()
    told = [
        read_event(
            body.decode(), lambda _: key_of(settings), issuers=("https://detections.example",),
            audience="http://signals.example", now=NOW.timestamp(),
        )
        for _, body in receiver.got
    ]  # fmt: skip
    assert [one.target for one in told] == ["session:s1", "credential:c1"]
    assert {one.alert_id for one in told} == {ALERT}
    assert len({one.jti for one in told}) == 2
    assert told[0].reason == "probing-session: an alert"


def test_two_engines_ask_under_one_id(settings: ResponseSettings) -> None:
    def jti(alert: str) -> str:
        transmitter = Transmitter(settings)
        text = transmitter.token("session:s1", alert, "why", NOW.timestamp())
        transmitter.close()
        told = read_event(
            text, lambda _: key_of(settings), issuers=(settings.issuer,), audience=settings.audience,
            now=NOW.timestamp(),
        )  # fmt: skip
        return told.jti

    assert jti(ALERT) == jti("b" * 32)


@pytest.mark.parametrize(
    "one",
    [
        step("user:alice"), step("agent:a"), step("session:"), step("session:s", exercise="drill-1"),
        step("session:s", attributes={"respond": False}), step("session:s", attributes={"respond": "yes"}),
        step("session:s", outcome="withdrawn"), step("session:s", outcome="resolved"),
        step("session:s", topic="ledger:triage"), step("session:s", last_seen=NOW - timedelta(hours=25)),
    ],
    ids=["person", "agent", "nothing", "drill", "not-asked", "odd", "withdrawn", "triage", "forged", "old"],
)  # fmt: skip
def test_what_is_never_revoked(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path, one: dict[str, Any]
) -> None:
    here = responder(settings, tmp_path)
    here.take(3, NOW, [one])
    assert (here.send(NOW), receiver.got) == (0, [])
    here.close()


def test_what_is_withdrawn_before_it_left_is_not_revoked(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path
) -> None:
    here = responder(settings, tmp_path)
    here.take(3, NOW, [step("session:s1", outcome="fired"), step("session:s1", outcome="withdrawn")])
    assert (here.send(NOW), receiver.got) == (0, [])
    here.close()


def test_no_more_than_the_hours_cap_and_the_rest_waits_or_is_dropped(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path
) -> None:
    here = responder(settings, tmp_path)
    here.take(3, NOW, [step(*(f"session:s{n}" for n in range(5)))])
    assert here.send(NOW) == 2
    assert (here.send(NOW + timedelta(minutes=30)), here.waiting()) == (0, 3)
    assert here.send(NOW + timedelta(minutes=60)) == 2
    assert (here.send(NOW + timedelta(minutes=61)), here.waiting()) == (0, 0)
    assert len(receiver.got) == 4
    here.close()


def test_the_stop_file_drops_what_waits_and_nothing_is_made_up_for(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path
) -> None:
    here = responder(settings, tmp_path)
    settings.stop_file.touch()
    here.take(3, NOW, [step("session:s1")])
    assert here.send(NOW) == 0
    settings.stop_file.unlink()
    assert here.send(NOW) == 0
    here.take(4, NOW, [step("session:s2")])
    assert here.send(NOW) == 1
    assert len(receiver.got) == 1
    here.close()


def test_a_receiver_that_is_away_is_asked_again_and_one_that_refuses_is_not(
    settings: ResponseSettings, receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answers = [503, 503, 400]
    here = responder(settings, tmp_path)
    here.take(3, NOW, [step("session:s1")])
    assert here.send(NOW) == 0
    assert here.send(NOW + timedelta(seconds=0.5)) == 0
    assert receiver.answers == [503, 400]  # not asked before its time
    here.close()
    here = responder(settings, tmp_path)
    assert here.cursor == 0  # nothing is forgotten while it waits
    here.take(3, NOW, [step("session:s1")])
    assert here.send(NOW + timedelta(seconds=1)) == 0
    assert here.send(NOW + timedelta(seconds=3)) == 0
    assert (here.waiting(), receiver.got, receiver.answers) == (0, [], [])
    here.close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("http://127.0.0.1", "http://signals.example", "not https"),
        ("http://127.0.0.1", "http://127.0.0.1.evil.example", "not https"),
        ("http://127.0.0.1", "http://localhost@evil.example", "not https"),
        ("per_hour: 2", "per_hour: 0", "response.yml:7"),
        ("key_file: key.jwk", "other: key.jwk", "key_file"),
    ],
)
def test_a_wrong_file_is_refused(
    settings: ResponseSettings, tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "response.yml"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(UsageError) as refused:
        read_response(file)
    assert said in refused.value.message
    assert refused.value.remedy


def test_a_key_that_others_may_read_or_that_is_none_is_refused(settings: ResponseSettings) -> None:
    settings.key_file.chmod(0o644)
    with pytest.raises(UsageError, match="Others may read"):
        Transmitter(settings)
    settings.key_file.chmod(0o600)
    settings.key_file.write_text("{}")
    with pytest.raises(UsageError, match="no private Ed25519 key"):
        Transmitter(settings)
    settings.key_file.unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        Transmitter(settings)
    make_key(settings.key_file)
    with pytest.raises(UsageError, match="cannot be made"):
        make_key(settings.key_file)


@pytest.fixture
def firm(tmp_path: Path) -> Iterator[Firm]:
    one = Firm(make_ledger(tmp_path))
    one.load("sources", {"test": {"trusted": True}})
    yield one
    one.close()


def _denies(made: Made, count: int = 3, **more: Any) -> list[dict[str, Any]]:
    now = made.clock.now
    return [
        {"time": now - timedelta(seconds=count - n), "decision": "deny", "session_id": "s1",
         "trace_id": "1" * 32, **more}
        for n in range(count)
    ]  # fmt: skip


def responses(firm: Firm) -> list[tuple[str, bool, list[str]]]:
    """By step: its outcome, whether it may be answered, what it names."""
    with Ledger.open(str(firm.made.folder), remember=False) as ledger:
        rows = ledger.sql("SELECT outcome, attributes FROM events WHERE kind = 'alert' ORDER BY event_id")
    found = []
    for row in rows.to_pylist():
        said = json.loads(row["attributes"])
        found.append((row["outcome"], said.get("respond", False), said.get("revoke", [])))
    return found


def test_without_settle_only_a_confirmed_alert_may_be_answered(firm: Firm, tmp_path: Path) -> None:
    firm.load_rule(RULE, tmp_path)
    engine = firm.engine()
    firm.send(_denies(firm.made))
    (alert,) = firm.judge(engine)
    assert alert["trace_id"] == "1" * 32
    firm.wait(minutes=30)
    firm.judge(engine)
    assert responses(firm) == [("fired", False, ["session:s1"]), ("confirmed", True, ["session:s1"])]


def test_with_settle_it_may_be_as_soon_as_it_is_out(firm: Firm, tmp_path: Path) -> None:
    firm.load_rule(RULE.replace("suppress: 10m", "suppress: 10m\nsettle: 5s"), tmp_path)
    engine = firm.engine()
    firm.send(_denies(firm.made))
    assert firm.judge(engine) == []
    firm.wait(seconds=10)
    firm.judge(engine)
    assert responses(firm) == [("fired", True, ["session:s1"])]


@pytest.mark.parametrize(
    ("name", "value", "more"),
    [
        ("sources", {"test": {"trusted": False}}, {}),
        ("sources", {}, {}),
        (
            "exercises",
            [{"id": "drill-1", "sources": ["test"], "begins_at": "2026-11-01T00:00:00Z",
              "ends_at": "2026-12-01T00:00:00Z"}],
            {"exercise": "drill-1"},
        ),
    ],
    ids=["distrusted", "unknown", "drill"],
)  # fmt: skip
def test_not_upon_what_a_source_without_trust_or_a_drill_says(
    firm: Firm, tmp_path: Path, name: str, value: Any, more: dict[str, Any]
) -> None:
    firm.load(name, value)
    firm.load_rule(RULE, tmp_path)
    firm.made.clock.advance(1)
    firm.send(_denies(firm.made, time=firm.made.clock.now, **more))
    firm.wait(minutes=30)
    firm.judge()
    assert responses(firm)
    assert not any(may for _, may, _ in responses(firm))


def test_not_in_staging(firm: Firm, tmp_path: Path) -> None:
    firm.load_rule(RULE.replace("level: high", "level: high\nstate: staging"), tmp_path)
    firm.send(_denies(firm.made))
    firm.wait(minutes=30)
    firm.judge()
    assert [may for _, may, _ in responses(firm)] == [False, False]


def test_not_where_only_late_rows_say_so(firm: Firm, tmp_path: Path) -> None:
    firm.load_rule(RULE, tmp_path)
    firm.wait(minutes=30)
    firm.send(_denies(firm.made, time=firm.made.clock.now - timedelta(minutes=20)))
    firm.wait(minutes=30)
    (alert,) = firm.judge()
    assert alert["late"]
    assert not any(may for _, may, _ in responses(firm))


@pytest.mark.parametrize("about", ["session", "credential", "parent"])
def test_denies_of_what_we_revoked_feed_no_rule_that_answers(firm: Firm, tmp_path: Path, about: str) -> None:
    firm.load_rule(RULE, tmp_path)
    target = {"session": "session:s1", "credential": "credential:c1", "parent": "credential:c0"}[about]
    held = {"credential_id": "c1", "parent_credential_id": "c0"}
    engine = firm.engine()
    firm.send([{"kind": "signal", "target": target, "alert_id": ALERT, "time": firm.made.clock.now}])
    firm.made.clock.advance(60)
    firm.send(_denies(firm.made, 5, **held))
    assert firm.judge(engine) == []
    # What somebody else revoked is no answer of ours: its denies count.
    firm.send([{"kind": "signal", "target": "session:s2", "time": firm.made.clock.now}])
    firm.made.clock.advance(60)
    firm.send(_denies(firm.made, 5, session_id="s2"))
    (alert,) = firm.judge(engine)
    assert (alert["alert_key"], alert["count"]) == ('["s2"]', 5)


def test_a_source_without_trust_hides_no_denies(firm: Firm, tmp_path: Path) -> None:
    firm.load_rule(RULE, tmp_path)
    now = firm.made.clock.now
    firm.send([{"kind": "signal", "target": "session:s1", "alert_id": ALERT, "time": now, "source": "other"}])
    firm.made.clock.advance(60)
    firm.send(_denies(firm.made))
    (alert,) = firm.judge()
    assert alert["count"] == 3
