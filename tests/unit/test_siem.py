"""Alerts on their way to a SIEM: a collector that acknowledges, syslog over TLS."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from detections.delivery import siem
from detections.delivery.routes import Route
from detections.delivery.senders import sender_of
from detections.delivery.siem import syslog_record
from ledger.errors import OutsideError, UsageError
from tests.certificates import CertificateAuthority

KEY = f"{'a' * 32}/e0"
BODY = json.dumps({"severity": "high", "reason": "viele Verweigerungen für agent:ä"}).encode()
NOW = 1_795_514_400.25


class Splunk:
    """A collector as Splunk documents it: events, and acknowledgements by channel."""

    def __init__(self, cert: Path, key: Path, *, acknowledges: bool = True, after: int = 2) -> None:
        self.events: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.asked = 0
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer: dict[str, Any] = {"text": "Success", "code": 0}
                if self.path.endswith("/ack"):
                    outer.asked += 1
                    answer = {"acks": {str(one): outer.asked >= after for one in body["acks"]}}
                else:
                    outer.events.append((dict(self.headers), body))
                    if acknowledges:
                        answer["ackId"] = len(outer.events)
                data = json.dumps(answer).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/services/collector/event"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority("receivers", tmp_path)


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("b7c1d3e0-0000-4000-8000-000000000000\n")
    return file


@pytest.fixture
def splunk(authority: CertificateAuthority, tmp_path: Path) -> Iterator[Splunk]:
    one = Splunk(*authority.issue("localhost", tmp_path))
    yield one
    one.close()


def collector(url: str, token: Path, authority: CertificateAuthority) -> Any:
    return sender_of(
        Route(name="s", kind="hec", url=url, secret_file=token, ca_file=authority.certificate, form="ocsf")
    )


def test_a_collector_is_sent_to_and_counts_once_it_has_indexed(
    splunk: Splunk, token: Path, authority: CertificateAuthority
) -> None:
    sender = collector(splunk.url, token, authority)
    sender.send(KEY, BODY, NOW)
    ((headers, body),) = splunk.events
    assert headers["Authorization"] == f"Splunk {token.read_text().strip()}"
    assert len(headers["X-Splunk-Request-Channel"]) == 36
    assert body["event"] == json.loads(BODY)
    assert (body["time"], body["fields"], body["source"]) == (
        NOW, {"idempotency_key": KEY}, "decision-ledger",
    )  # fmt: skip
    assert splunk.asked == 2
    sender.close()


def test_what_is_never_acknowledged_or_refused_was_not_sent(
    splunk: Splunk, token: Path, authority: CertificateAuthority, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(siem, "ACK_SECONDS", 0.3)
    monkeypatch.setattr(siem, "ACK_STEP_SECONDS", 0.05)
    never = Splunk(*authority.issue("localhost", tmp_path), after=10_000)
    sender = collector(never.url, token, authority)
    with pytest.raises(OutsideError, match="did not acknowledge"):
        sender.send(KEY, BODY, NOW)
    never.close()
    with pytest.raises(OutsideError, match="could not be reached"):
        sender.send(KEY, BODY, NOW)
    sender.close()
    splunk.status = 503
    sender = collector(splunk.url, token, authority)
    with pytest.raises(OutsideError, match="answered 503"):
        sender.send(KEY, BODY, NOW)
    sender.close()
    stranger = CertificateAuthority("strangers", tmp_path / "other")
    sender = collector(splunk.url, token, stranger)
    with pytest.raises(OutsideError, match="ConnectError"):
        sender.send(KEY, BODY, NOW)
    sender.close()


def test_without_acknowledgement_the_answer_counts(
    token: Path, authority: CertificateAuthority, tmp_path: Path
) -> None:
    plain = Splunk(*authority.issue("localhost", tmp_path), acknowledges=False)
    sender = collector(plain.url, token, authority)
    sender.send(KEY, BODY, NOW)
    assert (len(plain.events), plain.asked) == (1, 0)
    sender.close()
    plain.close()


class SyslogReceiver:
    """Takes octet-counted messages, one connection after another."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._context = context
        self.port: int = self._listening.getsockname()[1]

    def messages(self, count: int) -> list[bytes]:
        """So many messages of the next connection, which is closed then."""
        made, _ = self._listening.accept()
        if self._context is not None:
            made = self._context.wrap_socket(made, server_side=True)
        found: list[bytes] = []
        with made, made.makefile("rb") as stream:
            for _ in range(count):
                digits = b""
                while (one := stream.read(1)) != b" ":
                    digits += one
                found.append(stream.read(int(digits)))
        return found

    def close(self) -> None:
        self._listening.close()


def test_syslog_goes_over_tls_counted_and_again_after_a_break(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    cert, key = authority.issue("localhost", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    receiver = SyslogReceiver(context)
    address = f"localhost:{receiver.port}"
    sender = sender_of(Route(name="s", kind="syslog", syslog=address, ca_file=authority.certificate))
    taken: list[list[bytes]] = []
    for count in (2, 1):
        thread = threading.Thread(target=lambda n=count: taken.append(receiver.messages(n)))
        thread.start()
        for _ in range(count):
            sender.send(KEY, BODY, NOW)
        thread.join(30)
    assert [len(one) for one in taken] == [2, 1]
    record = taken[0][0]
    assert record == syslog_record(KEY, BODY, NOW)
    head, _, text = record.partition(b" - {")
    assert head == b"<107>1 2026-11-24T10:00:00.250Z - decision-ledger - " + b"a" * 32
    assert json.loads(b"{" + text) == json.loads(BODY)
    assert record.isascii()
    receiver.close()
    sender.close()
    with pytest.raises(OutsideError, match="did not take it"):
        sender.send(KEY, BODY, NOW)


@pytest.mark.parametrize(("severity", "priority"), [
    ("critical", 106), ("high", 107), ("medium", 108), ("low", 109), ("informational", 110), ("odd", 109),
])  # fmt: skip
def test_a_severity_has_its_level(severity: str, priority: int) -> None:
    assert syslog_record(KEY, json.dumps({"severity": severity}).encode(), NOW).startswith(
        f"<{priority}>1 ".encode()
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "hec", "url": "https://x/services/collector/event"},
        {"kind": "hec", "url": "https://x/elsewhere", "secret_file": "t"},
        {"kind": "hec", "url": "https://x/services/collector/event", "secret_file": "t", "form": "slack"},
        {"kind": "syslog"},
        {"kind": "syslog", "syslog": "siem.example:6514", "tls": "none"},
        {"kind": "syslog", "syslog": "no port"},
    ],
)
def test_routes_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Route.model_validate({"name": "s", **wrong})


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("none")
    with pytest.raises(UsageError, match="certificates"):
        sender_of(Route(name="s", kind="syslog", syslog="localhost:1", ca_file=file))
