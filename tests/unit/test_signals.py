"""Security events from outside: listed transmitters alone, each counted once, everything derived named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from issuer.revocation import CREDENTIAL_CHANGE, JTIS_PER_SIGNAL, RISK_CHANGE, SESSION_REVOKED
from issuer.state.credentials import add_credential
from issuer.state.signals import signals_after
from issuer.tokens.jws import ACCESS, EVENT, sign
from issuer.tokens.keys import make_key
from tests.issuing import NOW, TICKETS, TRIAGE, URLS, Answer, Company
from tests.unit.test_broker import claims_of

KEY = make_key()
CAEP = "https://caep.example"


@pytest.fixture
def listed(firm: Company) -> Company:
    firm.deployment.transmitters = {CAEP: {str(KEY.kid): KEY}}
    firm.hear()
    return firm


def push(firm: Company, target: str, event: str = SESSION_REVOKED, **claims: Any) -> Answer:
    whole = {
        "iss": CAEP, "aud": URLS["signals"], "iat": NOW, "jti": firm.new(),
        "sub_id": {"format": "opaque", "id": target}, "events": {event: {}}, **claims,
    }  # fmt: skip
    return send(firm, sign({name: one for name, one in whole.items() if one is not None}, EVENT, KEY))


def send(firm: Company, text: str, kind: str = "application/secevent+jwt") -> Answer:
    return firm.call("signals", "POST", "/events", content=text, headers={"content-type": kind})


def test_a_pushed_revocation_reaches_every_point_and_counts_once(listed: Company) -> None:
    session = listed.session()
    token = listed.credential(TRIAGE, session["session"], audience=TICKETS)
    target = f"session:{session['sid']}"
    for _ in range(2):
        assert push(listed, target, jti="one").status == 202
    listed.hear()
    assert listed.tool("router", TRIAGE, token, "ticket:read", "ticket:4711").status == 401
    signals = listed.events("signal")
    assert [(one["target"], one["reason"]) for one in signals] == [(target, "session-revoked")]
    assert signals[0]["trace_id"] == session["txn"]
    (taken,) = listed.events("revocation")[-1:]
    assert (taken["target"], taken["trace_id"], taken["outcome"]) == (target, session["txn"], "revoked")


@pytest.mark.parametrize(("said", "kept"), [("0" * 32, "0" * 32), ("x" * 32, None), (7, None)])
def test_the_alert_that_asks_for_it_stays_with_it(listed: Company, said: object, kept: str | None) -> None:
    session = listed.session()
    claims = claims_of(listed, listed.credential(TRIAGE, session["session"]))
    events = {CREDENTIAL_CHANGE: {"alert_id": said}}
    assert push(listed, f"credential:{claims['jti']}", events=events).status == 202
    for kind in ("signal", "revocation"):
        last = listed.events(kind)[-1]
        assert last.get("alert_id") == kept
        assert (last["credential_id"], last["trace_id"]) == (claims["jti"], session["txn"])


def test_a_raised_risk_counts_from_then_on(listed: Company) -> None:
    session = listed.session()
    token = listed.credential(TRIAGE, session["session"], audience=TICKETS)
    event = {RISK_CHANGE: {"current_level": "HIGH"}}
    assert push(listed, f"session:{session['sid']}", events=event).status == 202
    answer = listed.tool("router", TRIAGE, token, "ticket:read", "ticket:4711")
    assert answer.body["reason"] == "risk_too_high"
    assert listed.events("signal")[-1]["reason"] == "risk-level-change:HIGH"


def test_all_that_was_derived_is_named_however_much_it_is(listed: Company) -> None:
    session = listed.session()
    root = listed.credential(TRIAGE, session["session"])
    claims = claims_of(listed, root)
    children = [f"child-{n}" for n in range(2 * JTIS_PER_SIGNAL)]
    for name in children:
        add_credential(listed.deployment.db, {**claims, "jti": name, "parent": claims["jti"]})
    assert push(listed, f"credential:{claims['jti']}", CREDENTIAL_CHANGE).status == 202
    named = [
        jti
        for one in signals_after(listed.deployment.db, 0, 100)
        for jti in one.details.get("credentials", [])
    ]
    assert sorted(named) == sorted([claims["jti"], *children])
    assert len(listed.events("signal")) == 1
    listed.hear()
    grandchild = sign(
        {**claims, "jti": children[-1], "parent": claims["jti"], "aud": TICKETS}, ACCESS,
        listed.deployment.keys["broker"].current(),
    )  # fmt: skip
    assert listed.tool("router", TRIAGE, grandchild, "ticket:read", "ticket:4711").status == 401


def test_the_decision_point_refuses_a_revoked_credential(listed: Company) -> None:
    session = listed.session()
    claims = claims_of(listed, listed.credential(TRIAGE, session["session"]))
    body = {
        "subject": {"type": "user", "id": "alice"}, "action": {"name": "ticket:read"},
        "resource": {"type": "ticket", "id": "4711"},
        "context": {"sid": session["sid"], "agent": TRIAGE, "credential_id": claims["jti"]},
    }  # fmt: skip

    def ask() -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {listed.assertion('router:production/main', 'pdp')}"}
        found: dict[str, Any] = listed.call(
            "pdp", "POST", "/access/v1/evaluation", json=body, headers=headers
        ).body
        return found

    assert ask()["decision"]
    assert push(listed, f"credential:{claims['jti']}", CREDENTIAL_CHANGE).status == 202
    assert ask()["context"]["reason"] == "credential_revoked"


@pytest.mark.parametrize(
    ("do", "err"),
    [
        (lambda f: push(f, "session:x", iss="https://evil.example"), "invalid_request"),
        (lambda f: push(f, "session:x", aud="https://other.example"), "invalid_request"),
        (lambda f: push(f, "session:x", exp=NOW + 60), "invalid_request"),
        (lambda f: push(f, "session:x", iat=NOW + 60), "invalid_request"),
        (lambda f: push(f, "session:x", jti=None), "invalid_request"),
        (lambda f: push(f, "session:x", "https://example/unknown"), "invalid_request"),
        (lambda f: push(f, "session:x", events={}), "invalid_request"),
        (lambda f: push(f, "session:x", sub_id={"format": "email", "email": "a@b"}), "invalid_request"),
        (lambda f: push(f, "nobody"), "invalid_request"),
        (lambda f: send(f, sign({"iss": CAEP}, EVENT, make_key())), "invalid_key"),
        (lambda f: send(f, sign({"iss": CAEP}, ACCESS, KEY)), "invalid_request"),
        (lambda f: send(f, "x"), "invalid_request"),
        (lambda f: send(f, "x", "application/json"), "invalid_request"),
    ],
)
def test_what_no_listed_transmitter_said_changes_nothing(
    listed: Company, do: Callable[[Company], Answer], err: str
) -> None:
    before = len(signals_after(listed.deployment.db, 0, 100))
    answer, events = listed.since(lambda: do(listed))
    assert (answer.status, answer.body["err"]) == (400, err)
    assert answer.body["description"]
    assert [event["decision"] for event in events] == ["deny"]
    assert len(signals_after(listed.deployment.db, 0, 100)) == before
