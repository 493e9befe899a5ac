"""Enforcement points: nothing passes without token, holder, scope, policy and event; caches drop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from issuer.policy.activation import activate, earlier_bundle
from issuer.policy.bundle import bundle_of
from issuer.policy.review import make_review
from issuer.revocation import KEY_REPLACED, POLICY_CHANGED, revoke, tell
from issuer.state.policies import active, history, kept_bundle
from issuer.state.signing_keys import BROKER
from issuer.tokens.jws import ACCESS, sign
from issuer.tokens.keys import make_key
from ledger.errors import UsageError
from tests.issuing import NOW, PAYER, PAYMENTS, TICKETS, TRIAGE, URLS, Answer, Company
from tests.unit.test_broker import claims_of

READ = "ticket:read"
PATH = f"/tools/tickets/{READ}"
ROUTE = URLS["router"] + PATH


def capability(firm: Company, session: dict[str, Any] | None = None, **more: Any) -> str:
    session = session or firm.session()
    return firm.credential(TRIAGE, session["session"], **{"audience": TICKETS, **more})


def read(firm: Company, token: str, resource: str = "ticket:4711") -> Answer:
    return firm.tool("router", TRIAGE, token, READ, resource)


def drops(firm: Company) -> list[str]:
    return [
        event["attributes"]["cause"]
        for event in firm.events("revocation")
        if event.get("outcome") == "dropped"
    ]


@pytest.fixture
def ready(firm: Company) -> Company:
    firm.hear()
    return firm


def test_a_call_leaves_a_decision_and_an_action_of_one_trace(ready: Company) -> None:
    session = ready.session()
    token = capability(ready, session)
    answer, events = ready.since(lambda: read(ready, token))
    assert answer.status == 200, answer
    assert answer.body["result"]["resource"] == "ticket:4711"
    decision, action = events
    assert (decision["kind"], decision["decision"], action["kind"], action["outcome"]) == (
        "decision", "allow", "action", "succeeded",
    )  # fmt: skip
    assert action["decision_ref"] == decision["event_id"]
    assert "decision" not in action
    for event in events:
        assert event["trace_id"] == session["txn"]
        assert event["request_id"] == answer.headers["x-request-id"]
        assert event["pep"] == "tool_router"
        assert event["policy_version"] == "1"
        assert event["delegation"] == ["user:alice", TRIAGE]
        assert event["credential_id"] == claims_of(ready, token)["jti"]
        assert (event["action"], event["impact"], event["action_type"]) == (READ, "low", "read")
        assert event["required_scopes"] == [READ]
        assert event["session_verified"] is True
    assert "eyJ" not in json.dumps(events)


def _resigned(firm: Company, token: str, **claims: Any) -> str:
    return sign({**claims_of(firm, token), **claims}, ACCESS, firm.deployment.keys[BROKER].current())


TOKEN_ATTACKS: list[tuple[str, Callable[[Company, str], str], int, str]] = [
    ("none", lambda f, t: "x", 401, "token_malformed"),
    ("alg none", lambda f, t: "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.e30.AA", 401, "token_algorithm"),
    ("another typ", lambda f, t: f.session()["session"], 401, "token_type"),
    ("a stranger's", lambda f, t: sign(claims_of(f, t), ACCESS, make_key()), 401, "token_kid"),
    ("another issuer", lambda f, t: _resigned(f, t, iss=URLS["authority"]), 401, "token_issuer"),
    ("another tool", lambda f, t: _resigned(f, t, aud=PAYMENTS), 401, "token_audience"),
    ("two audiences", lambda f, t: _resigned(f, t, aud=[TICKETS, PAYMENTS]), 401, "token_audience"),
    ("expired", lambda f, t: _resigned(f, t, exp=NOW), 401, "token_expired"),
    ("of tomorrow", lambda f, t: _resigned(f, t, iat=NOW + 60), 401, "token_not_yet_valid"),
    ("another environment", lambda f, t: _resigned(f, t, env="staging"), 401, "environment_mismatch"),
    ("another key", lambda f, t: _resigned(f, t, cnf={"jkt": "x"}), 401, "proof_of_another_key"),
    ("no key", lambda f, t: _resigned(f, t, cnf=None), 401, "token_claims"),
    ("too few scopes", lambda f, t: _resigned(f, t, scope="ticket:update"), 403, "scope_missing"),
    ("a deep chain", lambda f, t: _resigned(f, t, act=_deep(9)), 401, "chain_too_deep"),
    (
        "a cycle",
        lambda f, t: _resigned(f, t, act={"sub": TRIAGE, "act": {"sub": TRIAGE}}),
        401,
        "chain_cycle",
    ),
    ("never recorded", lambda f, t: _resigned(f, t, jti="never"), 403, "credential_unknown"),
    (
        "another's session",
        lambda f, t: _resigned(f, t, sid=f.session("user:bob")["sid"]),
        403,
        "subject_mismatch",
    ),
    ("oversized", lambda f, t: "x" * 9_000, 401, "token_too_large"),
]


def _deep(depth: int) -> dict[str, Any]:
    act: dict[str, Any] = {}
    for n in range(depth):
        act = {"sub": f"agent:production/a{n}", **({"act": act} if act else {})}
    return act


@pytest.mark.parametrize(
    ("_", "make", "status", "reason"), TOKEN_ATTACKS, ids=[one[0] for one in TOKEN_ATTACKS]
)
def test_a_token_that_does_not_count_is_refused(
    ready: Company, _: str, make: Callable[[Company, str], str], status: int, reason: str
) -> None:
    token = make(ready, capability(ready))
    answer, events = ready.since(lambda: read(ready, token))
    assert (answer.status, answer.error) == (
        status,
        "invalid_token" if status == 401 else "insufficient_scope",
    )
    assert [(one["kind"], one["decision"], one["reason"]) for one in events] == [("decision", "deny", reason)]
    assert events[0]["request_id"] == answer.headers["x-request-id"]
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("DPoP")
    assert "eyJ" not in json.dumps(events) + json.dumps(answer.body)


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (lambda f, t: {}, "token_missing"),
        (lambda f, t: {"Authorization": f"Bearer {t}"}, "token_missing"),
        (lambda f, t: {"Authorization": f"DPoP {t}"}, "proof_missing"),
        (lambda f, t: {"Authorization": f"DPoP {t}", **f.proof(TRIAGE, "GET", ROUTE, t)}, "proof_method"),
        (lambda f, t: {"Authorization": f"DPoP {t}", **f.proof(TRIAGE, "POST", ROUTE + "x", t)}, "proof_url"),
        (lambda f, t: {"Authorization": f"DPoP {t}", **f.proof(TRIAGE, "POST", ROUTE, "x")}, "proof_token"),
        (lambda f, t: {"Authorization": f"DPoP {t}", **f.proof(TRIAGE, "POST", ROUTE)}, "proof_token"),
        (
            lambda f, t: {"Authorization": f"DPoP {t}", **f.proof(PAYER, "POST", ROUTE, t)},
            "proof_of_another_key",
        ),
    ],
)
def test_who_does_not_hold_the_key_is_refused(
    ready: Company, headers: Callable[[Company, str], dict[str, str]], reason: str
) -> None:
    token = capability(ready)
    made = headers(ready, token)
    answer, events = ready.since(
        lambda: ready.call("router", "POST", PATH, json={"resource": "ticket:4711"}, headers=made)
    )
    assert answer.status == 401
    assert [one["reason"] for one in events] == [reason]


def test_a_replayed_proof_is_refused(ready: Company) -> None:
    token = capability(ready)
    headers = {"Authorization": f"DPoP {token}", **ready.proof(TRIAGE, "POST", ROUTE, token)}
    body = {"resource": "ticket:4711"}
    assert ready.call("router", "POST", PATH, json=body, headers=headers).status == 200
    answer = ready.call("router", "POST", PATH, json=body, headers=headers)
    assert (answer.status, answer.error) == (401, "invalid_dpop_proof")
    headers = {"Authorization": f"DPoP {token}", **ready.proof(TRIAGE, "POST", ROUTE, token)}
    twice = [
        ("DPoP", headers["DPoP"]),
        ("DPoP", headers["DPoP"]),
        ("Authorization", headers["Authorization"]),
    ]
    assert ready.call("router", "POST", PATH, json=body, headers=twice).status == 401


def test_the_policy_decides_at_each_point(ready: Company) -> None:
    token = capability(ready)
    for resource, reason in (
        ("ticket:5001", "tenant_boundary"), ("ticket:none", "resource_unknown"),
        ("customer:100", "resource_unknown"),
    ):  # fmt: skip
        answer = read(ready, token, resource)
        assert (answer.status, answer.body["reason"]) == (403, reason)
    for body, status in (({}, 400), ({"resource": 7}, 400), ({"resource": "x" * 257}, 400)):
        assert ready.call("router", "POST", PATH, json=body).status == status
    for path in ("/tools/payments/payment:read", "/tools/tickets/ticket:burn", "/tools/none/x:y"):
        assert ready.call("router", "POST", path, json={"resource": "x:y"}).status == 404


def test_a_cached_decision_is_dropped_on_every_cause(ready: Company) -> None:
    cache = ready.stack.points["router"].cache

    def causes(change: Callable[[dict[str, Any], str], object]) -> list[str]:
        session = ready.session()
        token = capability(ready, session)
        assert read(ready, token).status == 200
        assert len(cache) == 1
        before = len(drops(ready))
        change(session, token)
        ready.hear()
        assert len(cache) == 0
        return drops(ready)[before:]

    def end(cause: str) -> Callable[[dict[str, Any], str], object]:
        return lambda s, t: ready.as_user(
            "user:dan", "authority", f"/sessions/{s['sid']}/end", {"cause": cause}
        )

    def taken(target: str) -> object:
        return revoke(ready.deployment.db, ready.deployment.recorder, target, reason="x", by="user:dan")

    assert causes(end("session_end")) == ["session_end"]
    assert causes(end("task_end")) == ["task_end"]
    assert causes(lambda s, t: taken(f"session:{s['sid']}")) == ["revocation"]
    assert causes(lambda s, t: taken(f"credential:{claims_of(ready, t)['jti']}")) == ["revocation"]
    risk = {"risk": 50}
    assert causes(
        lambda s, t: ready.as_user("user:dan", "authority", f"/sessions/{s['sid']}/risk", risk)
    ) == ["risk_change"]
    assert causes(
        lambda s, t: tell(
            ready.deployment.db, ready.deployment.recorder, "policy:2", POLICY_CHANGED, reason="x",
            cause="policy_change",
        )
    ) == ["policy_change"]  # fmt: skip
    assert causes(
        lambda s, t: ready.tool(
            "router", TRIAGE, capability(ready, s, scope="ticket:update"), "ticket:update", "ticket:4711",
            state="closed",
        )
    )[-1] == "closed_ticket"  # fmt: skip
    assert causes(lambda s, t: _withdraw(ready, s)) == ["withdrawn_approval"]
    assert causes(
        lambda s, t: tell(
            ready.deployment.db, ready.deployment.recorder, "key:broker", KEY_REPLACED, reason="x",
            cause="key_replaced",
        )
    ) == ["key_replaced"]  # fmt: skip
    assert causes(lambda s, t: taken(TRIAGE)) == ["revocation"]


def _withdraw(firm: Company, session: dict[str, Any]) -> None:
    from issuer.state.approvals import ask_for_approval

    approval, _ = ask_for_approval(
        firm.deployment.db, firm.deployment.new_id(), agent=TRIAGE, action="payment:send",
        resource="payment:8841",
        sid=session["sid"], user="user:alice", now=NOW,
    )  # fmt: skip
    assert firm.as_user("user:dan", "authority", f"/approvals/{approval}/withdraw").status == 200


def test_a_cached_decision_expires_and_says_so(ready: Company) -> None:
    token = capability(ready)
    assert read(ready, token).status == 200
    ready.time[0] += 29
    ready.hear()
    assert read(ready, token).status == 200
    assert drops(ready) == []
    ready.time[0] += 2
    assert read(ready, token).status == 200
    assert drops(ready) == ["expiry"]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (lambda f, s, t: f"session:{s['sid']}", "session_revoked"),
        (lambda f, s, t: f"credential:{claims_of(f, t)['jti']}", "credential_revoked"),
        (lambda f, s, t: f"credential:{claims_of(f, t)['parent']}", "credential_revoked"),
        (lambda f, s, t: TRIAGE, "principal_revoked"),
        (lambda f, s, t: "user:alice", "principal_revoked"),
    ],
)
def test_what_is_revoked_is_refused_at_every_point(
    ready: Company, target: Callable[[Company, dict[str, Any], str], str], reason: str
) -> None:
    session = ready.session()
    parent = ready.credential(TRIAGE, session["session"])
    token = ready.credential(TRIAGE, parent, audience=TICKETS)
    assert read(ready, token).status == 200
    name = target(ready, session, token)
    revoke(ready.deployment.db, ready.deployment.recorder, name, reason="lost", by="user:dan")
    ready.hear()
    answer, events = ready.since(lambda: read(ready, token))
    assert (answer.status, answer.error) == (401, "invalid_token")
    assert [one["reason"] for one in events] == [reason]
    assert all(point.feed.refuses is not None for point in ready.stack.points.values())


def test_a_feed_that_grows_old_refuses_first_high_impact_then_all(ready: Company) -> None:
    token = capability(ready)
    session = ready.session("user:erin", [PAYER], purpose="finance", requested_actions=["payment:send"])

    def pay() -> Answer:
        once = ready.credential(PAYER, session["session"], audience=PAYMENTS, scope="payment:send")
        return ready.tool("gateway", PAYER, once, "payment:send", "payment:8842", amount="1.00")

    assert pay().body["reason"] == "approval_required"
    ready.time[0] += 31
    answer, events = ready.since(pay)
    assert answer.status == 503
    assert events[-1]["reason"] == "feed_stale"
    assert read(ready, token).status == 200
    ready.time[0] += 90
    assert read(ready, token).status == 503
    ready.hear()
    assert read(ready, token).status == 200


def test_a_point_that_has_just_started_refuses_until_it_has_read(firm: Company) -> None:
    token = capability(firm)
    assert read(firm, token).status == 503
    firm.hear()
    assert read(firm, token).status == 200


def _approved_payment(firm: Company) -> tuple[dict[str, Any], Callable[[], Answer]]:
    session = firm.session("user:erin", [PAYER], purpose="finance", requested_actions=["payment:refund"])
    runner = "agent:production/refund-runner"
    session = firm.session("user:erin", [runner], purpose="finance", requested_actions=["payment:refund"])

    def refund(token: str | None = None) -> Answer:
        token = token or firm.credential(
            runner, session["session"], audience=PAYMENTS, scope="payment:refund"
        )
        return firm.tool("gateway", runner, token, "payment:refund", "payment:8842")

    approval = refund().body["approval_id"]
    assert firm.as_user("user:dan", "authority", f"/approvals/{approval}/approve").status == 200
    return session, refund


def test_high_impact_needs_the_ledgers_word(ready: Company) -> None:
    _, refund = _approved_payment(ready)
    ready.sink.broken = True
    ready.session()  # its events cannot go
    ready.loop.run_until_complete(_until(lambda: bool(ready.stack.emitter and ready.stack.emitter.failing)))
    answer, events = ready.since(refund)
    assert (answer.status, answer.error) == (503, "temporarily_unavailable")
    assert [one["reason"] for one in events if one["kind"] == "decision"] == ["ledger_unavailable"]
    assert not [one for one in events if one["kind"] == "action"]
    assert read(ready, capability(ready)).status == 200  # a low impact goes on; its events wait
    ready.sink.broken = False
    ready.loop.run_until_complete(
        _until(lambda: bool(ready.stack.emitter and not ready.stack.emitter.waiting))
    )
    assert refund().status == 200
    sequences = [json.loads(text)["sequence"] for text in ready.sink.texts]
    assert sequences == sorted(set(sequences))


async def _until(reached: Callable[[], bool]) -> None:
    import asyncio

    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110 - the emitter has no event for what is waited for here
            await asyncio.sleep(0.01)


def test_of_many_uses_of_a_once_token_one_passes(ready: Company) -> None:
    runner = "agent:production/refund-runner"
    session = ready.session("user:erin", [runner], purpose="finance", requested_actions=["payment:refund"])
    token = ready.credential(runner, session["session"], audience=PAYMENTS, scope="payment:refund")
    path = "/tools/payments/payment:refund"
    # Each use has an approval of its own waiting, so that only the token's single use decides.
    for _ in range(3):
        asked = ready.tool("gateway", runner, token, "payment:refund", "payment:8842")
        assert asked.body["reason"] == "approval_required"
    approval = asked.body["approval_id"]
    assert ready.as_user("user:dan", "authority", f"/approvals/{approval}/approve").status == 200
    requests = []
    for _ in range(8):
        headers = {
            "Authorization": f"DPoP {token}",
            **ready.proof(runner, "POST", URLS["gateway"] + path, token),
        }
        requests.append(("gateway", "POST", path, {"json": {"resource": "payment:8842"}, "headers": headers}))
    answers = ready.together(*requests)
    assert sorted(answer.status for answer in answers).count(200) == 1
    again = ready.tool("gateway", runner, token, "payment:refund", "payment:8842")
    assert again.status in (401, 403)
    assert (
        sum(event["kind"] == "action" and event["action"] == "payment:refund" for event in ready.events())
        == 1
    )


def test_a_rollback_is_atomic_and_carries_the_old_version(ready: Company) -> None:
    deployment = ready.deployment
    now_active = active(deployment.db)
    assert now_active is not None
    first = kept_bundle(deployment.db, now_active.digest)
    assert first is not None
    files = {path: data.replace(b'version: "1"', b'version: "2"') for path, data in first.files.items()}
    files["bounds.cedar"] += (
        b'\n@id("closed") @reason("closed") forbid (principal, action, resource) when { false };\n'
    )
    second = bundle_of(files, "agents-2")
    review = make_review(second, "user:dan", ready.key("user:dan"), now=NOW)
    same: dict[str, Any] = {"reviews": [review], "owner_of": deployment.trust.owner_of}
    with pytest.raises(UsageError, match="reviewed"):
        activate(
            deployment.db, deployment.recorder, deployment.registry, second, reason="x",
            **{**same, "reviews": []},
        )  # fmt: skip
    token = capability(ready)
    assert read(ready, token).status == 200
    activate(deployment.db, deployment.recorder, deployment.registry, second, reason="tighter", **same)
    ready.hear()
    assert read(ready, token).status == 200
    assert ready.events("decision")[-1]["policy_version"] == "2"
    earlier = earlier_bundle(deployment.db, None)
    assert earlier.digest == first.digest
    own = make_review(first, "user:dan", ready.key("user:dan"), now=NOW)
    activate(
        deployment.db, deployment.recorder, deployment.registry, earlier, reason="too tight", reviews=[own],
        owner_of=deployment.trust.owner_of, outcome="rolled_back", approval_id="CHG-7",
    )  # fmt: skip
    ready.hear()
    assert read(ready, token).status == 200
    assert ready.events("decision")[-1]["policy_version"] == "1"
    event = ready.events("policy")[-1]
    assert (event["outcome"], event["previous_policy_version"], event["approval_id"]) == (
        "rolled_back",
        "2",
        "CHG-7",
    )
    assert [line.version for line in history(deployment.db)] == ["1", "2", "1"]
    assert drops(ready) == ["policy_change", "policy_change"]


def test_an_unknown_key_costs_one_fetch_in_ten_seconds(ready: Company, company: Path) -> None:
    token = capability(ready)
    assert read(ready, token).status == 200
    keys = ready.stack.points["router"].keys
    fetched = keys._fetched_at
    stranger = sign(claims_of(ready, token), ACCESS, make_key())
    for _ in range(5):
        assert read(ready, stranger).status == 401
    assert keys._fetched_at == fetched
    ready.time[0] += 11
    assert read(ready, stranger).status == 401
    assert keys._fetched_at == ready.time[0]


def test_a_dropped_event_lets_nothing_of_high_impact_pass(
    ready: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, refund = _approved_payment(ready)
    real = ready.deployment.recorder.record

    def full(kind: str, **fields: Any) -> tuple[str, int]:
        if kind != "decision":
            return real(kind, **fields)
        monkeypatch.setattr(ready.deployment.recorder, "_limit", 0)
        monkeypatch.setattr(ready.deployment.recorder, "_when_full", "drop")
        try:
            return real(kind, **fields)
        finally:
            monkeypatch.setattr(ready.deployment.recorder, "_limit", 1_000)

    monkeypatch.setattr(ready.deployment.recorder, "record", full)
    monkeypatch.setattr("issuer.enforcement.point.ACCEPTED_SECONDS", 0.2)
    answer = refund()
    assert (answer.status, answer.error) == (503, "temporarily_unavailable")


def test_a_fault_of_ours_is_told_without_a_word_of_the_request(
    ready: Company, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    token = capability(ready)

    def breaks(*_: Any, **__: Any) -> None:
        raise KeyError(token)

    monkeypatch.setattr("issuer.enforcement.point.verify_parts", breaks)
    answer, events = ready.since(lambda: read(ready, token))
    assert (answer.status, answer.error) == (500, "server_error")
    assert [(one["decision"], one["reason"]) for one in events] == [("error", "internal_error")]
    shown = capfd.readouterr()
    assert token not in shown.out + shown.err + json.dumps(events)
