"""The Kafka source against a real broker: from given positions, everything, once, with nothing hidden."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from ingest.chunk import Chunk
from ingest.sources import Polled
from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.settings import KafkaSettings
from ingest.sources.kafka.source import KafkaSource
from ledger.errors import OutsideError
from ledger.format.manifest import OffsetKey
from tests.broker.topics import Topics

DEADLINE_SECONDS = 60
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Sealed:
    """Stands for the ledger: takes chunks in order and knows every position. Safe across threads."""

    positions: dict[tuple[str, str, int], int] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def position(self, key: OffsetKey) -> int | None:
        with self.lock:
            return self.positions.get(key.identity)

    def seal(self, source: KafkaSource, polled: Polled) -> None:
        for chunk in polled.chunks:
            check(chunk)
            with self.lock:
                known = self.positions.get(chunk.key.identity)
                fits = known is None or known == chunk.start
                if fits:
                    self.positions[chunk.key.identity] = chunk.end
                    self.chunks.append(chunk)
            if fits:
                source.sealed(chunk.key, chunk.end)
            else:
                assert known is not None
                source.rewind(chunk.key, known)
        if polled.flush:
            source.flushed()

    def values(self, partition: int | None = None) -> list[bytes]:
        return [
            value.as_py()
            for chunk in self.chunks
            if partition in {None, chunk.key.partition}
            for value in chunk.values
        ]

    def offsets(self) -> list[int]:
        return [int(one) for chunk in self.chunks for one in chunk.offsets]

    def skipped(self) -> list[tuple[int, int]]:
        return [one for chunk in self.chunks for one in chunk.skipped]

    def lost(self) -> list[tuple[int, int]]:
        return [one for chunk in self.chunks for one in chunk.lost]


def check(chunk: Chunk) -> None:
    """Offsets, skipped and lost fill [start, end), and nothing else is in it."""
    chunk.values.validate(full=True)
    assert len(chunk.values) == len(chunk.offsets)
    assert chunk.values.null_count == 0
    covered = [int(one) for one in chunk.offsets]
    for low, high in chunk.skipped + chunk.lost:
        covered += range(low, high)
    assert sorted(covered) == list(range(chunk.start, chunk.end))


@contextmanager
def reading(
    bootstrap: str, sealed: Sealed, *topics: str, group: str | None = None, until_end: bool = True
) -> Iterator[KafkaSource]:
    settings = KafkaSettings(bootstrap, topics, group or f"g-{uuid.uuid4().hex[:12]}", until_end)
    source = KafkaSource(settings, sealed.position)
    try:
        yield source
    finally:
        source.close()


def drain(source: KafkaSource, sealed: Sealed, until: Callable[[], bool] | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (source.finished if until is None else until()):
        assert time.monotonic() < deadline, "the source did not get there"
        sealed.seal(source, source.poll(0.2))


@pytest.mark.parametrize("codec", [None, "lz4", "zstd", "snappy", "gzip"])
def test_every_message_of_every_partition_arrives_once_and_in_order(
    kafka_bootstrap: str, topics: Topics, codec: str | None
) -> None:
    topic = topics.create(4)
    sent = {
        partition: [b'{"n": %d, "pad": "%s"}' % (number, b"x" * (number % 700)) for number in range(5_000)]
        for partition in range(4)
    }
    for partition, values in sent.items():
        topics.fill(topic, values, partition=partition, codec=codec)
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
        lag = source.lag()
    for partition, values in sent.items():
        assert sealed.values(partition) == values
    assert {chunk.key.topic_id for chunk in sealed.chunks} == {topics.topic_id(topic)}
    assert all(chunk.key.cluster for chunk in sealed.chunks)
    assert not sealed.skipped()
    assert not sealed.lost()
    assert set(lag.values()) == {0}
    assert len(lag) == 4


def test_reading_goes_on_where_the_ledger_stands_even_in_the_middle_of_a_batch(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"%d" % number for number in range(1_000)], codec="lz4")
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    (identity,) = sealed.positions
    again = Sealed({identity: 437})
    with reading(kafka_bootstrap, again, topic) as source:
        drain(source, again)
    assert again.values() == [b"%d" % number for number in range(437, 1_000)]
    assert again.chunks[0].start == 437


def test_empty_values_tombstones_keys_and_headers_do_not_shift_values(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"", b"a"], codec="gzip")
    topics.fill_keyed(topic, [(b"gone", None)])
    topics.fill(topic, [b"b" * 200_000, b"c"], codec="gzip")
    topics.fill_keyed(topic, [(b"k" * number, b"v%d" % number) for number in range(1, 200)])
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    assert sealed.values()[:5] == [b"", b"a", b"", b"b" * 200_000, b"c"]
    assert sealed.values()[5:] == [b"v%d" % number for number in range(1, 200)]


def test_markers_and_aborted_messages_are_skipped_and_said(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create()
    with topics.transactional() as producer:
        for outcome in ("commit", "abort", "commit"):
            producer.begin_transaction()
            for number in range(10):
                producer.send(topic, value=f"{outcome} {number}".encode(), partition=0)
            producer.flush()
            if outcome == "commit":
                producer.commit_transaction()
            else:
                producer.abort_transaction()
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    assert sealed.values() == [b"commit %d" % number for number in range(10)] * 2
    # 10 messages and a marker each; the aborted ones and all three markers are passed over.
    assert sealed.offsets() == [*range(10), *range(22, 32)]
    assert sum(high - low for low, high in sealed.skipped()) == 13
    assert sealed.chunks[-1].end == 33


def test_a_topic_with_nothing_but_aborted_messages_still_moves_the_position(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    with topics.transactional() as producer:
        producer.begin_transaction()
        producer.send(topic, value=b"never", partition=0)
        producer.flush()
        producer.abort_transaction()
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    assert sealed.values() == []
    assert sealed.skipped() == [(0, 2)]
    assert list(sealed.positions.values()) == [2]


def test_offsets_that_compaction_removed_are_skipped(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create(
        config={
            "cleanup.policy": "compact",
            "segment.bytes": "1048576",
            "min.cleanable.dirty.ratio": "0.01",
            "segment.ms": "100",
        }
    )
    topics.fill_keyed(topic, [(b"same", b"old %d" % number) for number in range(200)])
    deadline = time.monotonic() + DEADLINE_SECONDS
    rounds = 0
    while True:
        # Only closed segments are compacted: a later message closes the one before it.
        rounds += 1
        topics.fill_keyed(topic, [(b"other %d" % rounds, b"x")])
        sealed = Sealed()
        with reading(kafka_bootstrap, sealed, topic) as source:
            drain(source, sealed)
        if sealed.skipped():
            break
        if time.monotonic() > deadline:
            pytest.skip("the broker did not compact in time")
    assert b"old 199" in sealed.values()
    assert sealed.chunks[0].start == 0
    assert len(sealed.offsets()) + sum(high - low for low, high in sealed.skipped()) == 200 + rounds


def test_what_the_broker_removed_is_lost_and_reading_goes_on(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create()
    topics.fill(topic, [b"%d" % number for number in range(100)])
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    (identity,) = sealed.positions
    topics.delete_records(topic, 0, before=60)
    late = Sealed({identity: 20})
    with reading(kafka_bootstrap, late, topic) as source:
        drain(source, late)
    assert late.lost() == [(20, 60)]
    assert late.values() == [b"%d" % number for number in range(60, 100)]


def test_a_position_behind_the_end_of_the_log_stops_with_a_plain_word(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"x"])
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    (identity,) = sealed.positions
    with (
        reading(kafka_bootstrap, Sealed({identity: 10}), topic) as source,
        pytest.raises(OutsideError, match="the broker has lost messages") as caught,
    ):
        drain(source, Sealed())
    assert caught.value.remedy


# More than before, so that the old position exists in the new log too; or fewer, so that it looks cut.
@pytest.mark.parametrize("count", [120, 10])
def test_a_topic_made_again_is_a_new_key_from_its_start(
    kafka_bootstrap: str, topics: Topics, count: int
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"old %d" % number for number in range(50)])
    first = topics.topic_id(topic)
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic, until_end=False) as source:
        drain(source, sealed, lambda: len(sealed.values()) == 50)
        topics.delete(topic)
        topics.create(name=topic)
        topics.fill(topic, [b"new %d" % number for number in range(count)])
        drain(source, sealed, lambda: len(sealed.values()) >= 50 + count)
    second = topics.topic_id(topic)
    assert first != second
    by_id = {
        one: [value.as_py() for chunk in sealed.chunks if chunk.key.topic_id == one for value in chunk.values]
        for one in (first, second)
    }
    assert by_id[first] == [b"old %d" % number for number in range(50)]
    assert by_id[second] == [b"new %d" % number for number in range(count)]


def test_new_partitions_are_picked_up(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create(1)
    topics.fill(topic, [b"a"])
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic, until_end=False) as source:
        drain(source, sealed, lambda: len(sealed.values()) == 1)
        topics.grow(topic, 3)
        # The metadata of the new partitions takes a moment to reach the producer.
        for partition in (1, 2):
            topics.fill(topic, [b"b"], partition=partition)
        drain(source, sealed, lambda: len(sealed.values()) == 3)
    assert {chunk.key.partition for chunk in sealed.chunks} == {0, 1, 2}


def test_rewind_hands_the_same_messages_over_again_and_no_stale_ones(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"%d" % number for number in range(3_000)], codec="lz4", batch_size=4096)
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
        (chunk, *_) = sealed.chunks
        source.rewind(chunk.key, 1_234)
        assert not source.finished
        again = Sealed({chunk.key.identity: 1_234})
        drain(source, again)
    assert again.values() == [b"%d" % number for number in range(1_234, 3_000)]


def test_memory_ahead_of_a_slow_pipeline_is_bounded(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create(2)
    for partition in range(2):
        topics.fill(topic, [os.urandom(1 << 16) * 8 for _ in range(160)], partition=partition, codec="lz4")
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic) as source:
        deadline = time.monotonic() + DEADLINE_SECONDS
        limit = limits.CREDIT_BYTES
        # 160 MiB are there; nobody polls, so the queue fills up to its limit and stays there.
        while queued(source) < limit:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert queued(source) < limit + (8 << 20)
        drain(source, sealed)
    assert len(sealed.values()) == 320


def queued(source: KafkaSource) -> int:
    with source._changed:
        return sum(one.size for one in source._queue)


WORKER = """
import sys
sys.path.insert(0, {checkout!r})
from ingest.sources.kafka.source import KafkaSource
from ingest.sources.kafka.settings import KafkaSettings
source = KafkaSource(KafkaSettings({bootstrap!r}, ({topic!r},), {group!r}), lambda key: None)
while True:
    polled = source.poll(0.2)
    for chunk in polled.chunks:
        print("chunk", flush=True)
    if polled.flush:
        source.flushed()
"""


def test_a_second_worker_joins_and_is_killed_and_nothing_is_missing(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create(4)
    sealed = Sealed()
    group = f"g-{uuid.uuid4().hex[:12]}"
    total = 0

    def produce(label: bytes) -> None:
        nonlocal total
        for partition in range(4):
            topics.fill(topic, [b"%s %d" % (label, number) for number in range(250)], partition=partition)
        total += 1_000

    produce(b"alone")
    with reading(kafka_bootstrap, sealed, topic, group=group, until_end=False) as source:
        drain(source, sealed, lambda: len(sealed.values()) == total)
        text = WORKER.format(checkout=str(CHECKOUT), bootstrap=kafka_bootstrap, topic=topic, group=group)
        worker = subprocess.Popen(
            [sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        try:
            output = worker.stdout
            assert output is not None
            seen = threading.Event()

            def watch() -> None:
                if output.readline():
                    seen.set()

            watcher = threading.Thread(target=watch)
            watcher.start()
            # It seals nothing (its ledger is empty), so it reads its share from the start.
            drain(source, sealed, seen.is_set)
            produce(b"together")
            drain(source, sealed, lambda: len(sealed.values()) >= 1_500)
        finally:
            worker.kill()
            worker.wait()
        watcher.join()
        output.close()
        produce(b"after")
        drain(source, sealed, lambda: len(sealed.values()) >= total)
    expected = [b"%s %d" % (one, n) for one in (b"alone", b"together", b"after") for n in range(250)]
    for partition in range(4):
        assert sealed.values(partition) == expected
    assert sorted(sealed.positions.values()) == [750] * 4


def test_two_workers_share_one_ledger_and_hand_partitions_over(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create(4)
    for partition in range(4):
        topics.fill(topic, [b"%d" % number for number in range(2_000)], partition=partition, batch_size=2048)
    sealed = Sealed()
    group = f"g-{uuid.uuid4().hex[:12]}"
    with (
        reading(kafka_bootstrap, sealed, topic, group=group, until_end=False) as first,
        reading(kafka_bootstrap, sealed, topic, group=group, until_end=False) as second,
    ):
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(sealed.offsets()) < 8_000 or not (first.lag() and second.lag()):
            assert time.monotonic() < deadline
            for source in (first, second):
                sealed.seal(source, source.poll(0.05))
    for partition in range(4):
        assert sealed.values(partition) == [b"%d" % number for number in range(2_000)]


def test_an_unknown_topic_is_named_with_those_that_exist(kafka_bootstrap: str, topics: Topics) -> None:
    there = topics.create()
    with (
        reading(kafka_bootstrap, Sealed(), "no-such-topic") as source,
        pytest.raises(OutsideError, match="no topic no-such-topic") as caught,
    ):
        drain(source, Sealed())
    assert "create the topic" in caught.value.remedy
    assert there
    assert topics.topic_id(there)


def test_a_broker_that_does_not_answer_is_said_within_the_time_limit() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        settings = KafkaSettings(address, ("t",), connect_timeout_seconds=1.0)
        source = KafkaSource(settings, lambda key: None)
        try:
            with pytest.raises(OutsideError, match=f"{address} does not answer") as caught:
                drain(source, Sealed())
        finally:
            source.close()
    assert caught.value.remedy


def test_a_reader_that_is_killed_is_said_and_another_source_goes_on(
    kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create()
    topics.fill(topic, [b"%d" % number for number in range(100)])
    sealed = Sealed()
    with reading(kafka_bootstrap, sealed, topic, until_end=False) as source:
        drain(source, sealed, lambda: len(sealed.values()) == 100)
        os.kill(source._process.pid, signal.SIGKILL)
        with pytest.raises(OutsideError, match="ended unexpectedly"):
            drain(source, sealed, lambda: False)
    topics.fill(topic, [b"more"])
    with reading(kafka_bootstrap, sealed, topic) as source:
        drain(source, sealed)
    assert sealed.values()[-1] == b"more"


def test_the_reader_ends_with_a_parent_that_is_killed(kafka_bootstrap: str, topics: Topics) -> None:
    topic = topics.create()
    topics.fill(topic, [b"x"])
    group = f"g-{uuid.uuid4().hex[:12]}"
    text = WORKER.format(checkout=str(CHECKOUT), bootstrap=kafka_bootstrap, topic=topic, group=group)
    worker = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "chunk\n"
        (reader,) = psutil.Process(worker.pid).children()
    finally:
        worker.kill()
        worker.wait()
    worker.stdout.close()
    reader.wait(DEADLINE_SECONDS)
    assert not reader.is_running()
