"""A Kafka topic that is written entry by entry of a log, and itself says how far it has got.

The topic has one partition. A record's key is the index of the entry that it is about. Headers number the
records of an entry, say with the last one how many there are, and name the entry that the topic has before
it: so what a broker did not take is seen, though it took what followed. After a crash the records of an entry
come again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final

from ledger.errors import OutsideError, UsageError

TIMEOUT_SECONDS: Final = 15.0
MAX_KEY_DIGITS: Final = 18
BATCH: Final = 500
"""Records that are under way at once."""
PART: Final = "entry-part"
PARTS: Final = "entry-parts"
AFTER: Final = "entry-after"
NOTHING: Final = -1
"""In place of the entry before: all before are known to be there."""

Headers = list[tuple[str, bytes]]
Record = tuple[int, bytes, Headers]
"""The index of an entry, the value, and headers."""


class EntryTopic:
    """One topic, open for writing; `next` is the first entry that it does not have to its end.

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
            # One request at a time: a second one that arrives first would turn records round.
            self._producer = KafkaProducer(
                acks="all", retries=0, max_in_flight_requests_per_connection=1, linger_ms=20, **given
            )
        except KafkaError as error:
            raise OutsideError(
                f"The topic {topic} cannot be reached: {type(error).__name__}.", "Check --bootstrap."
            ) from None

    def check_within(self, size: int) -> None:
        """Raises UsageError where the topic is ahead of a log of `size` entries."""
        if self.next > size:
            raise UsageError(
                f"The topic {self._topic} is at entry {self.next - 1:,}, and this ledger ends at {size:,}: "
                "they do not belong together.",
                "Name the topic of this ledger, or look at which of them was rolled back.",
            )

    def send(self, records: Iterable[Record], size: int) -> int:
        """Write records, which are those of the entries from `next` to `size` in order; returns how many.

        Raises OutsideError; what was written then comes again.
        """
        count = 0
        numbered = _numbered(records)
        while some := list(islice(numbered, BATCH)):
            try:
                sent = [
                    self._producer.send(
                        self._topic, key=str(key).encode(), value=value, headers=headers, partition=0
                    )
                    for key, value, headers in some
                ]
                for one in sent:
                    one.get(timeout=TIMEOUT_SECONDS)
            except self._error as error:
                raise OutsideError(
                    f"The topic {self._topic} did not take a record: {type(error).__name__}.",
                    "Start it again: it goes on where the topic ends.",
                ) from None
            count += len(some)
        self.next = size
        return count

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=TIMEOUT_SECONDS)


def _numbered(records: Iterable[Record]) -> Iterator[Record]:
    """The records, with the headers that the topic is read by."""
    after = NOTHING
    for key, own in groupby(records, key=itemgetter(0)):
        held: Record | None = None
        for part, (_, value, headers) in enumerate(own):
            if held is not None:
                yield held
            told = [(PART, str(part).encode()), (AFTER, str(after).encode())]
            held = key, value, [*headers, *told]
        if held is not None:
            yield key, held[1], [*held[2], (PARTS, str(part + 1).encode())]
        after = key


def _next_index(consumer: Any, topic: str, partition: Any) -> int:
    """The entry that the topic wants next: by its tail, of which more is read until an entry ends in it."""
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
    # One batch is under way at most: where a record is missing, it is among the last ones.
    width = 2 * BATCH
    while True:
        first = max(begin, end - width)
        tail = _Tail()
        for record in _records(consumer, topic, partition, (first, end)):
            tail.take(record)
        if tail.whole or first == begin:
            return tail.next(cut=first > 0)  # also where retention took what was before
        width *= 10


def _records(consumer: Any, topic: str, partition: Any, span: tuple[int, int]) -> Iterator[Any]:
    at, end = span
    consumer.seek(partition, at)
    until = time.monotonic() + TIMEOUT_SECONDS
    while at < end and time.monotonic() < until:
        for record in consumer.poll(timeout_ms=500).get(partition, []):
            until = time.monotonic() + TIMEOUT_SECONDS
            yield record
        at = consumer.position(partition)
    if at < end:
        raise OutsideError(f"The topic {topic} could not be read to its end.", "Check the broker.")


class _Tail:
    """The newest records of a topic, by entry."""

    def __init__(self) -> None:
        self._parts: dict[int, set[int]] = {}
        self._counts: dict[int, int] = {}
        self._after: dict[int, int] = {}

    @property
    def whole(self) -> set[int]:
        """The entries all of whose records are there."""
        return {index for index, parts in self._parts.items() if len(parts) == self._counts.get(index)}

    def take(self, record: Any) -> None:
        """One record, in order. Raises UsageError for one that is none of ours."""
        try:
            told = {name: int(value) for name, value in record.headers if name in (PART, PARTS, AFTER)}
        except (TypeError, ValueError):
            told = {}
        if record.key is None or not record.key.isdigit() or len(record.key) > MAX_KEY_DIGITS:
            raise UsageError(f"The topic {record.topic} holds something else.", "Name a topic of its own.")
        index = int(record.key)
        part = told.get(PART, 0)
        if part == 0:
            # It may have come before, and not to its end.
            self._parts[index] = set()
            self._after[index] = told.get(AFTER, index - 1)
        self._parts.setdefault(index, set()).add(part)
        if PARTS in told or PART not in told:
            self._counts[index] = told.get(PARTS, 1)

    def next(self, *, cut: bool) -> int:
        """The first entry that is not there to its end; `cut`: there are, or were, earlier records."""
        whole = self.whole
        lowest = min(self._parts, default=0)
        lacking = {index for index in self._parts if index not in whole and not (cut and index == lowest)}
        named = {one for one in self._after.values() if one > (lowest if cut else -1)}
        lacking |= named - whole
        return min(lacking, default=max(whole, default=-1) + 1)
