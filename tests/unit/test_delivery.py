"""Alerts reach their routes at least once, under one key, signed, and only where they belong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from aiosmtpd.smtp import SMTP
from pydantic import ValidationError

from detections.delivery.forms import message
from detections.delivery.ocsf import detection_finding
from detections.delivery.post import PostRoom
from detections.delivery.routes import Route, read_routes
from detections.delivery.senders import SIGNATURE
from ledger.errors import UsageError
from ledger.format.state import ENGINE_TOPIC
from tests.http_receiver import HttpReceiver

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECRET = b"0123456789abcdef0123456789abcdef"


class Receiver(HttpReceiver):
    """A webhook's other end. `fails` answers are 503."""

    def __init__(self) -> None:
        super().__init__("/alerts", taken=204)

    @property
    def fails(self) -> int:
        return len(self.answers)

    @fails.setter
    def fails(self, times: int) -> None:
        self.answers = [503] * times

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    return path


def step(outcome: str = "fired", number: int = 0, alert: str = "a" * 32, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"{alert}/e{number}", "kind": "alert", "topic": ENGINE_TOPIC, "time": NOW,
        "outcome": outcome, "alert_id": alert, "rule_id": "repeated-denies", "rule_version": "1-abc",
        "alert_key": '["agent:a"]',
        "window_start": NOW, "severity": "medium", "count": 8, "first_seen": NOW, "last_seen": NOW,
        "tenant": "acme", "evidence": ["test#e1"], "checkpoint_size": 7, "reason": "many",
        "attributes": json.dumps({"title": "Many denies", "runbook": "docs/runbooks/repeated-denies.md"}),
        **more,
    }  # fmt: skip


def room(tmp_path: Path, *routes: Route, head: int = 0) -> PostRoom:
    return PostRoom(routes, tmp_path / "routes", head)


def hook(receiver: Receiver, secret: Path, **more: Any) -> Route:
    return Route(name="soc", kind="webhook", url=receiver.url, secret_file=secret, **more)


def test_a_webhook_is_signed_and_named_by_the_event(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    post = room(tmp_path, hook(receiver, secret))
    post.take(3, NOW, [step()])
    assert post.send(NOW) == 1
    ((headers, body),) = receiver.got
    seconds, _, given = headers[SIGNATURE].removeprefix("t=").partition(",v1=")
    assert given == hmac.new(SECRET, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert int(seconds) == NOW.timestamp()
    assert headers["Idempotency-Key"] == f"{'a' * 32}/e0"
    assert json.loads(body)["attributes"]["title"] == "Many denies"
    assert post.send(NOW) == 0
    post.close()


def test_a_receiver_that_fails_is_tried_again_later_and_later_under_the_same_key(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    receiver.fails = 2
    post = room(tmp_path, hook(receiver, secret))
    post.take(3, NOW, [step()])
    assert post.send(NOW) == 0
    assert post.send(NOW + timedelta(seconds=0.5)) == 0
    assert receiver.fails == 1  # not asked again before its time
    assert post.send(NOW + timedelta(seconds=1.1)) == 0
    assert post.send(NOW + timedelta(seconds=2)) == 0
    assert post.send(NOW + timedelta(seconds=4)) == 1
    assert len(receiver.got) == 1
    post.close()


def test_one_route_that_is_away_stops_no_other(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    away = Route(name="away", kind="webhook", url="http://127.0.0.1:9/none", secret_file=secret)
    post = room(tmp_path, away, hook(receiver, secret))
    post.take(3, NOW, [step()])
    assert post.send(NOW) == 1
    assert post.waiting() == {"away": 1, "soc": 0}
    post.close()


def test_of_one_alert_only_the_last_step_is_sent_and_a_withdrawal_follows_what_was_sent(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    post = room(tmp_path, hook(receiver, secret))
    post.take(3, NOW, [step(), step("confirmed", 1), step(alert="b" * 32), step("withdrawn", 1, "b" * 32)])
    assert post.send(NOW) == 1
    post.take(4, NOW, [step("withdrawn", 2)])
    assert post.send(NOW) == 1
    assert [one["outcome"] for one in receiver.bodies] == ["confirmed", "withdrawn"]
    post.close()


def test_what_was_sent_is_not_sent_again_after_a_restart_and_what_waited_is(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    first = room(tmp_path, hook(receiver, secret))
    first.take(3, NOW, [step()])
    first.send(NOW)
    receiver.fails = 1
    first.take(4, NOW, [step(alert="b" * 32)])
    first.send(NOW)
    first.close()
    second = room(tmp_path, hook(receiver, secret), head=99)
    assert second.cursor == 4
    second.take(4, NOW, [step(alert="b" * 32)])
    assert second.send(NOW) == 1
    assert [one["alert_id"][0] for one in receiver.bodies] == ["a", "b"]
    second.close()


def test_a_new_route_begins_now_and_is_sent_no_history(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    post = room(tmp_path, hook(receiver, secret), head=10)
    post.take(9, NOW, [step()])
    assert post.send(NOW) == 0
    post.close()


def test_routes_take_their_severity_and_tenants_and_mixed_ones_go_to_the_operator(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    post = room(tmp_path, hook(receiver, secret, level="high", tenants=["acme"]))
    cases: list[dict[str, Any]] = [
        {"severity": "medium"}, {"severity": "high"}, {"severity": "high", "tenant": "other"},
        {"severity": "critical", "tenant": None},
    ]  # fmt: skip
    for number, more in enumerate(cases):
        post.take(number, NOW, [step(alert=f"{number}" * 32, **more)])
    assert post.send(NOW) == 1
    assert receiver.bodies[0]["severity"] == "high"
    operator = room(tmp_path / "o", hook(receiver, secret))
    operator.take(1, NOW, [step(tenant=None)])
    assert operator.send(NOW) == 1
    for one in (post, operator):
        one.close()


def test_staging_drills_and_forged_steps_are_sent_nowhere(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    post = room(tmp_path, hook(receiver, secret))
    staging = json.dumps({"rule_state": "staging"})
    post.take(1, NOW, [step(attributes=staging), step(exercise="drill"), step(topic="decisions"),
                       step(outcome="dismissed")])  # fmt: skip
    assert post.send(NOW) == 0
    post.close()


def test_old_hits_go_out_in_one_digest(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    post = room(tmp_path, hook(receiver, secret))
    old = NOW - timedelta(days=2)
    post.take(1, NOW, [step(alert=letter * 32, last_seen=old, first_seen=old) for letter in "abc"])
    assert post.send(NOW) == 1
    (body,) = receiver.bodies
    assert (body["kind"], body["count"], len(body["alerts"])) == ("digest", 3, 3)
    post.close()


def test_quiet_hours_hold_back_and_then_the_last_state_goes_out(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    quiet = {"begins": "22:00", "ends": "06:00", "tz": "Europe/Berlin", "except_level": "high"}
    post = room(tmp_path, hook(receiver, secret, quiet=quiet))
    night = datetime(2026, 11, 23, 23, tzinfo=UTC)
    post.take(1, night, [step(last_seen=night), step(alert="b" * 32, severity="high", last_seen=night),
                         step(alert="c" * 32, last_seen=night)])  # fmt: skip
    assert post.send(night) == 1
    post.take(2, night, [step("confirmed", 1, last_seen=night), step("withdrawn", 1, "c" * 32)])
    assert post.send(night) == 0
    assert post.send(night + timedelta(hours=7)) == 1
    assert [(one["alert_id"][0], one["outcome"]) for one in receiver.bodies] == [
        ("b", "fired"),
        ("a", "confirmed"),
    ]
    post.close()


OCSF: dict[str, Any] = {
    "type": "object",
    "required": ["activity_id", "category_uid", "class_uid", "type_uid", "time", "severity_id", "metadata",
                 "finding_info"],
    "properties": {
        "class_uid": {"const": 2004}, "category_uid": {"const": 2},
        "type_uid": {"enum": [200401, 200402, 200403]},
        "severity_id": {"enum": [1, 2, 3, 4, 5]}, "time": {"type": "integer"},
        "status_id": {"enum": [1, 2, 3, 4]},
        "metadata": {"required": ["version", "product"]}, "finding_info": {"required": ["uid", "title"]},
    },
}  # fmt: skip
"""What class 2004 requires (schema.ocsf.io, version 1.3.0)."""


@pytest.mark.parametrize("outcome", ["fired", "updated", "confirmed", "withdrawn", "resolved", "dismissed"])
def test_an_alert_is_a_detection_finding(outcome: str) -> None:
    finding = detection_finding(step(outcome))
    jsonschema.validate(json.loads(json.dumps(finding)), OCSF)
    assert finding["finding_info"]["uid"] == "a" * 32
    assert finding["time"] == int(NOW.timestamp() * 1_000)


def test_names_of_events_do_nothing_in_a_chat(receiver: Receiver, secret: Path) -> None:
    evil = step(alert_key='["<!channel> <https://evil|click>\\n*x*"]')
    route = hook(receiver, secret, form="slack")
    said = json.loads(message(route, evil))
    assert "<" not in said["text"]
    assert "\n" not in said["text"]
    assert said["mrkdwn"] is False


def test_a_pager_is_resolved_by_a_withdrawal(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("r" * 32)
    route = hook(receiver, secret, form="pagerduty", routing_key_file=key)
    fired = json.loads(message(route, step(), "r" * 32))
    gone = json.loads(message(route, step("withdrawn"), "r" * 32))
    assert (fired["event_action"], gone["event_action"]) == ("trigger", "resolve")
    assert fired["dedup_key"] == gone["dedup_key"] == "a" * 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("routes: []", "routes.yml:1"),
        ("routes:\n  - {name: a, kind: webhook, url: ftp://x, secret_file: s}", "routes.yml:2"),
        ("routes:\n  - {name: a, kind: webhook, url: http://x}", "a url and a secret_file"),
        ("routes:\n  - {name: a, kind: kafka, topic: t}", "bootstrap and topic"),
        ("routes:\n  - {name: ../a, kind: kafka, topic: t, bootstrap: b}", "name"),
        ("routes:\n  - {name: a, kind: kafka, topic: t, bootstrap: b}\n"
         "  - {name: a, kind: kafka, topic: t, bootstrap: b}", "one name"),
        ("routes:\n  - {name: a, kind: kafka, topic: t, bootstrap: b, quiet: {begins: '25:00', ends: '6'}}",
         "begins"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_routes_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "routes.yml"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_routes(file)
    assert said in refused.value.message


class Mailbox:
    """A mail server's other end, with a real SMTP conversation."""

    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], EmailMessage]] = []
        self.loop = asyncio.new_event_loop()
        serving = self.loop.create_server(lambda: SMTP(self, loop=self.loop), "127.0.0.1", 0)
        self.server = self.loop.run_until_complete(serving)
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - its name there
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.got.append((envelope.mail_from, envelope.rcpt_tos, mail))
        return "250 taken" if "full@" not in str(envelope.rcpt_tos) else "452 the disk is full"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    one = Mailbox()
    yield one
    one.close()


def mail_route(port: int, to: str = "soc@acme.example", **more: Any) -> Route:
    return Route(
        name="mail", kind="mail", form="text", smtp=f"127.0.0.1:{port}", tls="none",
        mail_from="ledger@acme.example", mail_to=[to], **more,
    )  # fmt: skip


def test_a_mail_says_what_happened_and_names_from_events_stay_text(mailbox: Mailbox, tmp_path: Path) -> None:
    post = room(tmp_path, mail_route(mailbox.port))
    evil = '["agent:x\\r\\nBcc: all@acme.example\u202e"]'
    post.take(3, NOW, [step(alert_key=evil, delegated_actor="agent:x\r\nEvil: 1")])
    assert post.send(NOW) == 1
    post.close()
    ((sender, receivers, mail),) = mailbox.got
    assert (sender, receivers) == ("ledger@acme.example", ["soc@acme.example"])
    assert mail["Subject"].startswith("[medium] Many denies: ")
    assert {name.lower() for name, _ in mail.items()} & {"bcc", "evil"} == set()
    assert mail["Message-ID"] == f"<{hashlib.sha256(b'a' * 32 + b'/e0').hexdigest()}@decision-ledger.invalid>"
    body = mail.get_content()
    assert "decision-ledger alerts show aaaaaaaaaaaa" in body
    assert "\u202e" not in body
    assert "\nEvil: 1" not in body


def test_what_is_old_is_one_mail_and_a_server_that_refuses_is_asked_again(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    post = room(tmp_path, mail_route(mailbox.port))
    old = NOW - timedelta(days=2)
    post.take(3, NOW, [step(last_seen=old), step(alert="b" * 32, last_seen=old)])
    assert post.send(NOW) == 1
    assert "2 alerts" in mailbox.got[0][2]["Subject"]
    post.close()
    full = PostRoom([mail_route(mailbox.port, "full@acme.example")], tmp_path / "full", 0)
    full.take(3, NOW, [step()])
    assert full.send(NOW) == 0
    assert full.waiting() == {"mail": 1}
    full.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"smtp": "mail.acme.example:25", "tls": "none"}, "leaves this machine"),
        ({"mail_to": []}, "has smtp, mail_from and mail_to"),
        ({"mail_to": ["soc@acme.example\r\nBcc: x@y"]}, "String should match"),
        ({"form": "native"}, "form text"), ({"user": "u"}, "come together"),
    ],
)  # fmt: skip
def test_a_mail_route_that_is_not_whole_is_refused(more: dict[str, Any], said: str) -> None:
    whole = mail_route(25).model_dump()
    with pytest.raises(ValidationError, match=said):
        Route.model_validate({**whole, **more})
