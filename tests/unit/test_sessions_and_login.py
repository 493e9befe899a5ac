"""The session authority: sessions from what is registered, and the login of people and dashboard."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwt

from issuer.authority.passwords import fits, hashed
from issuer.state.signing_keys import ID_TOKEN
from issuer.tokens.keys import thumbprint
from tests.issuing import DESK, NOW, REPLY, TRIAGE, URLS, Answer, Company

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:5555/oauth2callback"


@pytest.mark.parametrize(
    ("more", "status", "error", "reason"),
    [
        ({"user_token": "x"}, 401, "invalid_token", "token_malformed"),
        ({"user_token": None}, 401, "invalid_token", "token_malformed"),
        ({"agents": []}, 400, "invalid_request", "session_malformed"),
        ({"agents": ["agent:production/none"]}, 400, "invalid_request", "agent_unknown"),
        ({"agents": ["router:production/main"]}, 400, "invalid_request", "agent_unknown"),
        ({"agents": ["agent:staging/release-manager"]}, 400, "invalid_request", "environment_mismatch"),
        ({"agents": ["agent:production/invoice-matcher"]}, 400, "invalid_request", "purpose_not_allowed"),
        ({"purpose": "espionage"}, 400, "invalid_request", "purpose_not_allowed"),
        ({"data_classes": ["restricted"]}, 400, "invalid_request", "data_class_boundary"),
        ({"data_classes": ["secret"]}, 400, "invalid_request", "session_malformed"),
        ({"tenant": "borealis"}, 400, "invalid_request", "session_malformed"),
        ({"risk": 0}, 400, "invalid_request", "session_malformed"),
        ({"seconds": 3_601}, 400, "invalid_request", "session_malformed"),
        ({"requested_actions": ["x"]}, 400, "invalid_request", "session_malformed"),
        ({"task_id": "../x"}, 400, "invalid_request", "session_malformed"),
    ],
)
def test_a_session_that_cannot_be_is_refused(
    firm: Company, more: dict[str, Any], status: int, error: str, reason: str
) -> None:
    answer, events = firm.since(lambda: firm.open(**more))
    assert (answer.status, answer.error) == (status, error), answer
    assert [(event["decision"], event["reason"]) for event in events] == [("deny", reason)]
    assert events[0]["policy_version"] == "1"


def test_only_the_holder_of_the_users_token_opens_a_session(firm: Company) -> None:
    body = {
        "user_token": firm.user_token("user:alice", REPLY), "purpose": "support", "agents": [TRIAGE],
        "requested_actions": ["ticket:read"],
    }  # fmt: skip
    headers = firm.proof(DESK, "POST", f"{URLS['authority']}/sessions")
    answer = firm.call(
        "authority", "POST", "/sessions", json={**body, **firm.client(DESK, "authority")}, headers=headers
    )
    assert (answer.status, answer.error) == (401, "invalid_token")
    answer = firm.call("authority", "POST", "/sessions", json={**body, **firm.client(TRIAGE, "authority")})
    assert (answer.status, answer.error) == (401, "invalid_client")


def test_the_risk_of_a_session_is_the_authoritys(firm: Company) -> None:
    session = firm.session("user:frank", data_classes=["internal"])
    event = firm.events("session")[-1]
    assert (event["session_risk"], event["tenant"], event["session_data_classes"]) == (
        25,
        "dunmore",
        ["internal"],
    )
    assert session["expires_in"] == 3_600
    ended = firm.call(
        "authority", "POST", f"/sessions/{session['sid']}/end",
        json={**firm.client(DESK, "authority"), "cause": "task_end", "outcome": "failed"},
    )  # fmt: skip
    assert ended.status == 200
    assert firm.events("task")[-1]["outcome"] == "failed"
    for more in ({"cause": "x"}, {"outcome": "x"}):
        assert firm.as_user("user:dan", "authority", f"/sessions/{session['sid']}/end", more).status == 400
    assert firm.as_user("user:alice", "authority", f"/sessions/{session['sid']}/end").status == 403
    assert firm.as_user("user:dan", "authority", "/sessions/none/end").status == 404


def start(firm: Company, **more: Any) -> Answer:
    query = {
        "response_type": "code", "client_id": "dashboard", "redirect_uri": BACK, "scope": "openid profile",
        "state": "st", "nonce": "no", "code_challenge": CHALLENGE, "code_challenge_method": "S256", **more,
    }  # fmt: skip
    query = {name: value for name, value in query.items() if value is not None}
    return firm.call("authority", "GET", "/authorize", params=query)


def code(firm: Company, user: str = "alice", **more: Any) -> str:
    page = start(firm, **more)
    found = re.search(r'name="login" value="([^"]+)"', page.body)
    assert found is not None
    passwords = json.loads((firm.folder / "passwords.json").read_text())
    form = {"login": found[1], "username": user, "password": passwords[f"user:{user}"]}
    answer = firm.call("authority", "POST", "/authorize", data=form)
    assert answer.status == 303, answer
    back = urlsplit(answer.headers["location"])
    query = parse_qs(back.query)
    assert back.netloc == "127.0.0.1:5555"
    assert (query["state"], query["iss"]) == (["st"], [URLS["authority"]])
    return query["code"][0]


def redeem(firm: Company, got: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    passwords = json.loads((firm.folder / "passwords.json").read_text())
    form = {
        "grant_type": "authorization_code", "code": got, "redirect_uri": BACK, "code_verifier": VERIFIER,
        "client_id": "dashboard", "client_secret": passwords["dashboard"], **more,
    }  # fmt: skip
    form = {name: value for name, value in form.items() if value is not None}
    return firm.call("authority", "POST", "/token", data=form, headers=headers or {})


def test_a_person_logs_in_to_the_dashboard(firm: Company) -> None:
    answer = redeem(firm, code(firm))
    assert (answer.status, answer.body["token_type"]) == (200, "Bearer")
    keys = firm.deployment.keys[ID_TOKEN]
    claims = jwt.decode(answer.body["id_token"], keys.current(), algorithms=["ES256"]).claims
    assert (claims["sub"], claims["aud"], claims["nonce"]) == ("user:alice", "dashboard", "no")
    assert (claims["tenant"], claims["roles"], claims["iss"]) == ("acme", ["member"], URLS["authority"])
    half = hashlib.sha256(answer.body["access_token"].encode()).digest()[:16]
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    assert claims["exp"] > NOW
    bearer = {"Authorization": f"Bearer {answer.body['access_token']}"}
    info = firm.call("authority", "GET", "/userinfo", headers=bearer)
    assert info.body["sub"] == "user:alice"
    # Bound to no key, it opens no session and commands nothing.
    headers = {"Authorization": f"DPoP {answer.body['access_token']}"}
    headers |= firm.proof(DESK, "POST", f"{URLS['authority']}/sessions/x/end", answer.body["access_token"])
    assert firm.call("authority", "POST", "/sessions/x/end", json={}, headers=headers).status == 401
    assert firm.call("authority", "GET", "/userinfo").status == 401


def test_the_desk_logs_a_person_in_with_its_own_key(firm: Company) -> None:
    back = "http://127.0.0.1:5555/callback"
    got = code(firm, client_id="desk", redirect_uri=back)
    url = f"{URLS['authority']}/token"
    more: dict[str, Any] = {
        "client_id": "desk",
        "client_secret": None,
        "redirect_uri": back,
        **firm.client(DESK, "authority"),
    }
    assert redeem(firm, got, **more).error == "invalid_dpop_proof"
    more |= firm.client(DESK, "authority")
    answer = redeem(firm, got, firm.proof(DESK, "POST", url), **more)
    assert (answer.status, answer.body["token_type"]) == (200, "DPoP"), answer
    session = firm.open(user_token=answer.body["access_token"])
    assert session.status == 201
    assert (
        thumbprint(firm.key(DESK))
        in base64.b64decode(answer.body["access_token"].split(".")[1] + "==").decode()
    )


@pytest.mark.parametrize(
    "more",
    [
        {"client_id": "none"}, {"redirect_uri": "http://127.0.0.1:1/other"}, {"redirect_uri": None},
        {"redirect_uri": "http://evil.example/oauth2callback"}, {"redirect_uri": "http://127.0.0.1:x/"},
        {"redirect_uri": "http://u@127.0.0.1/oauth2callback"}, {"response_type": "token"},
        {"code_challenge": None}, {"code_challenge_method": "plain"}, {"code_challenge": "x"},
        {"scope": "profile"}, {"state": "x" * 513},
    ],
)  # fmt: skip
def test_a_login_that_goes_elsewhere_is_not_begun(firm: Company, more: dict[str, Any]) -> None:
    answer = start(firm, **more)
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("more", "status", "error"),
    [
        ({"code": "none"}, 400, "invalid_grant"),
        ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
        ({"code_verifier": None}, 400, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:5556/oauth2callback"}, 400, "invalid_grant"),
        ({"client_secret": "x"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "desk", "client_secret": None}, 401, "invalid_client"),
        ({"client_id": "none"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_code_is_worth_nothing_to_others(
    firm: Company, more: dict[str, Any], status: int, error: str
) -> None:
    answer = redeem(firm, code(firm), **more)
    assert (answer.status, answer.error) == (status, error)


def test_a_code_counts_once_and_for_a_minute(firm: Company) -> None:
    got = code(firm)
    assert redeem(firm, got).status == 200
    assert redeem(firm, got).error == "invalid_grant"
    got = code(firm)
    firm.time[0] += 61
    assert redeem(firm, got).error == "invalid_grant"
    state = "".join(str(row) for row in firm.deployment.db.rows("SELECT * FROM codes"))
    assert got not in state


def test_a_wrong_password_shows_the_page_again_and_leaves_an_event(firm: Company) -> None:
    found = re.search(r'name="login" value="([^"]+)"', start(firm).body)
    assert found is not None
    for name in ("alice", "nobody", "<script>"):
        form = {"login": found[1], "username": name, "password": "wrong-secret"}
        answer, events = firm.since(lambda form=form: firm.call("authority", "POST", "/authorize", data=form))  # type: ignore[misc]  # a default argument
        assert answer.status == 401
        assert "<script>" not in answer.body
        assert [event["reason"] for event in events] == ["login_failed"]
        assert "wrong-secret" not in json.dumps(events)
    statuses = [firm.call("authority", "POST", "/authorize", data=form).status for _ in range(9)]
    assert 429 in statuses


def test_a_password_is_kept_as_its_hash() -> None:
    kept = hashed("s3cret", b"salt")
    assert fits("s3cret", kept)
    for password, known in (("s3cre", kept), ("", kept), ("s3cret", None), ("", None), ("s3cret", "x")):
        assert not fits(password, known)


def test_metadata_and_keys(firm: Company) -> None:
    metadata = firm.call("authority", "GET", "/.well-known/openid-configuration").body
    assert metadata["issuer"] == URLS["authority"]
    keys = firm.call("authority", "GET", "/jwks").body["keys"]
    assert {key["alg"] for key in keys} == {"Ed25519", "ES256"}
    assert all("d" not in key for key in keys)
