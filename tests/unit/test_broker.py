"""The broker under attack: each attempt is refused in the standards' words, in one event, without a leak."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from issuer.broker.exchange import GRANT_TYPE
from issuer.registry.exceptions import ExceptionRecord
from issuer.revocation import revoke
from issuer.state.credentials import find_credential
from issuer.state.database import Database
from issuer.state.grants import add_exception
from issuer.state.signing_keys import AUTHORITY, BROKER
from issuer.tokens.jws import ACCESS, PROOF, SESSION, sign, verify
from issuer.tokens.keys import make_key, thumbprint
from ledger.events import FIELD_NAMES, RESERVED_KINDS
from tests.issuing import (
    DESK,
    NOW,
    PAYER,
    PAYMENTS,
    REPLY,
    TICKETS,
    TRIAGE,
    URLS,
    Answer,
    Company,
)

TOKEN_URL = f"{URLS['broker']}/token"


def claims_of(firm: Company, token: str) -> dict[str, Any]:
    return dict(verify(token, ACCESS, firm.deployment.keys[BROKER].key_for))


def refused(
    firm: Company, do: Callable[[], Answer], status: int, error: str, reason: str, kind: str = "issuance"
) -> dict[str, Any]:
    answer, events = firm.since(do)
    assert (answer.status, answer.error) == (status, error), answer
    assert [(event["kind"], event["decision"], event["reason"]) for event in events] == [
        (kind, "deny", reason)
    ]
    assert events[0]["request_id"] == answer.headers["x-request-id"]
    assert events[0]["policy_version"] == "1"
    assert "eyJ" not in json.dumps(answer.body) + json.dumps(events)
    return events[0]


def test_from_a_session_to_a_capability(firm: Company) -> None:
    session = firm.session()
    credential = claims_of(firm, firm.credential(TRIAGE, session["session"]))
    assert credential["aud"] == URLS["broker"]
    assert credential["act"] == {"sub": TRIAGE}
    assert credential["scope"] == "ticket:read ticket:update"
    answer = firm.exchange(TRIAGE, firm.credential(TRIAGE, session["session"]), audience=TICKETS)
    assert (answer.status, answer.body["token_type"]) == (200, "DPoP")
    assert answer.body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert answer.headers["cache-control"] == "no-store"
    token = claims_of(firm, answer.body["access_token"])
    assert (token["aud"], token["scope"], token["exp"] - token["iat"]) == (
        TICKETS, "ticket:read ticket:update", 300,
    )  # fmt: skip
    assert "once" not in token
    for name in ("sid", "txn", "task_id", "tenant", "env", "zone", "purpose"):
        assert token[name] == credential[name]
    assert token["cnf"]["jkt"] == thumbprint(firm.key(TRIAGE))
    event = firm.events("issuance")[-1]
    assert event["credential_id"] == token["jti"]
    assert event["parent_credential_id"] == token["parent"]
    assert event["delegation"] == ["user:alice", TRIAGE]
    assert event["workload"] == "spiffe://production/agent/support-triage"
    assert event["credential_type"] == "capability"
    assert event["trace_id"] == session["txn"] == token["txn"]
    assert {event["trace_id"] for event in firm.events() if event["kind"] != "policy"} == {session["txn"]}


def test_events_are_of_the_ledgers_own_model(firm: Company) -> None:
    firm.exchange(TRIAGE, firm.session()["session"])
    firm.exchange(TRIAGE, "x")
    for event in firm.events():
        assert set(event) <= set(FIELD_NAMES)
        assert event["kind"] not in RESERVED_KINDS
    assert [event["sequence"] for event in firm.events()] == list(range(1, len(firm.events()) + 1))


def test_life_follows_impact_and_high_counts_once(firm: Company) -> None:
    session = firm.session(
        "user:erin", [PAYER], purpose="finance", requested_actions=["payment:read", "payment:send"]
    )

    def ask(scope: str) -> dict[str, Any]:
        return claims_of(firm, firm.credential(PAYER, session["session"], audience=PAYMENTS, scope=scope))

    low = ask("payment:read")
    assert (low["exp"] - low["iat"], low.get("once")) == (900, None)
    high = claims_of(
        firm, firm.credential(PAYER, session["session"], audience=PAYMENTS, scope="payment:send")
    )
    assert (high["exp"] - high["iat"], high["once"]) == (60, True)
    firm.time[0] += 3_590
    last = claims_of(
        firm, firm.credential(PAYER, session["session"], audience=PAYMENTS, scope="payment:read")
    )
    assert last["exp"] == NOW + 3_600


def test_a_hand_over_needs_its_grant_and_the_chain_grows(firm: Company) -> None:
    session = firm.session(agents=[TRIAGE], requested_actions=["ticket:read", "ticket:notify"])
    own = firm.credential(TRIAGE, session["session"], scope="ticket:read")
    refused(firm, lambda: firm.exchange(TRIAGE, own, audience=REPLY), 400, "invalid_target", "grant_missing")
    handed = firm.credential(TRIAGE, own, audience=REPLY, grant_id="grant-support-handover")
    claims = claims_of(firm, handed)
    assert claims["cnf"]["jkt"] == thumbprint(firm.key(REPLY))
    assert claims["act"] == {"sub": TRIAGE}
    capability = claims_of(firm, firm.credential(REPLY, handed, audience=TICKETS, scope="ticket:read"))
    assert capability["act"] == {"sub": REPLY, "act": {"sub": TRIAGE}}
    assert capability["parent"] == claims["jti"]
    assert firm.events("issuance")[-1]["delegation"] == ["user:alice", TRIAGE, REPLY]
    refused(
        firm, lambda: firm.exchange(REPLY, handed, audience=TICKETS, scope="ticket:notify"),
        400, "invalid_scope", "scope_inflation",
    )  # fmt: skip
    # The one who handed over no longer holds it: it is bound to the other's key.
    refused(
        firm, lambda: firm.exchange(TRIAGE, handed, audience=TICKETS), 400, "invalid_request",
        "proof_of_another_key",
    )  # fmt: skip
    used = firm.events("delegation")[-1]
    assert (used["outcome"], used["grant_id"]) == ("used", "grant-support-handover")
    path = "/grants/grant-support-handover/close"
    assert firm.as_user("user:alice", "broker", path).status == 403
    assert firm.as_user("user:dan", "broker", path).status == 200
    assert firm.as_user("user:dan", "broker", path).status == 404
    assert firm.events("delegation")[-1]["outcome"] == "closed"
    refused(
        firm, lambda: firm.exchange(TRIAGE, own, audience=REPLY, grant_id="grant-support-handover"),
        400, "invalid_target", "grant_unknown",
    )  # fmt: skip


def test_a_grant_of_others_is_none(firm: Company) -> None:
    own = firm.credential(TRIAGE, firm.session()["session"])
    for grant in (
        {"audience": "agent:production/crm-research", "grant_id": "grant-support-handover"},
        {"audience": REPLY, "grant_id": "grant-incident-handover"},
        {"audience": REPLY, "grant_id": "none"},
    ):
        more: dict[str, Any] = {**grant}
        answer = firm.exchange(TRIAGE, own, **more)
        assert (answer.status, answer.error) == (400, "invalid_target")


def _forged_act(firm: Company, chain: list[str]) -> str:
    """A credential by the broker's own key whose chain no broker would have made."""
    session = firm.session()
    claims = claims_of(firm, firm.credential(TRIAGE, session["session"]))
    act: dict[str, Any] = {}
    for name in chain:
        act = {"sub": name, **({"act": act} if act else {})}
    return sign({**claims, "act": act}, ACCESS, firm.deployment.keys[BROKER].current())


UNSIGNED = "eyJhbGciOiJub25lIiwidHlwIjoiY2xpZW50LWF1dGhlbnRpY2F0aW9uK2p3dCJ9.e30.AA"
CLIENT_ATTACKS: list[tuple[str, Callable[[Company], dict[str, Any]], str]] = [
    (
        "none given",
        lambda f: {"client_assertion": None, "client_assertion_type": None},
        "client_assertion_missing",
    ),
    ("another type", lambda f: {"client_assertion_type": "basic"}, "client_assertion_missing"),
    ("of nobody", lambda f: {"client_assertion": "x"}, "token_malformed"),
    ("reused", lambda f: {"client_assertion": f.assertion(TRIAGE, jti="same")}, "token_reused"),
    ("expired", lambda f: {"client_assertion": f.assertion(TRIAGE, exp=NOW)}, "token_expired"),
    (
        "of the future",
        lambda f: {"client_assertion": f.assertion(TRIAGE, iat=NOW + 6)},
        "token_not_yet_valid",
    ),
    ("too long", lambda f: {"client_assertion": f.assertion(TRIAGE, exp=NOW + 61)}, "assertion_too_long"),
    ("for another", lambda f: {"client_assertion": f.assertion(TRIAGE, aud=URLS["pdp"])}, "token_audience"),
    ("without jti", lambda f: {"client_assertion": f.assertion(TRIAGE, jti=None)}, "token_claims"),
    ("iss differs", lambda f: {"client_assertion": f.assertion(TRIAGE, iss=REPLY)}, "token_issuer"),
    ("sub forged", lambda f: {"client_assertion": f.assertion(TRIAGE, sub=REPLY, iss=REPLY)}, "token_kid"),
    (
        "unknown",
        lambda f: {"client_assertion": f.assertion(TRIAGE, sub="agent:production/x")},
        "client_unknown",
    ),
    (
        "of another environment",
        lambda f: {"client_assertion": f.assertion("agent:staging/release-manager")},
        "environment_mismatch",
    ),
    ("client_id of another", lambda f: {"client_id": REPLY}, "client_mismatch"),
    (
        "of another type of token",
        lambda f: {"client_assertion": sign({"sub": TRIAGE}, SESSION, f.key(TRIAGE))},
        "token_type",
    ),
    (
        "alg none",
        lambda f: {
            "client_assertion": "eyJhbGciOiJub25lIiwidHlwIjoiY2xpZW50LWF1dGhlbnRpY2F0aW9uK2p3dCJ9.e30.AA"
        },
        "token_algorithm",
    ),
    ("oversized", lambda f: {"client_assertion": "x" * 9_000}, "token_too_large"),
]


@pytest.mark.parametrize(("_", "make", "reason"), CLIENT_ATTACKS, ids=[name for name, _, _ in CLIENT_ATTACKS])
def test_a_client_that_proves_nothing_is_401(
    firm: Company, _: str, make: Callable[[Company], dict[str, Any]], reason: str
) -> None:
    session = firm.session()["session"]
    if reason == "token_reused":
        assert firm.exchange(TRIAGE, session, **make(firm)).status == 200
    refused(firm, lambda: firm.exchange(TRIAGE, session, **make(firm)), 401, "invalid_client", reason)


PARAMETER_ATTACKS: list[tuple[dict[str, Any], str, str]] = [
    ({"grant_type": "password"}, "unsupported_grant_type", "grant_type_unknown"),
    ({"grant_type": None}, "unsupported_grant_type", "grant_type_unknown"),
    ({"actor_token": "x"}, "invalid_request", "parameter_not_allowed"),
    ({"actor_token_type": "x"}, "invalid_request", "parameter_not_allowed"),
    ({"tenant": "borealis"}, "invalid_request", "parameter_not_allowed"),
    ({"env": "staging"}, "invalid_request", "parameter_not_allowed"),
    ({"environment": "staging"}, "invalid_request", "parameter_not_allowed"),
    ({"purpose": "finance"}, "invalid_request", "parameter_not_allowed"),
    ({"resource": "https://x"}, "invalid_request", "parameter_not_allowed"),
    ({"x": "y"}, "invalid_request", "parameter_unknown"),
    ({"subject_token_type": "x"}, "invalid_request", "subject_token_type"),
    ({"subject_token": ""}, "invalid_request", "subject_token_missing"),
    ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request",
     "requested_token_type"),
    ({"audience": "tool:production/nowhere"}, "invalid_target", "audience_unknown"),
    ({"audience": "https://evil.example"}, "invalid_target", "audience_unknown"),
    ({"audience": "tool:staging/deploy"}, "invalid_target", "environment_mismatch"),
    ({"audience": "agent:staging/release-manager"}, "invalid_target", "environment_mismatch"),
    ({"audience": TRIAGE}, "invalid_target", "audience_unknown"),
    ({"scope": "*:*"}, "invalid_scope", "scope_inflation"),
    ({"scope": "ticket:*"}, "invalid_scope", "scope_inflation"),
    ({"scope": "*:read"}, "invalid_scope", "scope_inflation"),
    ({"scope": "ticket:read customer:read"}, "invalid_scope", "scope_inflation"),
    ({"scope": "ticket:notify"}, "invalid_scope", "scope_inflation"),
    ({"scope": ""}, "invalid_scope", "scope_missing"),
    ({"scope": "ticket"}, "invalid_scope", "scope_missing"),
    ({"scope": "ticket:read", "audience": PAYMENTS}, "invalid_scope", "scope_beyond_target"),
    ({"grant_id": "none"}, "invalid_target", "grant_unknown"),
]  # fmt: skip


@pytest.mark.parametrize(("more", "error", "reason"), PARAMETER_ATTACKS)
def test_parameters_that_ask_for_more_are_refused(
    firm: Company, more: dict[str, Any], error: str, reason: str
) -> None:
    session = firm.session()["session"]
    event = refused(firm, lambda: firm.exchange(TRIAGE, session, **more), 400, error, reason)
    assert event["workload"] == "spiffe://production/agent/support-triage"


def test_a_parameter_given_twice_is_refused(firm: Company) -> None:
    body = f"grant_type={GRANT_TYPE}&grant_type=x"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    refused(
        firm, lambda: firm.call("broker", "POST", "/token", content=body, headers=headers),
        400, "invalid_request", "parameter_repeated",
    )  # fmt: skip


def _late(firm: Company) -> str:
    session: str = firm.session(seconds=5)["session"]
    firm.time[0] += 5
    return session


def _of_reply(firm: Company) -> str:
    return firm.credential(REPLY, firm.session(agents=[REPLY])["session"], scope="ticket:read")


def _changed(firm: Company, **claims: Any) -> str:
    known = claims_of(firm, firm.credential(TRIAGE, firm.session()["session"]))
    return sign({**known, **claims}, ACCESS, firm.deployment.keys[BROKER].current())


def _spliced(firm: Company) -> str:
    other = firm.session("user:bob")
    return _changed(firm, sid=other["sid"])


SUBJECT_ATTACKS: list[tuple[str, Callable[[Company], str], str]] = [
    ("no token", lambda f: "x", "token_malformed"),
    ("expired", _late, "token_expired"),
    ("by a stranger", lambda f: sign({"sid": "x"}, SESSION, make_key()), "token_kid"),
    ("of another agent's session", lambda f: f.session(agents=[REPLY])["session"], "agent_not_named"),
    ("another client's credential", _of_reply, "credential_of_another"),
    ("a cycle", lambda f: _forged_act(f, [TRIAGE, REPLY, TRIAGE]), "chain_cycle"),
    ("a user in the chain", lambda f: _forged_act(f, ["user:alice", TRIAGE]), "chain_cycle"),
    ("too deep", lambda f: _forged_act(f, [f"agent:production/a{n}" for n in range(9)]), "chain_too_deep"),
    ("spliced", _spliced, "chain_spliced"),
    ("of another broker", lambda f: _changed(f, iss="http://127.0.0.1:1"), "token_issuer"),
    ("of another environment", lambda f: _changed(f, env="staging"), "environment_mismatch"),
    ("of no session", lambda f: _changed(f, sid="none"), "session_unknown"),
    ("never recorded", lambda f: _changed(f, jti="never"), "credential_revoked"),
    ("of another key", lambda f: _changed(f, cnf={"jkt": "x"}), "proof_of_another_key"),
    ("an assertion", lambda f: f.assertion(TRIAGE), "token_type"),
    ("a user's token", lambda f: f.user_token("user:alice"), "token_kid"),
]


@pytest.mark.parametrize(
    ("_", "make", "reason"), SUBJECT_ATTACKS, ids=[name for name, _, _ in SUBJECT_ATTACKS]
)
def test_a_subject_that_does_not_count_is_refused(
    firm: Company, _: str, make: Callable[[Company], str], reason: str
) -> None:
    token = make(firm)
    refused(firm, lambda: firm.exchange(TRIAGE, token), 400, "invalid_request", reason)


def _proof_with(firm: Company, **claims: Any) -> dict[str, str]:
    key = firm.key(TRIAGE)
    jwk = {name: key.as_dict(private=False)[name] for name in ("kty", "crv", "x")}
    whole = {"htm": "POST", "htu": TOKEN_URL, "iat": NOW, "jti": firm.new(), **claims}
    return {"DPoP": sign(whole, PROOF, key, jwk=jwk)}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda f: {}, "proof_missing"),
        (lambda f: _proof_with(f, htm="GET"), "proof_method"),
        (lambda f: _proof_with(f, htu=f"{URLS['pdp']}/token"), "proof_url"),
        (lambda f: _proof_with(f, iat=NOW - 61), "proof_time"),
        (lambda f: _proof_with(f, jti="same"), "token_reused"),
        (lambda f: f.proof(REPLY, "POST", TOKEN_URL), "proof_of_another_key"),
        (lambda f: {"DPoP": f.assertion(TRIAGE)}, "token_type"),
    ],
)
def test_without_a_proof_of_its_own_key_nothing_is_issued(
    firm: Company, make: Callable[[Company], dict[str, str]], reason: str
) -> None:
    session = firm.session()["session"]
    if reason == "token_reused":
        assert firm.exchange(TRIAGE, session, headers=make(firm)).status == 200
    refused(
        firm, lambda: firm.exchange(TRIAGE, session, headers=make(firm)), 400, "invalid_dpop_proof", reason
    )


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda f, s, c: f.as_user("user:dan", "authority", f"/sessions/{s['sid']}/end"), "session_end"),
        (
            lambda f, s, c: f.as_user(
                "user:dan", "authority", f"/sessions/{s['sid']}/end", {"cause": "task_end"}
            ),
            "task_end",
        ),
        (lambda f, s, c: _revoke(f, f"session:{s['sid']}"), "session_revoked"),
        (lambda f, s, c: _revoke(f, f"credential:{claims_of(f, c)['jti']}"), "credential_revoked"),
        (lambda f, s, c: _revoke(f, TRIAGE), "principal_revoked"),
        (lambda f, s, c: _revoke(f, "user:alice"), "principal_revoked"),
    ],
)
def test_what_is_over_has_no_more_children(
    firm: Company, end: Callable[[Company, dict[str, Any], str], Any], reason: str
) -> None:
    session = firm.session()
    credential = firm.credential(TRIAGE, session["session"])
    done = end(firm, session, credential)
    assert not isinstance(done, Answer) or done.status == 200, done
    event = refused(firm, lambda: firm.exchange(TRIAGE, credential), 400, "invalid_request", reason)
    assert event["session_id"] == session["sid"]


def _revoke(firm: Company, target: str) -> None:
    revoke(firm.deployment.db, firm.deployment.recorder, target, reason="test", by="user:dan")


def test_revoking_takes_descendants_along_and_names_them(firm: Company) -> None:
    session = firm.session()
    parent = firm.credential(TRIAGE, session["session"])
    child = firm.credential(TRIAGE, parent, audience=TICKETS, scope="ticket:read")
    other = firm.credential(TRIAGE, session["session"])
    revoked = revoke(
        firm.deployment.db, firm.deployment.recorder, f"credential:{claims_of(firm, parent)['jti']}",
        reason="lost", by="user:dan",
    )  # fmt: skip
    assert set(revoked) == {claims_of(firm, token)["jti"] for token in (parent, child)}
    found = find_credential(firm.deployment.db, claims_of(firm, other)["jti"])
    assert found is not None
    assert found[1] is None
    event = firm.events("revocation")[-1]
    assert (event["reason"], event["attributes"]["credentials"]) == ("lost", 2)
    # A principal's later tokens count again.
    _revoke(firm, TRIAGE)
    firm.time[0] += 1
    assert firm.exchange(TRIAGE, firm.session()["session"]).status == 200


def test_a_key_that_was_replaced_verifies_nothing(firm: Company) -> None:
    session = firm.session()["session"]
    credential = firm.credential(TRIAGE, session)
    firm.deployment.keys[BROKER].rotate()
    assert firm.exchange(TRIAGE, credential).status == 200  # both keys are published, the old one signs
    assert len(firm.call("broker", "GET", "/jwks").body["keys"]) == 2
    firm.time[0] += 601
    fresh = firm.credential(TRIAGE, session)
    firm.deployment.keys[BROKER].replace_compromised()
    for token in (credential, fresh):
        refused(firm, lambda token=token: firm.exchange(TRIAGE, token), 400, "invalid_request", "token_kid")  # type: ignore[misc]  # a default argument
    firm.deployment.keys[AUTHORITY].replace_compromised()
    refused(firm, lambda: firm.exchange(TRIAGE, session), 400, "invalid_request", "token_kid")


def test_a_flood_is_slowed_and_leaves_one_event_a_second(firm: Company) -> None:
    session = firm.session()["session"]
    answers = [firm.exchange(TRIAGE, session).status for _ in range(130)]
    assert answers.count(200) == 100
    assert answers.count(429) == 30
    assert sum(event.get("reason") == "too_many_requests" for event in firm.events()) == 1
    answer = firm.exchange(TRIAGE, session)
    assert answer.headers["retry-after"] == "1"
    assert firm.exchange(REPLY, session).status == 400  # another client is not slowed
    firm.time[0] += 1
    assert firm.exchange(TRIAGE, session).status == 200


def test_break_glass_is_an_exception_with_a_short_life(firm: Company) -> None:
    session = firm.session(
        "user:erin", ["agent:production/refund-runner"], purpose="finance", requested_actions=["payment:read"]
    )
    runner = "agent:production/refund-runner"
    ask: dict[str, Any] = {"audience": PAYMENTS, "scope": "payment:refund"}
    refused(
        firm,
        lambda: firm.exchange(runner, session["session"], **ask),
        400,
        "invalid_scope",
        "scope_inflation",
    )
    record = ExceptionRecord.model_validate(
        {
            "id": "exc-1", "reason": "provider down", "owner": "user:carol", "approved_by": "user:dan",
            "principal": runner, "scopes": ["payment:refund"], "resource": "payment:8842",
            "environment": "production", "impact": "high", "opened_at": "2026-11-25T10:00:00Z",
            "expires_at": "2026-11-25T10:00:30Z", "review_due_at": "2026-11-26T10:00:00Z",
        }
    )  # fmt: skip
    add_exception(firm.deployment.db, record)
    claims = claims_of(firm, firm.credential(runner, session["session"], **ask))
    assert (claims["exception_id"], claims["once"]) == ("exc-1", True)
    firm.time[0] = record.opened_at.timestamp() + 1
    assert claims["exp"] - claims["iat"] <= 300
    used = firm.events("exception")[-1]
    assert (used["outcome"], used["owner"], used["exception_id"]) == ("used", "user:carol", "exc-1")
    assert firm.events("issuance")[-1]["credential_type"] == "break_glass"


def test_introspection_stays_with_those_who_act(firm: Company) -> None:
    token = firm.credential(TRIAGE, firm.session()["session"])

    def ask(workload: str, text: str) -> dict[str, Any]:
        body: dict[str, Any] = firm.call(
            "broker", "POST", "/introspect", data={**firm.client(workload), "token": text}
        ).body
        return body

    assert ask(TRIAGE, token)["active"] is True
    assert ask("router:production/main", token)["sid"]
    for workload, text in ((REPLY, token), (TRIAGE, "x"), (TRIAGE, firm.assertion(TRIAGE))):
        assert ask(workload, text) == {"active": False}
    answer = firm.call("broker", "POST", "/revoke", data={**firm.client(REPLY), "token": token})
    assert (answer.status, answer.error) == (400, "unauthorized_client")
    assert firm.call("broker", "POST", "/revoke", data={**firm.client(TRIAGE), "token": token}).status == 200
    assert ask(TRIAGE, token) == {"active": False}
    assert firm.call("broker", "POST", "/revoke", data={**firm.client(TRIAGE), "token": "x"}).status == 200
    assert firm.call("broker", "POST", "/revoke", data={"token": token}).status == 401


def test_grants_are_an_operators(firm: Company) -> None:
    body = {
        "delegator": TRIAGE, "delegate": "agent:production/crm-research", "covers": ["tenant:borealis"],
        "reason": "research", "expires_at": "2026-12-01T00:00:00Z",
    }  # fmt: skip
    assert firm.as_user("user:alice", "broker", "/grants", body).status == 403
    answer = firm.as_user("user:dan", "broker", "/grants", {**body, "approver": "user:somebody"})
    assert answer.status == 201, answer
    event = firm.events("delegation")[-1]
    assert (event["approved_by"], event["outcome"]) == ("user:dan", "opened")
    assert event["grant_covers"] == ["tenant:borealis"]
    for change in (
        {"expires_at": "2020-01-01T00:00:00Z"}, {"covers": ["tenant:*"]}, {"delegator": "x"},
        {"delegate": "user:dan"}, {"id": "grant-support-handover"}, {"more": 1}, {"expires_at": None},
    ):  # fmt: skip
        answer = firm.as_user("user:dan", "broker", "/grants", {**body, **change})
        assert (answer.status, answer.error) == (400, "invalid_request"), change


def test_metadata_names_what_is_there(firm: Company) -> None:
    answer = firm.call("broker", "GET", "/.well-known/oauth-authorization-server")
    assert answer.body["issuer"] == URLS["broker"]
    for name, url in answer.body.items():
        if name.endswith("_endpoint"):
            path = url.removeprefix(URLS["broker"])
            assert firm.call("broker", "GET", path).status == 405, name
    assert firm.call("broker", "GET", "/nowhere").status == 404
    assert "x-request-id" in firm.call("broker", "GET", "/nowhere").headers


def test_a_restart_forgets_nothing(company: Path, tmp_path: Path) -> None:
    first = Company.of(company, Database(tmp_path / "state.db"))
    session = first.session()["session"]
    assertion = first.assertion(TRIAGE)
    assert first.exchange(TRIAGE, session, client_assertion=assertion).status == 200
    _revoke(first, TRIAGE)
    first.close()
    second = Company.of(company, Database(tmp_path / "state.db"))
    refused(
        second, lambda: second.exchange(TRIAGE, session, client_assertion=assertion), 401, "invalid_client",
        "token_reused",
    )  # fmt: skip
    refused(second, lambda: second.exchange(TRIAGE, session), 400, "invalid_request", "principal_revoked")
    second.close()


def test_bodies_are_bounded_and_of_their_kind(firm: Company) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    for body, headers, status in (
        ("x" * 65_537, form, 413),
        ("a=%ff", form, 400),
        ("a", form, 400),
        ("&".join(f"a{n}=1" for n in range(65)), form, 400),
        ("{}", {"content-type": "application/json"}, 400),
        ("", {}, 400),
    ):
        answer = firm.call("broker", "POST", "/token", content=body, headers=headers)
        assert answer.status == status
        assert answer.error == "invalid_request"
    assert "traceparent" in answer.headers


def test_the_desk_is_refused_where_it_is_not_named(firm: Company) -> None:
    session = firm.session()["session"]
    refused(firm, lambda: firm.exchange(DESK, session), 400, "invalid_request", "agent_not_named")
