"""`ingest kafka` against a real broker that asks for TLS, client certificates and SASL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.broker import broker as ways
from tests.broker.jars import BrokerUnavailable
from tests.broker.topics import Topics
from tests.certificates import CertificateAuthority

CHECKOUT = Path(__file__).resolve().parents[2]
PASSWORD = "of-the-test-alone"
JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="broker" password="{PASSWORD}" user_ledger="{PASSWORD}";'
)


@dataclass(frozen=True)
class Guarded:
    plain: str
    tls: str
    sasl: str
    folder: Path


def _certificates(folder: Path) -> None:
    """A CA, and one certificate that both sides use: `ca.pem`, `cert.pem`, `key.pem`, `both.pem`."""
    authority = CertificateAuthority("ca", folder)
    cert, key = authority.issue("test.example", folder)
    authority.certificate.rename(folder / "ca.pem")
    cert.rename(folder / "cert.pem")
    key.rename(folder / "key.pem")
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str) -> Iterator[Guarded]:
    del kafka_bootstrap  # where no broker can be had at all, this one cannot either
    folder = tmp_path_factory.mktemp("guarded")
    _certificates(folder)
    tls, sasl = ways._free_ports(2)
    real = ways._listeners

    def listeners(host: str, client: int, internal: int, controller: int) -> dict[str, str]:
        told = real(host, client, internal, controller)
        more = f",SSL://127.0.0.1:{tls},SASL_SSL://127.0.0.1:{sasl}"
        return told | {name: told[name] + more for name in ("listeners", "advertised.listeners")} | {
            "listener.security.protocol.map": ways.COMMON["listener.security.protocol.map"]
            + ",SSL:SSL,SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM", "ssl.keystore.location": str(folder / "both.pem"),
            "ssl.truststore.type": "PEM", "ssl.truststore.location": str(folder / "ca.pem"),
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": JAAS,
        }  # fmt: skip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways, "_listeners", listeners)
        try:
            broker = ways._from_artifacts(folder)
        except BrokerUnavailable as reason:
            pytest.skip(f"no broker with TLS: {reason}")
    try:
        yield Guarded(broker.bootstrap, f"127.0.0.1:{tls}", f"127.0.0.1:{sasl}", folder)
    finally:
        broker.stop()


@pytest.fixture
def topic(guarded: Guarded) -> Iterator[str]:
    with Topics(guarded.plain) as topics:
        name = topics.create(1)
        event = {"event_id": "e", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "test/pdp"}
        topics.fill(name, [json.dumps(event | {"event_id": f"e{n}"}).encode() for n in range(5)])
        yield name


def _ingest(
    place: Path, topic: str, bootstrap: str, *more: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECKOUT / "decision_ledger.py")]
    if not (place / "there").exists():
        made = [*command, "init", "--origin", "test.example/tls", "--ledger", "there"]
        subprocess.run(made, cwd=place, check=True, capture_output=True)
    return subprocess.run(
        [*command, "-v", "--ledger", "there", "ingest", "kafka", "--bootstrap", bootstrap, "--topic", topic,
         "--group", topic, "--until-end", "--json", *more],
        cwd=place, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


def _no_secret_in(place: Path, done: subprocess.CompletedProcess[str]) -> None:
    assert PASSWORD not in done.stdout + done.stderr + " ".join(done.args)
    assert not [p for p in place.rglob("*") if p.is_file() and PASSWORD.encode() in p.read_bytes()]


def test_sasl_over_tls_seals_every_event(tmp_path: Path, guarded: Guarded, topic: str) -> None:
    done = _ingest(
        tmp_path, topic, guarded.sasl, "--ssl-ca", str(guarded.folder / "ca.pem"),
        "--sasl-mechanism", "PLAIN", "--sasl-username", "ledger",
        DECISION_LEDGER_INGEST_KAFKA_SASL_PASSWORD=PASSWORD,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] == 5
    _no_secret_in(tmp_path, done)


def test_a_client_certificate_is_enough_where_the_broker_asks_for_one(
    tmp_path: Path, guarded: Guarded, topic: str
) -> None:
    given = [f"--ssl-{n}={guarded.folder / n}.pem" for n in ("ca", "cert", "key")]
    done = _ingest(tmp_path, topic, guarded.tls, *given)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] == 5


def test_a_wrong_password_is_said_in_one_sentence(tmp_path: Path, guarded: Guarded, topic: str) -> None:
    wrong = guarded.folder / "wrong"
    wrong.write_text("not-it\n")
    done = _ingest(
        tmp_path, topic, guarded.sasl, "--ssl-ca", str(guarded.folder / "ca.pem"), "--sasl-mechanism",
        "PLAIN", "--sasl-username", "ledger", "--sasl-password-file", str(wrong),
    )  # fmt: skip
    assert done.returncode == 3
    assert "credentials" in done.stderr or "SASL settings" in done.stderr
    assert "not-it" not in done.stderr


def test_a_broker_that_no_trusted_ca_vouches_for_is_not_read(
    tmp_path: Path, guarded: Guarded, topic: str
) -> None:
    done = _ingest(tmp_path, topic, guarded.tls, "--security-protocol", "SSL")
    assert done.returncode == 3
    assert "refuses the TLS or SASL settings" in done.stderr
