from __future__ import annotations

import json
from typing import Any

import pytest

from ingest import masking
from ingest.masking import MASK, mask_payload, mask_text, mask_value

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
SECRET = "hunter22-very-secret"


@pytest.mark.parametrize(
    ("value", "places"),
    [
        ({"password": SECRET}, ["/password"]),
        ({"PassWord": SECRET, "DB_PASSWD": SECRET}, ["/PassWord", "/DB_PASSWD"]),
        ({"a": [{"clientSecret": SECRET}]}, ["/a/0/clientSecret"]),
        ({"x-amz-security-token": SECRET}, ["/x-amz-security-token"]),
        (
            {"responseElements": {"credentials": {"sessionToken": SECRET}}},
            ["/responseElements/credentials/sessionToken"],
        ),
        ({"Authorization": [SECRET]}, ["/Authorization"]),
        ({"private/key": SECRET}, ["/private~1key"]),
        ({"headers": [["Cookie", SECRET], ["Accept", "x"]]}, ["/headers/0/1"]),
        ({"rawHeaders": ["Cookie", SECRET, "Accept", "x"]}, ["/rawHeaders/1"]),
        ({"h": [{"name": "authorization", "value": SECRET}]}, ["/h/0/value"]),
        ({"password": 12345}, ["/password"]),
        ({"reason": f"Bearer {SECRET}"}, ["/reason"]),
        ({"reason": f"got bearer  {SECRET}."}, ["/reason"]),
        ({"credential_id": JWT}, ["/credential_id"]),
        ({"note": f"jwt is {JWT}!"}, ["/note"]),
        ({"url": f"https://bob:{SECRET}@example.org/x"}, ["/url"]),
        ({"url": f"https://example.org/x?access_token={SECRET}&b=1"}, ["/url"]),
        ({"log": f"password={SECRET}"}, ["/log"]),
        ({"log": f"password:{SECRET}"}, ["/log"]),
        ({"log": f"PASSWORD : '{SECRET}' b"}, ["/log"]),
        ({"body": json.dumps({"a": {"api_key": SECRET}})}, ["/body"]),
        ({"body": json.dumps(json.dumps({"api_key": SECRET}))}, ["/body"]),
        ({"body": json.dumps({"in": json.dumps({"in": json.dumps({"secret": SECRET})})})}, ["/body"]),
        ({"body": f'{{"password":"{SECRET}","password":1}}'}, ["/body"]),
        ({"body": f'{{"password":"a\\"{SECRET}'}, ["/body"]),
        ({"body": f'x {{\\"password\\":\\"{SECRET}\\"}}'}, ["/body"]),
        ({"pem": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----"}, ["/pem"]),
        ({"pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}"}, ["/pem"]),
        ({"text": f"Authorization: Digest {SECRET}"}, ["/text"]),
        ({"text": "Basic Ym9iOmh1bnRlcjIyLXZlcnktc2VjcmV0"}, ["/text"]),
        ({"token": {"value": SECRET}}, ["/token/value"]),
        (
            {"accessKey": {"accessKeyId": "AKIA1", "status": "Active", "secretAccessKey": SECRET}},
            ["/accessKey/secretAccessKey"],
        ),
        ({"secret": {"in": [{"id": "s-1", "text": SECRET}], "n": 7}}, ["/secret/in/0/text", "/secret/n"]),
        ({"credentials_secret": {"type": f"Bearer {SECRET}"}}, ["/credentials_secret/type"]),
        ({"apiKey": [SECRET, SECRET]}, ["/apiKey"]),
        ({"cmd": f"curl -s -u bob:{SECRET} https://example.org"}, ["/cmd"]),
        ({"cmd": f"curl --user 'bob:two words {SECRET}' https://example.org"}, ["/cmd"]),
        ({"cmd": f'sh -c "curl --proxy-user=bob:{SECRET}"'}, ["/cmd"]),
        ({"cmd": f"mysqldump -h db -p{SECRET} orders"}, ["/cmd"]),
        ({"cmd": f"mysql -p'{SECRET}' -u root"}, ["/cmd"]),
        ({"argv": ["/usr/bin/curl", "-u", f"bob:{SECRET}", "x"]}, ["/argv/2"]),
        ({"argv": ["mysql", f"-p{SECRET}"]}, ["/argv/1"]),
        ({"text": f"JSESSIONID={SECRET}; theme=dark"}, ["/text"]),
        ({"text": f"sessionid = {SECRET}"}, ["/text"]),
    ],
)
def test_secrets_are_masked_and_their_places_told(value: Any, places: list[str]) -> None:
    before = json.dumps(value)
    clean, told = mask_value(value)
    text = json.dumps(clean)
    assert told == places
    assert SECRET not in text
    assert "Ym9iOm" not in text
    assert JWT not in text
    assert MASK in text
    assert json.dumps(value) == before


@pytest.mark.parametrize(
    "value",
    [
        {"credential_id": "a" * 32, "credential_type": "capability", "session_id": "b" * 32},
        {"token_type": "access", "next_token": None, "page_token": "5", "prompt_tokens": 12},
        {"sensitive_fields": ["password", "email"]},
        {"reason": "token-expired", "action": "secret:read", "policy_id": "authz/authorization"},
        {"resource": "secret:billing-db", "scopes": ["token:issue", "password:reset", "cookie:*"]},
        {"password": None, "secret": "", "token": True},
        {
            "cmd": "curl -u bob https://example.org:8443/x",
            "other": "mysql -p -u root",
            "run": "docker -u 1:2",
        },
        {"text": "session_id=0123456789abcdef", "sessionId": "0123456789abcdef"},
        {"task_id": "task-12345678901234567890", "url": "https://example.org:8443/a@b"},
        {"subject": "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"},
    ],
)
def test_harmless_values_are_left(value: Any) -> None:
    assert mask_value(value) == (value, [])


def test_masking_twice_changes_nothing() -> None:
    once = mask_text(f"password={SECRET} Bearer {SECRET} https://a:{SECRET}@b/ Authorization: x")
    assert mask_text(once) == once


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps({"password": SECRET}).encode(),
        b'{"pass\\u0077ord":"' + SECRET.encode() + b'"}',
        b'{"pass\\u0077ord":"' + SECRET.encode() + b'"',
        b'{"password":"' + SECRET.encode(),
        b'{"password": "a\\"' + SECRET.encode() + b'"',
        b"\xff\xfe password=" + SECRET.encode(),
        b'{"a":1,"a":"Bearer ' + SECRET.encode() + b'"}',
        b"Authorization: Basic " + SECRET.encode() + b"\r\nx",
        b'{"Authorization":["Bearer ' + SECRET.encode() + b'"]',
        b'{"url":"https:\\/\\/bob:' + SECRET.encode() + b'@example.org\\/"',
        b'{"token":{"value":"' + SECRET.encode() + b'"}',
    ],
)
def test_dead_letters_hold_no_secret(payload: bytes) -> None:
    masked = mask_payload(payload)
    assert masked is not None
    assert SECRET.encode() not in masked


@pytest.mark.parametrize(
    "payload", [b"", b"\xff\x00\x01", b"{", b'{"a":1}', b'{"a":"\\u00e9"', b'{"a":1,"a":2}']
)
def test_payloads_without_secrets_are_kept_byte_for_byte(payload: bytes) -> None:
    assert mask_payload(payload) == payload


def test_no_payload_where_masking_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(payload: bytes) -> bytes:
        raise RuntimeError(payload)

    monkeypatch.setattr(masking, "_mask_payload", broken)
    assert mask_payload(b"x") is None


@pytest.mark.timeout(20)
def test_hostile_texts_take_linear_time() -> None:
    for text in (
        "a-" * 100_000,
        "token" * 50_000,
        "password=\\" * 20_000,
        'secret":"\\"' * 20_000,
        "://a:" * 50_000,
        "curl -u a" * 20_000,
        "mysql " * 40_000,
        "sessid=" * 30_000,
    ):
        mask_text(text)
