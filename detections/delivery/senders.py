"""How a message leaves: a signed webhook, a record of a Kafka topic, a mail, or a way of `siem`."""

from __future__ import annotations

import hashlib
import hmac
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from detections.delivery.routes import Route
from detections.delivery.siem import Collector, Syslog
from ledger.errors import OutsideError, UsageError

SIGNATURE: Final = "X-Decision-Ledger-Signature"
TIMEOUT_SECONDS: Final = 5.0
MAX_SECRET_BYTES: Final = 4_096
MAX_SUBJECT_LETTERS: Final = 200


class Sender(Protocol):
    """Sends one message, or raises OutsideError."""

    def send(self, key: str, body: bytes, now: float) -> None:
        """`key` is the same for every attempt at one message."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Webhook:
    """POSTs JSON; the receiver checks HMAC-SHA256 over `<seconds>.<body>` and drops what it has seen."""

    def __init__(self, url: str, secret: bytes) -> None:
        self._url = url
        self._secret = secret
        # No redirects: a signed alert goes where it was addressed to.
        self._client = httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False)

    def send(self, key: str, body: bytes, now: float) -> None:
        """Raises OutsideError unless the receiver answers 2xx."""
        headers = {
            "Content-Type": "application/json", "Idempotency-Key": key,
            SIGNATURE: signature(self._secret, body, int(now)),
        }  # fmt: skip
        try:
            status = self._client.post(self._url, content=body, headers=headers).status_code
        except httpx.HTTPError as error:
            raise OutsideError(f"The webhook could not be reached: {type(error).__name__}.") from None
        if not 200 <= status < 300:
            raise OutsideError(f"The webhook answered {status}.")

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class Topic:
    """Writes records; their key is the alert's id, so that its steps stay in order."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._producer: Any = None

    def send(self, key: str, body: bytes, now: float) -> None:
        """Raises OutsideError unless the broker has it on all its replicas."""
        from kafka import KafkaProducer  # noqa: PLC0415 - most engines send to no topic
        from kafka.errors import KafkaError  # noqa: PLC0415 - as above

        try:
            if self._producer is None:
                self._producer = KafkaProducer(bootstrap_servers=self._bootstrap, acks="all", retries=0)
            sent = self._producer.send(
                self._topic, key=key.partition("/")[0].encode(), value=body,
                headers=[("idempotency-key", key.encode())],
            )  # fmt: skip
            sent.get(timeout=TIMEOUT_SECONDS)
        except KafkaError as error:
            self.close()
            raise OutsideError(f"The topic {self._topic} did not take it: {type(error).__name__}.") from None

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close(timeout=TIMEOUT_SECONDS)
            self._producer = None


class Mail:
    """Sends plain text; the receiver drops what it has seen by its Message-ID."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._password = None if route.password_file is None else read_secret(route.password_file, 1).decode()

    def send(self, key: str, body: bytes, now: float) -> None:
        """Raises OutsideError unless the mail server takes it for every receiver."""
        route = self._route
        assert route.smtp is not None  # the route is whole
        assert route.mail_from is not None
        subject, _, text = body.decode().partition("\n")
        mail = EmailMessage()
        mail["From"], mail["To"] = route.mail_from, ", ".join(route.mail_to)
        mail["Subject"] = subject[:MAX_SUBJECT_LETTERS]
        mail["Date"] = format_datetime(datetime.fromtimestamp(now, UTC))
        mail["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()}@decision-ledger.invalid>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(f"{subject}\n\n{text}\n")
        host, _, port = route.smtp.rpartition(":")
        secure = ssl.create_default_context()
        try:
            server = (
                smtplib.SMTP_SSL(host, int(port), timeout=TIMEOUT_SECONDS, context=secure)
                if route.tls == "implicit"
                else smtplib.SMTP(host, int(port), timeout=TIMEOUT_SECONDS)
            )
            with server:
                if route.tls == "starttls":
                    server.starttls(context=secure)
                if route.user is not None and self._password is not None:
                    server.login(route.user, self._password)
                refused = server.send_message(mail)
        except (OSError, smtplib.SMTPException) as error:
            raise OutsideError(f"The mail server did not take it: {type(error).__name__}.") from None
        if refused:
            raise OutsideError(f"The mail server refused {len(refused)} receivers.")

    def close(self) -> None:
        """Nothing is held between mails."""


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """What the header says: `t=<seconds>,v1=<hex>`."""
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def sender_of(route: Route) -> Sender:
    """Raises UsageError where a secret cannot be read."""
    if route.kind == "kafka":
        assert route.bootstrap is not None  # the route is whole
        assert route.topic is not None
        return Topic(route.bootstrap, route.topic)
    if route.kind == "mail":
        return Mail(route)
    if route.kind == "syslog":
        assert route.syslog is not None
        return Syslog(route.syslog, route.ca_file, plain=route.tls == "none")
    assert route.url is not None
    assert route.secret_file is not None
    if route.kind == "hec":
        return Collector(route.url, read_secret(route.secret_file), route.ca_file)
    return Webhook(route.url, read_secret(route.secret_file))


def read_secret(path: Path, at_least: int = 16) -> bytes:
    """The secret of a file, without white space around it; `at_least` so many bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The secret {path} cannot be read: {error.strerror}.", "Correct its path."
        ) from None
    secret = data.strip()
    if not at_least <= len(secret) <= MAX_SECRET_BYTES:
        raise UsageError(
            f"The secret in {path} is shorter than {at_least} bytes, or too long.", "Make a new one."
        )
    return secret
