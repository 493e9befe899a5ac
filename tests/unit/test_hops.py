"""A queue hop: what is late, moved or changed is denied; the rest is judged again, and done once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from issuer.hops.context import check_context
from issuer.hops.queue import QueueFull, put, take
from issuer.hops.worker import Worker
from issuer.revocation import revoke
from issuer.state.signing_keys import BROKER
from issuer.tokens.jws import ACCESS, HOP, TokenRefused, sign, verify
from issuer.tokens.keys import make_key
from tests.issuing import NOW, URLS, Company

REPORTER = "agent:production/report-writer"


@pytest.fixture
def queued(firm: Company) -> tuple[Company, Worker, dict[str, Any]]:
    firm.hear()
    session = firm.session(
        "user:alice", [REPORTER], purpose="reporting", requested_actions=["report:run", "invoice:read"]
    )
    token = firm.credential(
        REPORTER, session["session"], audience="tool:production/reports", scope="report:run"
    )
    answer = firm.tool("worker", REPORTER, token, "report:run", "report:monthly", month="2026-10")
    assert answer.status == 200, answer
    assert answer.body["result"]["queued"]
    return firm, firm.stack.workers[0], session


def told(firm: Company, worker: Worker) -> list[tuple[str, Any, Any]]:
    before = len(firm.events())
    worker.step()
    return [
        (one["kind"], one.get("decision", one.get("outcome")), one.get("reason"))
        for one in firm.events()[before:]
    ]


def test_what_waited_is_judged_again_and_done_once(queued: tuple[Company, Worker, dict[str, Any]]) -> None:
    firm, worker, session = queued
    assert firm.events("action")[-1]["outcome"] == "started"
    assert told(firm, worker) == [("decision", "allow", None), ("action", "succeeded", None)]
    decision, action = firm.events()[-2:]
    assert (decision["pep"], decision["trace_id"]) == ("worker", session["txn"])
    assert decision["delegation"] == ["user:alice", REPORTER]
    assert action["decision_ref"] == decision["event_id"]
    assert worker.done == ["report:monthly"]
    assert told(firm, worker) == []
    row = firm.deployment.db.row("SELECT message_id FROM queue")
    assert row is not None
    assert firm.call("worker", "GET", f"/queued/{row[0]}").body == {"done": True}
    assert firm.call("worker", "GET", "/queued/none").status == 404


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, s: f.time.__setitem__(0, f.time[0] + 1_201), "context_expired"),
        (lambda f, s: _revoke(f, f"session:{s['sid']}"), "session_revoked"),
        (lambda f, s: _revoke(f, REPORTER), "principal_revoked"),
        (lambda f, s: f.as_user("user:dan", "authority", f"/sessions/{s['sid']}/end"), "session_end"),
        (lambda f, s: _risk(f, s, 80), "risk_too_high"),
        (lambda f, s: f.deployment.db.write("UPDATE queue SET body = x'00'"), "body_changed"),
        (lambda f, s: f.deployment.db.write("UPDATE queue SET message_id = 'other'"), "context_moved"),
        (lambda f, s: f.deployment.db.write("UPDATE queue SET context = 'x'"), "token_malformed"),
        (lambda f, s: f.deployment.keys[BROKER].replace_compromised(), "token_kid"),
    ],
)
def test_what_no_longer_counts_is_denied_and_not_tried_again(
    queued: tuple[Company, Worker, dict[str, Any]],
    change: Callable[[Company, dict[str, Any]], Any],
    reason: str,
) -> None:
    firm, worker, session = queued
    change(firm, session)
    firm.hear()
    assert told(firm, worker) == [("decision", "deny", reason)]
    assert told(firm, worker) == []
    assert worker.done == []


def _revoke(firm: Company, target: str) -> None:
    revoke(firm.deployment.db, firm.deployment.recorder, target, reason="x", by="user:dan")


def _risk(firm: Company, session: dict[str, Any], risk: int) -> None:
    path = f"/sessions/{session['sid']}/risk"
    assert firm.as_user("user:dan", "authority", path, {"risk": risk}).status == 200


def test_a_worker_that_knows_nothing_new_tries_again_later(
    queued: tuple[Company, Worker, dict[str, Any]],
) -> None:
    firm, worker, _ = queued
    firm.time[0] += 200
    assert told(firm, worker) == [("decision", "deny", "feed_stale")]
    firm.hear()
    assert told(firm, worker) == [("decision", "allow", None), ("action", "succeeded", None)]


def test_a_message_moved_to_another_queue_is_refused(queued: tuple[Company, Worker, dict[str, Any]]) -> None:
    firm, worker, _ = queued
    firm.deployment.db.write("UPDATE queue SET queue = 'payments'")
    other = Worker(firm.stack.points["worker"], "payments")
    assert told(firm, worker) == []
    assert told(firm, other) == [("decision", "deny", "context_moved")]


def test_a_context_is_of_its_type_and_its_broker(queued: tuple[Company, Worker, dict[str, Any]]) -> None:
    firm, _, _ = queued
    message = take(firm.deployment.db, "reports")
    assert message is not None
    ring = firm.deployment.keys[BROKER]
    claims = dict(verify(message.context, HOP, ring.key_for))
    common: dict[str, Any] = {
        "issuer": URLS["broker"], "domain": "production", "message_id": message.message_id,
        "queue": "reports", "body": message.body, "now": NOW,
    }  # fmt: skip
    assert check_context(message.context, ring.key_for, **common).tctx.resource == "report:monthly"
    for text, why in (
        (sign(claims, ACCESS, ring.current()), "token_type"),
        (sign(claims, HOP, make_key()), "token_kid"),
        (sign({**claims, "aud": "staging"}, HOP, ring.current()), "token_audience"),
        (sign({**claims, "iss": "x"}, HOP, ring.current()), "token_issuer"),
        (sign({**claims, "tctx": {}}, HOP, ring.current()), "token_claims"),
    ):
        with pytest.raises(TokenRefused) as refused:
            check_context(text, ring.key_for, **common)
        assert refused.value.reason == why


def test_a_queue_has_a_limit(firm: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("issuer.hops.queue.MAX_WAITING", 1)
    assert put(firm.deployment.db, "a", "q", "c", b"", now=NOW)
    with pytest.raises(QueueFull):
        put(firm.deployment.db, "b", "q", "c", b"", now=NOW)
