"""The ways to the ledger's intake: a file, HTTP, Kafka. Each returns when the events are durable there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx

from ledger.errors import OutsideError, UsageError

SEND_SECONDS: Final = 10.0
TOKEN_VARIABLE: Final = "DECISION_LEDGER_INTAKE_TOKEN"  # noqa: S105 - a variable's name


class Sink(Protocol):
    """Where events go."""

    async def send(self, events: Sequence[str]) -> None:
        """Hand over JSON texts in order; returns when they are durable.

        Raises:
            OutsideError: they may not be; the same events are sent again later.
        """
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...


def open_sink(target: str) -> Sink:
    """The sink that a target names: `file:PATH`, `http://host:port/events`, `kafka:host:port/topic`.

    Raises:
        UsageError: it names none.
    """
    kind, _, rest = target.partition(":")
    if kind == "file" and rest:
        return FileSink(Path(rest))
    if kind in ("http", "https") and urlsplit(target).hostname:
        return HttpSink(target, os.environ.get(TOKEN_VARIABLE))
    if kind == "kafka" and "/" in rest:
        bootstrap, _, topic = rest.rpartition("/")
        if bootstrap and topic:
            return KafkaSink(bootstrap, topic)
    raise UsageError(
        f"{target!r} is no place for events.",
        "Write file:PATH, http://HOST:PORT/events or kafka:HOST:PORT/TOPIC.",
    )


class FileSink:
    """Appends lines to a file and flushes them to the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, events: Sequence[str]) -> None:
        """See `Sink.send`."""
        try:
            await asyncio.to_thread(self._append, "".join(f"{event}\n" for event in events).encode())
        except OSError as error:
            raise OutsideError(
                f"{self._path} cannot be written: {error.strerror}.", "Free the disk."
            ) from error

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, data) != len(data):
                os.ftruncate(descriptor, before)
                raise OSError(28, "No space left on device")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """Nothing is held."""


class HttpSink:
    """Posts JSON Lines; 2xx means that the intake has them on its disk."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._client = httpx.AsyncClient(
            timeout=SEND_SECONDS,
            trust_env=False,
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
        )

    async def send(self, events: Sequence[str]) -> None:
        """See `Sink.send`."""
        body = "".join(f"{event}\n" for event in events).encode()
        try:
            answer = await self._client.post(
                self._url, content=body, headers={"Content-Type": "application/x-ndjson"}
            )
        except httpx.HTTPError as error:
            raise OutsideError(
                f"The intake at {self._url} does not answer: {type(error).__name__}."
            ) from error
        if not answer.is_success:
            raise OutsideError(f"The intake at {self._url} answered {answer.status_code}.")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class KafkaSink:
    """Produces to one topic: acks=all, idempotent, ordered."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._producer: Any = None

    async def send(self, events: Sequence[str]) -> None:
        """See `Sink.send`."""
        await asyncio.to_thread(self._send, events)

    def _send(self, events: Sequence[str]) -> None:
        from kafka import KafkaProducer  # noqa: PLC0415 - only where Kafka is the target
        from kafka.errors import KafkaError  # noqa: PLC0415 - only where Kafka is the target

        try:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._bootstrap, acks="all", enable_idempotence=True,
                    compression_type="lz4", linger_ms=5, delivery_timeout_ms=int(SEND_SECONDS * 1_000),
                    request_timeout_ms=5_000,
                )  # fmt: skip
            # One partition: the emitter's order is kept.
            futures = [self._producer.send(self._topic, event.encode(), partition=0) for event in events]
            for future in futures:
                future.get(timeout=SEND_SECONDS)
        except KafkaError as error:
            # A producer that failed may have lost its place in the sequence.
            self._drop()
            raise OutsideError(f"Kafka at {self._bootstrap} did not take events: {error}.") from error

    def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=0)

    async def close(self) -> None:
        """Close the producer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.to_thread(producer.close, SEND_SECONDS)
