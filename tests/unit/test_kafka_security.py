"""TLS and SASL settings: what goes together, and where secrets come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.sources.kafka.security import KafkaSecurity
from ingest.sources.kafka.settings import KEY_PASSWORD_VARIABLE, PASSWORD_VARIABLE, KafkaSettings
from ledger.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"hunter2 \n")
    return path


def test_nothing_said_is_nothing_set() -> None:
    assert KafkaSecurity().client() == {}


def test_a_password_comes_from_its_file_or_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "other")
    given = KafkaSecurity(mechanism="scram-sha-512", username="u", password_file=file)
    assert given.client() == {
        "security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u", "sasl_plain_password": "hunter2 ",
    }  # fmt: skip
    assert "hunter2" not in repr(given)
    taken = KafkaSecurity(protocol="sasl_plaintext", mechanism="PLAIN", username="u").client()
    assert taken["sasl_plain_password"] == "other"
    KafkaSettings("b:9092", ("t",), client=taken)


def test_our_certificate_goes_with_its_key(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_PASSWORD_VARIABLE, "open")
    client = KafkaSecurity(ca=file, cert=file, key=file).client()
    assert client == {
        "security_protocol": "SSL", "ssl_cafile": str(file), "ssl_certfile": str(file),
        "ssl_keyfile": str(file), "ssl_password": "open",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"protocol": "TLS"}, "no security protocol"),
        ({"protocol": "PLAINTEXT", "ca": Path("ca.pem")}, "--ssl-ca does not go with PLAINTEXT"),
        ({"protocol": "SSL", "username": "u"}, "--sasl-username does not go with SSL"),
        ({"cert": Path("c.pem")}, "needs its key"),
        ({"ca": Path("nowhere.pem")}, "no file nowhere.pem"),
        ({"username": "u"}, "no --sasl-mechanism"),
        ({"mechanism": "NTLM"}, "no SASL mechanism 'NTLM'"),
        ({"mechanism": "PLAIN"}, "needs a user and a password"),
        ({"mechanism": "PLAIN", "username": "u"}, PASSWORD_VARIABLE),
        ({"mechanism": "PLAIN", "username": "u", "password_file": Path("nowhere")}, "cannot be read"),
    ],
)
def test_what_does_not_fit_together_is_said(told: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        KafkaSecurity(**told).client()


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff", b"x" * 5_000])
def test_a_file_that_holds_no_one_secret_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UsageError):
        KafkaSecurity(mechanism="PLAIN", username="u", password_file=file).client()
