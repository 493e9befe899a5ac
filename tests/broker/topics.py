"""Topics for one test: unique names, made, filled, shortened and deleted on a real broker."""

from __future__ import annotations

import base64
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

SETTLE_TIMEOUT_SECONDS = 20
SETTLE_STEP_SECONDS = 0.05


class Topics:
    """Makes topics and deletes them when the block ends."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        self._made: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._made):
            with suppress(KafkaError):  # the broker may be gone; its data goes with it
                self.delete(name, wait=False)
        self._admin.close()

    def create(
        self, partitions: int = 1, *, name: str | None = None, config: Mapping[str, str] | None = None
    ) -> str:
        """A new topic's name, once every partition has a leader."""
        name = name or f"t-{uuid.uuid4().hex[:12]}"
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(config or {})}
        deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
        while True:
            try:
                self._admin.create_topics({name: wanted}, wait_for_metadata=True)
                break
            except KafkaError:
                # A topic of that name may still be on its way out.
                if time.monotonic() > deadline:
                    raise
                time.sleep(SETTLE_STEP_SECONDS)
        self._made.add(name)
        return name

    def topic_id(self, name: str) -> str:
        """The id in Kafka's 22-character form."""
        described = self._admin.describe_topics([name])[0]
        return base64.urlsafe_b64encode(uuid.UUID(str(described["topic_id"])).bytes).decode().rstrip("=")

    def grow(self, name: str, partitions: int) -> None:
        """More partitions for an existing topic."""
        self._admin.create_partitions({name: partitions})

    def delete(self, name: str, *, wait: bool = True) -> None:
        """Remove a topic; with `wait`, until the broker no longer lists it."""
        self._made.discard(name)
        self._admin.delete_topics([name])
        deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
        while wait and name in self._admin.list_topics():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the topic {name} is still listed")
            time.sleep(SETTLE_STEP_SECONDS)

    def delete_records(self, name: str, partition: int, before: int) -> None:
        """The broker forgets everything below the offset `before`."""
        self._admin.delete_records({TopicPartition(name, partition): before})

    def fill(
        self, name: str, values: Iterable[bytes | None], *, partition: int = 0, codec: str | None = None,
        **settings: Any,
    ) -> list[int]:  # fmt: skip
        """Produce in order to one partition; returns the offsets."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, compression_type=codec, linger_ms=5, **settings
        )
        try:
            sent = [producer.send(name, value=value, partition=partition) for value in values]
            producer.flush(timeout=60)
            return [one.get(timeout=30).offset for one in sent]
        finally:
            producer.close(timeout=10)

    def fill_keyed(self, name: str, pairs: Iterable[tuple[bytes, bytes | None]], partition: int = 0) -> None:
        """Produce keyed messages (for compacted topics), each batch acknowledged."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        try:
            for key, value in pairs:
                producer.send(name, key=key, value=value, partition=partition)
            producer.flush(timeout=60)
        finally:
            producer.close(timeout=10)

    @contextmanager
    def producing(self) -> Iterator[KafkaProducer]:
        """A producer whose messages are there when the block ends."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        try:
            yield producer
            producer.flush(timeout=60)
        finally:
            producer.close(timeout=10)

    @contextmanager
    def transactional(self) -> Iterator[KafkaProducer]:
        """A producer on which `begin_transaction`, `commit_transaction`, `abort_transaction` work."""
        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap, transactional_id=f"tx-{uuid.uuid4().hex[:12]}"
        )
        try:
            producer.init_transactions()
            yield producer
        finally:
            producer.close(timeout=10)
