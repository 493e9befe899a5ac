"""Security event tokens: only what a known transmitter signed is read, and what it means is said."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, RSAKey

from ingest.adapters import adapter
from ledger.errors import UsageError
from tests.adapting import attributes, decoded, events

ISSUER = "https://idp.example"
CAEP = "https://schemas.openid.net/secevent/caep/event-type"
KEY = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
OTHER = ECKey.generate_key("P-256", {"kid": "k1"})
RSA = RSAKey.generate_key(2_048, {"kid": "r1"})
TRANSMITTERS = [{"issuer": ISSUER, "audience": "ledger", "keys": [
    KEY.as_dict(private=False), RSA.as_dict(private=False), {"kty": "oct", "k": "c2VjcmV0"}]}]  # fmt: skip
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": ["ledger"], "iat": 1_795_514_000, "jti": "set-1", "txn": "t-1",
    "sub_id": {
        "format": "complex", "user": {"format": "iss_sub", "iss": ISSUER, "sub": "alice"},
        "session": {"format": "opaque", "id": "s-9"}, "tenant": {"format": "opaque", "id": "acme"},
    },
    "events": {f"{CAEP}/session-revoked": {
        "event_timestamp": 1_795_514_001, "initiating_entity": "policy", "reason_admin": {"en": "left"}}},
}  # fmt: skip


def token(claims: dict[str, Any] | None = None, *, key: Any = KEY, alg: str = "ES256", **header: Any) -> str:
    named = {"alg": alg, "typ": "secevent+jwt", "kid": key.kid, **header}
    return jws.serialize_compact(named, json.dumps(claims or CLAIMS).encode(), key, algorithms=[alg])


def read(*tokens: str, **more: Any) -> list[dict[str, Any]]:
    return events("ssf", *(one.encode() for one in tokens), transmitters=TRANSMITTERS, **more)


def test_a_revoked_session_is_a_signal_and_a_revocation() -> None:
    text = token()
    signal, revocation = read(text)
    assert (signal["event_id"], signal["kind"], signal["source"]) == ("set-1", "signal", f"ssf/{ISSUER}")
    assert (revocation["event_id"], revocation["kind"]) == ("set-1/revocation", "revocation")
    for one in (signal, revocation):
        assert (one["target"], one["tenant"], one["reason"]) == ("session:s-9", "acme", "session-revoked")
        assert (one["request_id"], one["time"].isoformat()) == ("t-1", "2026-11-24T09:53:21+00:00")
        assert attributes(one)["set_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert attributes(one)["initiating_entity"] == "policy"
    raw = json.loads(signal["raw"])
    assert raw["claims"]["jti"] == "set-1"
    assert raw["header"]["kid"] == "k1"
    assert text.rpartition(".")[2] not in repr(signal)


def of_event(name: str, subject: Any = None, **details: Any) -> str:
    subject = subject or {"format": "email", "email": "a@example.com"}
    return token({**CLAIMS, "sub_id": subject, "events": {name: details}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (of_event(f"{CAEP}/risk-level-change", current_level="HIGH"),
         [("signal", "risk-level-change:HIGH", "user:a@example.com")]),
        (of_event("https://schemas.openid.net/secevent/risc/event-type/credential-compromise",
                  {"format": "jwt_id", "iss": ISSUER, "jti": "c-1"}),
         [("signal", "credential-compromised", "credential:c-1")]),
        (of_event(f"{CAEP}/credential-change", change_type="revoke", x509_serial="0a"),
         [("signal", "credential-change", "user:a@example.com"),
          ("revocation", "credential-change", "credential:0a")]),
        (of_event(f"{CAEP}/credential-change", change_type="delete", credential_type="pin"),
         [("signal", "credential-change", "user:a@example.com"),
          ("revocation", "credential-change", "credential:pin/user:a@example.com")]),
        (of_event(f"{CAEP}/credential-change", change_type="create"),
         [("signal", "credential-change", "user:a@example.com")]),
        (of_event(f"{CAEP}/token-claims-change", {"format": "opaque", "id": "agent:bot"}),
         [("signal", "token-claims-change", "agent:bot")]),
        (of_event(f"{CAEP}/device-compliance-change",
                  {"format": "complex", "device": {"format": "opaque", "id": "d1"}}),
         [("signal", "device-compliance-change", "device:d1")]),
        (of_event("https://schemas.openid.net/secevent/ssf/event-type/verification", state="x"),
         [("heartbeat", "verification", None)]),
    ],
)  # fmt: skip
def test_what_an_event_says(text: str, expected: list[tuple[str, str, str | None]]) -> None:
    assert [(one["kind"], one["reason"], one.get("target")) for one in read(text)] == expected


def test_the_answer_to_a_poll_holds_several_and_other_keys_sign_as_well() -> None:
    second = token({**CLAIMS, "jti": "set-2"}, key=RSA, alg="PS256")
    found = read(json.dumps({"sets": {"a": token(), "b": second}, "moreAvailable": False}))
    assert [one["event_id"] for one in found] == [
        "set-1", "set-1/revocation", "set-2", "set-2/revocation",
    ]  # fmt: skip
    assert [one["part"] for one in found] == [0, 1, 2, 3]


def unsigned() -> str:
    _, claims, _ = token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"secevent+jwt"}').rstrip(b"=").decode()
    return f"{none}.{claims}.x"


def swapped() -> str:
    _, claims, signature = token().split(".")
    header = (
        base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"secevent+jwt","kid":"k1"}').rstrip(b"=").decode()
    )
    return f"{header}.{claims}.{signature}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (token(key=OTHER), "signature does not fit"),
        (token({**CLAIMS, "iss": "https://other.example"}), "no transmitter"),
        (token({**CLAIMS, "aud": "somebody"}), "another receiver"),
        (token(kid="k9"), "names no key"),
        (token(typ="JWT"), "typ is not"),
        (token(b64=True, crit=["b64"]), "not read here"),
        (token(key=OctKey.import_key("secret" * 8, {"kid": "k1"}), alg="HS256"), "alg is none of"),
        (unsigned(), "alg is none of"),
        (swapped(), "alg is none of"),
        ("no token", "three parts"),
        ('{"sets": 3}', "no answer to a poll"),
        (token({**CLAIMS, "events": {}}), "missing"),
        (token({**CLAIMS, "jti": ""}), "missing"),
    ],
)  # fmt: skip
def test_what_nobody_known_signed_is_refused_and_not_repeated(text: str, reason: str) -> None:
    found = decoded("ssf", text.encode(), transmitters=TRANSMITTERS)
    (one,) = found.rejected
    assert reason in one.reason
    assert not len(found.events)
    assert len(text) < 20 or text.rpartition(".")[2] not in one.reason


def test_without_transmitters_nothing_is_believed() -> None:
    (one,) = decoded("ssf", token().encode()).rejected
    assert "no transmitter" in one.reason


TEXT = token()


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
@settings(max_examples=300, deadline=None)
def test_a_token_that_is_changed_anywhere_gives_nothing_new(place: int, letter: str) -> None:
    changed = TEXT[:place] + letter + TEXT[place + 1 :]
    found = decoded("ssf", changed.encode("utf-8", "replace"), transmitters=TRANSMITTERS)
    if len(found.events):
        # The last letters of base64 have bits that say nothing: then it is the same token.
        assert [one["event_id"] for one in found.events.to_pylist()] == ["set-1", "set-1/revocation"]
    else:
        assert len(found.rejected) == 1


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_with_a_reason(value: bytes) -> None:
    (one,) = decoded("ssf", value, transmitters=TRANSMITTERS).rejected
    assert one.reason


def test_keys_come_from_a_file_and_options_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}))
    found = events("ssf", token().encode(), transmitters=[{"issuer": ISSUER, "jwks": str(file)}])
    assert len(found) == 2
    small = {**RSA.as_dict(private=False), "n": "w" * 171}
    for one in ({"issuer": ISSUER}, {"issuer": ISSUER, "jwks": str(tmp_path / "none")},
                {"issuer": ISSUER, "keys": [small]}, {"issuer": ISSUER, "keys": [{"kty": "oct", "k": "aa"}]},
                {"issuer": ISSUER, "keys": [{"kty": "EC", "crv": "P-256", "x": "?", "y": "?"}]}):  # fmt: skip
        with pytest.raises(UsageError):
            adapter("ssf", {"transmitters": [one]})
