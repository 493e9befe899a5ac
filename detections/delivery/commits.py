"""The log's entries as records of a Kafka topic, for whoever wants to know soon what was sealed.

The topic has one partition. A record's key is the index of its entry, its value the entry's bytes as they are
sealed: their leaf hash is in the tree. How far it has got, the topic itself says, by the keys of its last
records. After a crash, or where a broker took a later one and not an earlier one, entries come again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from ledger.errors import OutsideError, UsageError

TIMEOUT_SECONDS: Final = 15.0
MAX_KEY_DIGITS: Final = 18
BATCH: Final = 500
"""Entries that are under way at once."""


class CommitsTopic:
    """One topic of commits, open for writing.

    Raises:
        UsageError: it does not exist, or has several partitions, or holds something else.
        OutsideError: no broker answers.
    """

    def __init__(self, bootstrap: str, topic: str, client: Mapping[str, Any] | None = None) -> None:
        from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: PLC0415 - most exports send nowhere
        from kafka.errors import KafkaError  # noqa: PLC0415 - as above

        self._error, self._topic = KafkaError, topic
        given = {"bootstrap_servers": bootstrap.split(","), **(client or {})}
        try:
            consumer = KafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **given)
            try:
                self.next = _next_index(consumer, topic, TopicPartition(topic, 0))
            finally:
                consumer.close()
            # One request at a time: a second one that arrives first would turn entries round.
            self._producer = KafkaProducer(
                acks="all", retries=0, max_in_flight_requests_per_connection=1, linger_ms=20, **given
            )
        except KafkaError as error:
            raise OutsideError(
                f"The topic {topic} cannot be reached: {type(error).__name__}.", "Check --bootstrap."
            ) from None

    def send(self, origin: str, entries: Callable[[int], bytes], size: int) -> int:
        """Write the entries from `next` to `size`; returns how many. Raises OutsideError."""
        count = 0
        while self.next < size:
            end = min(self.next + BATCH, size)
            headers = [("origin", origin.encode()), ("checkpoint-size", str(size).encode())]
            try:
                sent = [
                    self._producer.send(
                        self._topic,
                        key=str(one).encode(),
                        value=entries(one),
                        headers=headers,
                        partition=0,
                    )
                    for one in range(self.next, end)
                ]
                for one in sent:
                    one.get(timeout=TIMEOUT_SECONDS)
            except self._error as error:
                raise OutsideError(
                    f"The topic {self._topic} did not take an entry: {type(error).__name__}.",
                    "Start it again: it goes on where the topic ends.",
                ) from None
            count += end - self.next
            self.next = end
        return count

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=TIMEOUT_SECONDS)


def _next_index(consumer: Any, topic: str, partition: Any) -> int:
    """The entry that the topic wants next, by the key of its last record."""
    there = consumer.partitions_for_topic(topic)
    if not there:
        raise UsageError(f"There is no topic {topic}.", "Make it, with one partition.")
    if there != {0}:
        raise UsageError(
            f"The topic {topic} has {len(there)} partitions: entries would lose their order.",
            "Make one with a single partition.",
        )
    consumer.assign([partition])
    begin = consumer.beginning_offsets([partition])[partition]
    end = consumer.end_offsets([partition])[partition]
    # One batch is under way at most: where an entry is missing, it is among the last ones.
    at = max(begin, end - 2 * BATCH)
    consumer.seek(partition, at)
    keys: set[int] = set()
    until = time.monotonic() + TIMEOUT_SECONDS
    while at < end and time.monotonic() < until:
        for record in consumer.poll(timeout_ms=500).get(partition, []):
            if record.key is None or not record.key.isdigit() or len(record.key) > MAX_KEY_DIGITS:
                raise UsageError(
                    f"The topic {topic} holds something else than commits.", "Name a topic of its own."
                )
            keys.add(int(record.key))
        at = consumer.position(partition)
    if at < end:
        raise OutsideError(f"The topic {topic} could not be read to its end.", "Check the broker.")
    following = min(keys, default=0)
    while following in keys:
        following += 1
    return following
