"""Tokens under attack: what is no token of ours is refused with a reason, and says nothing of itself."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from issuer.tokens.claims import MAX_CHAIN, Actor, CredentialClaims, chain_of, nested, read_claims
from issuer.tokens.dpop import bare_url, check_proof, make_proof
from issuer.tokens.jws import (
    ACCESS,
    PROOF,
    SESSION,
    TokenRefused,
    check_times,
    sign,
    verify,
)
from issuer.tokens.keys import (
    BadKey,
    key_set,
    make_id_token_key,
    make_key,
    private_members,
    public_members,
    read_id_token_key,
    read_key,
    thumbprint,
)

NOW = 1_764_064_800
KEY = make_key()
OTHER = make_key()
KEYS = {str(KEY.kid): KEY}
CLAIMS: dict[str, Any] = {
    "iss": "http://127.0.0.1:9401", "iat": NOW, "exp": NOW + 60, "jti": "j1", "sub": "user:alice",
    "client_id": "agent:production/triage", "act": {"sub": "agent:production/triage"}, "sid": "s1",
    "txn": "ab" * 16, "task_id": "t1", "aud": "tool:production/tickets", "scope": "ticket:read",
    "tenant": "acme", "env": "production", "zone": "internal", "purpose": "support",
    "policy_version": "1", "request_id": "r1", "cnf": {"jkt": "x"}, "parent": "j0",
}  # fmt: skip


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def forged(
    header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes = b"", signature: bytes = b"x"
) -> str:
    first = header if isinstance(header, bytes) else json.dumps(header).encode()
    second = claims if isinstance(claims, bytes) and claims else json.dumps(claims or CLAIMS).encode()
    return f"{b64(first)}.{b64(second)}.{b64(signature)}"


def signed_bytes(claims: bytes, key: OKPKey = KEY, **header: Any) -> str:
    named = {"alg": "Ed25519", "typ": ACCESS, "kid": KEY.kid, **header}
    return jws.serialize_compact(named, claims, key, algorithms=["Ed25519"])


def reason(text: str, typ: str = ACCESS) -> str:
    with pytest.raises(TokenRefused) as refused:
        verify(text, typ, KEYS.get)
    said = str(refused.value)
    assert "alice" not in said
    assert text[:40] not in said or len(text) < 40
    return refused.value.reason


def test_a_token_of_ours_is_read() -> None:
    claims = verify(sign(CLAIMS, ACCESS, KEY), ACCESS, KEYS.get)
    read = read_claims(
        CredentialClaims, claims, issuer="http://127.0.0.1:9401", audience="tool:production/tickets"
    )
    assert read.scopes == ["ticket:read"]
    assert read.chain == ["user:alice", "agent:production/triage"]
    check_times(claims, NOW)


HEADER = {"alg": "Ed25519", "typ": ACCESS, "kid": KEY.kid}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "token_malformed"),
        ("a.b", "token_malformed"),
        ("a.b.c.d", "token_malformed"),
        ("..", "token_malformed"),
        ("ä.b.c", "token_malformed"),
        ("x" * 8_193, "token_too_large"),
        (forged({**HEADER, "alg": "none"}), "token_algorithm"),
        (forged({**HEADER, "alg": "none"}).rpartition(".")[0] + ".", "token_malformed"),
        (forged({**HEADER, "alg": "EdDSA"}), "token_algorithm"),
        (forged({**HEADER, "alg": ["Ed25519"]}), "token_algorithm"),
        (forged({**HEADER, "typ": SESSION}), "token_type"),
        (forged({**HEADER, "typ": "JWT"}), "token_type"),
        (forged({**HEADER, "typ": 1}), "token_type"),
        (forged({name: value for name, value in HEADER.items() if name != "typ"}), "token_type"),
        (forged({**HEADER, "kid": "../../etc/passwd"}), "token_kid"),
        (forged({**HEADER, "kid": "x" * 129}), "token_kid"),
        (forged({**HEADER, "kid": None}), "token_kid"),
        (forged({name: value for name, value in HEADER.items() if name != "kid"}), "token_kid"),
        (forged({**HEADER, "kid": OTHER.kid}), "token_kid"),
        (forged({**HEADER, "jwk": public_members(OTHER)}), "token_header"),
        (forged({**HEADER, "jku": "http://127.0.0.1/"}), "token_header"),
        (forged({**HEADER, "crit": ["exp"]}), "token_header"),
        (forged(HEADER), "token_signature"),
        (forged(b'{"alg":"Ed25519","typ":"at+jwt","kid":"a","kid":"b"}'), "token_malformed"),
        (forged(HEADER, b'{"sub":"user:alice","sub":"user:bob"}'), "token_malformed"),
        (forged(HEADER, b'{"act":{"sub":"a","sub":"b"}}'), "token_malformed"),
        (forged(HEADER, b'{"exp":NaN}'), "token_malformed"),
        (forged(HEADER, b"[1]"), "token_malformed"),
        (forged(HEADER, b"\xff"), "token_malformed"),
        (forged(HEADER, b"[" * 4_000), "token_malformed"),
        (sign(CLAIMS, ACCESS, KEY) + "=", "token_malformed"),
        (sign(CLAIMS, ACCESS, KEY)[:-2] + "//", "token_malformed"),
        (sign(CLAIMS, ACCESS, KEY).replace(".", ". ", 1), "token_malformed"),
        (sign(CLAIMS, SESSION, KEY), "token_type"),
        (signed_bytes(json.dumps(CLAIMS).encode(), OTHER), "token_signature"),
    ],
    ids=itertools.count(),  # the tokens differ in each process
)  # fmt: skip
def test_what_is_no_token_of_ours_is_refused(text: str, why: str) -> None:
    assert reason(text) == why


def test_duplicate_claims_are_refused_although_the_signature_fits() -> None:
    assert reason(signed_bytes(b'{"sub":"user:alice","sub":"user:admin"}')) == "token_malformed"


def test_the_public_key_is_no_shared_secret() -> None:
    secret = OctKey.import_key(json.dumps(public_members(KEY)))
    header = {"alg": "HS256", "typ": ACCESS, "kid": KEY.kid}
    text = jws.serialize_compact(header, json.dumps(CLAIMS), secret, algorithms=["HS256"])
    assert reason(text) == "token_algorithm"


@given(st.binary(max_size=64), st.integers(0, 2))
def test_no_changed_part_passes(noise: bytes, part: int) -> None:
    pieces = sign(CLAIMS, ACCESS, KEY).split(".")
    changed = [*pieces]
    changed[part] = b64(noise)
    if changed != pieces:
        with pytest.raises(TokenRefused):
            verify(".".join(changed), ACCESS, KEYS.get)


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(TokenRefused):
        verify(text, ACCESS, KEYS.get)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"exp": NOW}, "token_expired"),
        ({"exp": NOW + 1}, None),
        ({"iat": NOW + 5}, None),
        ({"iat": NOW + 6}, "token_not_yet_valid"),
        ({"nbf": NOW + 6}, "token_not_yet_valid"),
        ({"nbf": NOW + 5}, None),
        ({"exp": float(NOW + 60)}, "token_claims"),
        ({"exp": True}, "token_claims"),
        ({"exp": str(NOW)}, "token_claims"),
        ({"exp": None}, "token_claims"),
        ({"iat": -1}, "token_claims"),
        ({"exp": 1 << 60}, "token_claims"),
    ],
)
def test_times_are_strict_at_the_end_and_lenient_by_five_seconds_at_the_beginning(
    change: dict[str, Any], why: str | None
) -> None:
    if why is None:
        check_times({**CLAIMS, **change}, NOW)
        return
    with pytest.raises(TokenRefused) as refused:
        check_times({**CLAIMS, **change}, NOW)
    assert refused.value.reason == why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"iss": "http://127.0.0.1:1"}, "token_issuer"),
        ({"iss": ["http://127.0.0.1:9401"]}, "token_issuer"),
        ({"aud": "tool:production/payments"}, "token_audience"),
        ({"aud": ["tool:production/tickets"]}, "token_audience"),
        ({"scope": ["ticket:read"]}, "token_claims"),
        ({"sub": 7}, "token_claims"),
        ({"cnf": {}}, "token_claims"),
        ({"act": "agent:production/triage"}, "token_claims"),
        ({"txn": "zz"}, "token_claims"),
        ({"once": "yes"}, "token_claims"),
        *(
            ({name: None}, "token_claims")
            for name in ("jti", "sid", "parent", "policy_version", "cnf", "act")
        ),
    ],
)
def test_claims_are_complete_and_of_their_types(change: dict[str, Any], why: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        read_claims(
            CredentialClaims,
            {**CLAIMS, **change},
            issuer="http://127.0.0.1:9401",
            audience="tool:production/tickets",
        )
    assert refused.value.reason == why


@given(st.lists(st.text("abc:/", min_size=1, max_size=9), min_size=2, max_size=MAX_CHAIN + 1, unique=True))
def test_a_chain_survives_its_token(chain: list[str]) -> None:
    assert chain_of(chain[0], Actor.model_validate(nested(chain))) == chain


def test_a_chain_is_no_circle_and_not_too_deep() -> None:
    deep = [f"agent:{n}" for n in range(MAX_CHAIN + 2)]
    for chain, why in (
        (deep, "chain_too_deep"), (["user:a", "agent:b", "user:a"], "chain_cycle"),
        (["user:a", "agent:b", "agent:c", "agent:b"], "chain_cycle"),
    ):  # fmt: skip
        with pytest.raises(TokenRefused) as refused:
            chain_of(chain[0], Actor.model_validate(nested(chain)))
        assert refused.value.reason == why


URL = "http://127.0.0.1:9404/tools/tickets/ticket:read"
TOKEN = sign(CLAIMS, ACCESS, KEY)


def proof(**change: Any) -> str:
    at: dict[str, Any] = {"method": "POST", "url": URL, "jti": "p1", "now": NOW, "token": TOKEN, **change}
    return make_proof(OTHER, at.pop("method"), at.pop("url"), **at)


def test_a_proof_holds_for_its_request_alone() -> None:
    found = check_proof(proof(), "POST", URL + "?x=1#y", now=NOW + 60, token=TOKEN)
    assert (found.jkt, found.jti, found.until) == (thumbprint(OTHER), "p1", NOW + 61)
    assert check_proof(proof(token=None), "POST", URL, now=NOW).jti == "p1"


def proof_with(**claims: Any) -> str:
    jwk = {name: OTHER.as_dict(private=False)[name] for name in ("kty", "crv", "x")}
    return sign({"htm": "POST", "htu": URL, "iat": NOW, "jti": "p1", **claims}, PROOF, OTHER, jwk=jwk)


def proof_named(**header: Any) -> str:
    named = {"alg": "Ed25519", "typ": PROOF, **header}
    body = json.dumps({"htm": "POST", "htu": URL, "iat": NOW, "jti": "p"})
    return jws.serialize_compact(named, body, OTHER, algorithms=["Ed25519"])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: proof(method="GET"), "proof_method"),
        (lambda: proof(url=URL + "s"), "proof_url"),
        (lambda: proof(url=URL.replace("9404", "9405")), "proof_url"),
        (lambda: proof(url=URL.replace("http", "https")), "proof_url"),
        (lambda: proof(now=NOW - 61), "proof_time"),
        (lambda: proof(now=NOW + 61), "proof_time"),
        (lambda: proof(token=None), "proof_token"),
        (lambda: proof(token=TOKEN + "x"), "proof_token"),
        (lambda: proof(jti=""), "proof_id"),
        (lambda: proof(jti="x" * 257), "proof_id"),
        (lambda: proof_with(iat=float(NOW)), "proof_time"),
        (lambda: proof_with(htu=None), "proof_url"),
        (lambda: proof_with(htu="http://[::1"), "proof_url"),
        (proof_named, "proof_key"),
        (lambda: proof_named(jwk=private_members(OTHER)), "proof_key"),
        (lambda: proof_named(jwk=public_members(KEY)), "token_signature"),
        (lambda: proof_named(kid=KEY.kid), "proof_key"),
        (lambda: proof_named(jwk=ECKey.generate_key("P-256").as_dict(private=False)), "proof_key"),
        (lambda: proof_named(jwk={"kty": "OKP", "crv": "Ed25519", "x": 1}), "proof_key"),
        (lambda: proof_named(jwk={"kty": "OKP", "crv": "Ed25519", "x": "AA"}), "proof_key"),
        (lambda: TOKEN, "token_type"),
    ],
)  # fmt: skip
def test_a_proof_of_anything_else_is_refused(make: Callable[[], str], why: str) -> None:
    with pytest.raises(TokenRefused) as refused:
        check_proof(make(), "POST", URL, now=NOW, token=TOKEN)
    assert refused.value.reason == why


def test_urls_are_compared_without_what_does_not_matter() -> None:
    assert bare_url("HTTP://LocalHost:80/a?b#c") == bare_url("http://localhost/a")
    assert bare_url("https://x:443") == "https://x/"
    assert bare_url("http://[::1]:9404/a") == "http://[::1]:9404/a"


def test_keys_are_named_by_their_thumbprints() -> None:
    members = private_members(KEY)
    assert read_key({**members, "kid": "../x"}).kid == thumbprint(KEY)
    assert "d" not in key_set([KEY])["keys"][0]
    assert public_members(KEY)["alg"] == "Ed25519"
    id_key = make_id_token_key()
    assert read_id_token_key(private_members(id_key)).kid == id_key.kid
    assert public_members(id_key)["alg"] == "ES256"
    for wrong in (
        {}, {**members, "crv": "X25519"}, {**members, "x": "!"}, {**members, "d": 1},
        RSAKey.generate_key(2048).as_dict(private=False),
    ):  # fmt: skip
        with pytest.raises(BadKey):
            read_key(wrong)


def test_a_token_that_no_reader_would_take_is_not_made() -> None:
    with pytest.raises(TokenRefused):
        sign({**CLAIMS, "scope": "x" * 9_000}, ACCESS, KEY)
