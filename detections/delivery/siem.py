"""How an alert reaches a SIEM: an HTTP Event Collector that acknowledges, or syslog over TLS."""

from __future__ import annotations

import json
import socket
import ssl
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from detections.delivery.ocsf import SEVERITIES
from ledger.errors import OutsideError, UsageError

TIMEOUT_SECONDS: Final = 5.0
ACK_SECONDS: Final = 10.0
"""How long an indexer may take to say that it has it."""
ACK_STEP_SECONDS: Final = 0.2
SOURCE: Final = "decision-ledger"
LOG_AUDIT: Final = 13
"""The facility (RFC 5424, section 6.2.1)."""
_LEVELS: Final = {5: 2, 4: 3, 3: 4, 2: 5, 1: 6}
"""Severity ids of OCSF and what syslog calls them: critical 2, high 3 (error), and so on."""
NOTICE: Final = 5


class Collector:
    """Splunk's HTTP Event Collector, with indexer acknowledgement where the collector has it on."""

    def __init__(self, url: str, token: bytes, ca_file: Path | None) -> None:
        self._url = url
        self._acks = url.rpartition("/services/collector")[0] + "/services/collector/ack"
        self._channel = str(uuid.uuid4())
        headers = {
            "Authorization": f"Splunk {token.decode('ascii', 'replace')}",
            "X-Splunk-Request-Channel": self._channel,
        }
        self._client = httpx.Client(
            timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False, headers=headers,
            verify=_context(ca_file),
        )  # fmt: skip

    def send(self, key: str, body: bytes, now: float) -> None:
        """Raises OutsideError unless the collector takes it and, with acknowledgement, has indexed it."""
        event = {
            "time": now, "source": SOURCE, "sourcetype": f"{SOURCE}:alert", "event": orjson.Fragment(body),
            "fields": {"idempotency_key": key},
        }  # fmt: skip
        answer = self._post(self._url, orjson.dumps(event))
        acknowledged = answer.get("ackId")
        if acknowledged is None:
            return
        until = time.monotonic() + ACK_SECONDS
        while time.monotonic() < until:
            told = self._post(self._acks, orjson.dumps({"acks": [acknowledged]}))
            acks = told.get("acks")
            if isinstance(acks, dict) and acks.get(str(acknowledged)) is True:
                return
            time.sleep(ACK_STEP_SECONDS)
        raise OutsideError(f"The collector did not acknowledge it within {ACK_SECONDS:g} s.")

    def _post(self, url: str, body: bytes) -> dict[str, Any]:
        try:
            answer = self._client.post(url, content=body, headers={"Content-Type": "application/json"})
            told = orjson.loads(answer.content) if answer.status_code == httpx.codes.OK else None
        except httpx.HTTPError as error:
            raise OutsideError(f"The collector could not be reached: {type(error).__name__}.") from None
        except orjson.JSONDecodeError:
            raise OutsideError("The collector's answer is no JSON.") from None
        if not isinstance(told, dict):
            raise OutsideError(f"The collector answered {answer.status_code}.")
        return told

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Syslog:
    """RFC 5424 messages over TLS (RFC 5425), each counted in octets.

    Syslog confirms nothing: what was written before a connection broke may be lost on the other side.
    """

    def __init__(self, address: str, ca_file: Path | None, *, plain: bool) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._context = None if plain else _context(ca_file)
        self._socket: socket.socket | None = None

    def send(self, key: str, body: bytes, now: float) -> None:
        """Raises OutsideError where it cannot be written."""
        record = syslog_record(key, body, now)
        try:
            if self._socket is not None and _is_closed(self._socket):
                self.close()
            if self._socket is None:
                self._socket = self._connected()
            self._socket.sendall(b"%d %b" % (len(record), record))
        except (OSError, ssl.SSLError) as error:
            self.close()
            raise OutsideError(f"The syslog receiver did not take it: {type(error).__name__}.") from None

    def _connected(self) -> socket.socket:
        made = socket.create_connection((self._host, self._port), TIMEOUT_SECONDS)
        if self._context is None:
            return made
        try:
            return self._context.wrap_socket(made, server_hostname=self._host)
        except OSError:
            made.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def syslog_record(key: str, body: bytes, now: float) -> bytes:
    """One alert as a message of RFC 5424: its severity, when it was sent, its id, and JSON in ASCII."""
    value = orjson.loads(body)
    level = _LEVELS.get(_severity_of(value), NOTICE)
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # Ids are ours: hex, and no space. The host's name stays here.
    head = f"<{LOG_AUDIT * 8 + level}>1 {when} - {SOURCE} - {key.partition('/')[0][:32] or '-'} - "
    return head.encode() + _ascii(body)


def _severity_of(value: Any) -> int:
    if not isinstance(value, dict):
        return 0
    given = value.get("severity_id")
    return given if isinstance(given, int) else SEVERITIES.get(str(value.get("severity")), 0)


def _ascii(body: bytes) -> bytes:
    """JSON without any letter beyond ASCII, which would ask for a byte-order mark (section 6.4)."""
    return body if body.isascii() else json.dumps(orjson.loads(body), separators=(",", ":")).encode()


def _is_closed(one: socket.socket) -> bool:
    """Whether the other side has ended it. A receiver says nothing, but TLS itself may (session tickets)."""
    one.setblocking(False)
    try:
        return one.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        one.settimeout(TIMEOUT_SECONDS)


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError):
        raise UsageError(f"The certificates in {ca_file} cannot be read.", "Correct ca_file.") from None
