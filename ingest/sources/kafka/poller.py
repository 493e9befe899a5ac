"""The loop of the reading process: poll, check whose messages these are, ship them with their gaps.

A partition is read under a lease that the parent issues together with the offset to start from; a
chunk under an old lease is dropped there, so nothing is handed over twice or out of order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from kafka import TopicPartition
from kafka.consumer.subscription_state import (
    AsyncConsumerRebalanceListener,
)
from kafka.errors import (
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    RetriableError,
)

from ingest.sources.kafka import client as kafka_client
from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.faults import Remedied, explain
from ingest.sources.kafka.headers import size_of
from ingest.sources.kafka.orders import Orders
from ingest.sources.kafka.ranges import gaps, subtract
from ingest.sources.kafka.records import Group
from ingest.sources.kafka.settings import KafkaSettings
from ingest.sources.kafka.topics import short_id, wait_for_topics
from ingest.sources.kafka.wire import Kind, pack

__all__ = ["Poller", "Remedied", "explain"]

NO_VALUES = pa.array([], pa.large_binary())
NO_OFFSETS = np.empty(0, np.int64)


@dataclass(slots=True)
class Lease:
    """`next` is the first offset that was not shipped yet, `target` where a bounded read ends."""

    number: int
    topic_id: str | None
    next: int
    target: int | None = None


class Poller(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # untyped base class
    """One consumer. All but the listener's methods run in the thread that called `run`."""

    def __init__(self, settings: KafkaSettings, orders: Orders) -> None:
        self._settings = settings
        self._orders = orders
        self._wire = orders.wire
        self._leases: dict[TopicPartition, Lease] = {}
        self._unresolved: set[TopicPartition] | None = None
        self._targets: dict[tuple[str | None, TopicPartition], int] = {}
        self._checked_response = 0
        self._answered_at = time.monotonic()
        self._beyond_since: float | None = None
        self._at_end: list[int] | None = None
        self._cut: dict[TopicPartition, tuple[str | None, LogTruncationError]] = {}
        self._revocations = 0
        self._held = False
        self._consumer = kafka_client.open_consumer(settings)
        wait_for_topics(self._consumer, settings.topics)
        self._consumer.subscribe(topics=list(settings.topics), listener=self)

    def run(self) -> None:
        """Until the parent says CLOSE. Raises KafkaError or Remedied on what cannot be waited out."""
        while not self._orders.closing.is_set():
            try:
                self._step()
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                self._ask_again(error.args[0] if error.args else self._leases)
            except LogTruncationError as error:
                # The broker lost messages, or the topic was made again: `_resolve` learns which.
                self._note_cut(error)
            except RetriableError:
                if time.monotonic() - self._answered_at > limits.OUTAGE_SECONDS:
                    raise
                self._orders.closing.wait(limits.POLL_MILLISECONDS / 1000)
        self._consumer.close(autocommit=False, timeout_ms=int(limits.CLOSE_TIMEOUT_SECONDS * 500))

    def _step(self) -> None:
        self._obey_seeks()
        if self._unresolved is not None:
            self._resolve(self._unresolved)
        self._hold_or_go()
        # Between assignments nothing can be fetched, and a longer wait lets a rebalance end within it.
        held = self._held and self._leases
        wait = limits.HELD_POLL_MILLISECONDS if held else limits.POLL_MILLISECONDS
        polled = self._consumer.poll(timeout_ms=wait)
        for partition, groups in polled.items():
            for group in groups:
                if self._still_same(partition, group.response):
                    self._ship(partition, group)
        if not polled:
            self._idle()

    def _obey_seeks(self) -> None:
        while self._orders.seeks:
            order = self._orders.seeks.popleft()
            for partition, lease in self._leases.items():
                if lease.number == order["lease"]:
                    lease.number, lease.next = order["new"], order["offset"]
                    self._consumer.seek(partition, lease.next)
                    self._at_end = None

    def _hold_or_go(self) -> None:
        """Without room to ship, go on polling with everything paused: the group must not wait for us."""
        patience = limits.HELD_POLL_MILLISECONDS / 1000 if self._held and self._leases else 0
        if self._orders.may_read(patience):
            if self._held:
                self._held = False
                self._consumer.resume(*self._leases)
        elif not self._held:
            self._held = True
            self._consumer.pause(*self._leases)

    # --- where to start ---

    def _ask_again(self, partitions: Any) -> None:
        again = {one for one in partitions if one in self._leases}
        for partition in again:
            del self._leases[partition]
            self._consumer.pause(partition)
        self._unresolved = (self._unresolved or set()) | again
        self._at_end = None

    def _note_cut(self, error: LogTruncationError) -> None:
        leased = [one for one in error.divergent_offsets if one in self._leases]
        self._cut.update({one: (self._leases[one].topic_id, error) for one in leased})
        self._ask_again(leased)

    def _resolve(self, partitions: set[TopicPartition]) -> None:
        """Learn each one's identity and bounds, ask the parent for the position, go there."""
        wanted = sorted(partitions)
        cluster, ids = kafka_client.topic_ids(self._consumer, wanted[0] if wanted else None)
        self._answered_at = time.monotonic()
        if any(one.topic not in ids for one in wanted):
            kafka_client.refresh_metadata(self._consumer)  # deleted; it may come back under a new id
            self._consumer.poll(timeout_ms=limits.POLL_MILLISECONDS)
            return
        for one in wanted:
            topic_id, error = self._cut.pop(one, (None, None))
            if error is not None and topic_id == short_id(ids[one.topic]):
                raise error
        low = self._consumer.beginning_offsets(wanted) if wanted else {}
        high = self._consumer.end_offsets(wanted) if wanted else {}
        keys = [(one.topic, one.partition, short_id(ids[one.topic]), cluster) for one in wanted]
        self._wire.send(Kind.ASK, {"keys": keys})
        answer = self._orders.answer()
        if answer is None:
            return
        leases = {}
        for partition, key, (position, number) in zip(wanted, keys, answer["positions"], strict=True):
            offset = low[partition] if position is None else position
            if offset > high[partition]:
                self._beyond_end(partition, offset, high[partition])
                return
            target = self._targets.setdefault((key[2], partition), high[partition])
            leases[partition] = Lease(number, key[2], offset, target)
        self._beyond_since = None
        self._unresolved = None
        self._at_end = None
        for partition, lease in leases.items():
            self._leases[partition] = lease
            if lease.next < low[partition]:
                self._send_chunk(lease, low[partition], lost=[(lease.next, low[partition])])
            self._consumer.seek(partition, lease.next)
            if not self._held:
                self._consumer.resume(partition)
        self._wire.send(Kind.ASSIGNED, {"leases": [one.number for one in self._leases.values()]})

    def _beyond_end(self, partition: TopicPartition, offset: int, end: int) -> None:
        now = time.monotonic()
        self._beyond_since = self._beyond_since or now
        if now - self._beyond_since > limits.BEYOND_END_SECONDS:
            raise Remedied(
                f"The ledger holds {partition.topic}/{partition.partition} up to offset {offset}, but the "
                f"broker's log ends at {end}: the broker has lost messages that were sealed.",
                "Find out what the broker lost (an unclean leader election, a restored volume); to read "
                "what is there now, re-create the topic, which gives it a new id.",
            )
        self._consumer.poll(timeout_ms=limits.POLL_MILLISECONDS)

    def _still_same(self, partition: TopicPartition, response: int) -> bool:
        """Whether what was fetched came from the topic that the lease names.

        A fetch names the topic, not its id. The id is asked for after the answer came in: ids are
        never used again, so if it is the old one now, it was when the messages were read. A topic
        that is gone has not been replaced yet.
        """
        lease = self._leases.get(partition)
        if lease is None:
            return False
        if response <= self._checked_response:
            return True
        try:
            self._check_ids(partition)
        except RetriableError:
            self._consumer.seek(partition, lease.next)
            raise
        self._checked_response = max(response, self._checked_response)
        return partition in self._leases

    def _check_ids(self, partition: TopicPartition | None) -> None:
        _, ids = kafka_client.topic_ids(self._consumer, partition)
        self._answered_at = time.monotonic()
        moved = {
            one
            for one, lease in self._leases.items()
            if one.topic in ids and short_id(ids[one.topic]) != lease.topic_id
        }
        if moved:
            kafka_client.refresh_metadata(self._consumer)
            self._ask_again(moved)

    # --- what is shipped ---

    def _ship(self, partition: TopicPartition, group: Group | None) -> None:
        """The group and every offset up to the consumer's position."""
        lease = self._leases.get(partition)
        if lease is None:
            return
        end = self._consumer.position(partition)
        if end is None or (end == lease.next and group is None):
            return
        offsets = NO_OFFSETS if group is None else group.offsets
        missing = gaps(lease.next, end, offsets)
        unread = [] if group is None else group.unread
        self._send_chunk(
            lease, end, group, skipped=subtract(missing, unread), lost=unread, high=self._high(partition)
        )

    def _send_chunk(
        self,
        lease: Lease,
        end: int,
        group: Group | None = None,
        *,
        skipped: list[tuple[int, int]] | None = None,
        lost: list[tuple[int, int]] | None = None,
        high: int | None = None,
    ) -> None:
        values = NO_VALUES if group is None else group.values
        payload = [] if group is None or not len(values) else pack(group.offsets, values)
        headers = None if group is None else group.headers
        size = limits.FRAME_OVERHEAD_BYTES + size_of(headers)
        size += sum(memoryview(one).nbytes for one in payload)
        said = {
            "lease": lease.number, "start": lease.next, "end": end, "count": len(values),
            "skipped": skipped or [], "lost": lost or [], "high": high,
            "truncated": [] if group is None else list(group.truncated.items()),
            "headers": headers, "size": size,
        }  # fmt: skip
        self._orders.spend(size)
        self._wire.send(Kind.CHUNK, said, payload)
        lease.next = end

    def _high(self, partition: TopicPartition) -> int | None:
        high: int | None = self._consumer.highwater(partition)
        return high

    def _idle(self) -> None:
        """Nothing came: ship what was passed over, look after the topics, say how far we are."""
        for partition in list(self._leases):
            self._ship(partition, None)
        if self._unresolved is None and not self._orders.seeks:
            self._say_at_end()
        if time.monotonic() - self._answered_at < limits.IDLE_CHECK_SECONDS:
            return
        self._check_ids(next(iter(self._leases), None))
        known = {one.number: self._high(partition) for partition, one in self._leases.items()}
        self._wire.send(Kind.LAG, {"high": [item for item in known.items() if item[1] is not None]})

    def _say_at_end(self) -> None:
        if not self._settings.until_end or not self._consumer.subscription():
            return
        leases = list(self._leases.values())
        if all(one.target is not None and one.next >= one.target for one in leases):
            reached = [one.number for one in leases]
            if reached != self._at_end:
                self._wire.send(Kind.AT_END, {"leases": reached})
                self._at_end = reached

    # --- the group; called on the client's own loop while `poll` waits for it ---

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Let the parent seal what it holds before somebody else starts behind it."""
        kafka_client.keep_joining(self._consumer)
        if self._leases and not self._orders.closing.is_set():
            self._revocations += 1
            self._wire.send(Kind.REVOKE, {"id": self._revocations})
            deadline = time.monotonic() + limits.FLUSH_TIMEOUT_SECONDS
            while self._orders.flushed < self._revocations and time.monotonic() < deadline:
                if self._orders.closing.is_set():
                    break
                await kafka_client.sleep(self._consumer, limits.FLUSH_STEP_SECONDS)
        await self.on_partitions_lost(revoked)

    async def on_partitions_lost(self, lost: set[TopicPartition]) -> None:
        """They are already somebody else's; what is sealed now is fenced by the ledger."""
        self._leases.clear()
        self._unresolved = None
        self._at_end = None
        self._wire.send(Kind.RELEASED, {})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Nothing is fetched until the positions are known; `_resolve` goes there."""
        for partition in assigned:
            self._consumer.seek(partition, 0)
            self._consumer.pause(partition)
        self._unresolved = set(assigned)
        self._at_end = None
