"""One worker over a real Kafka at seven tenths of what it can do here, for a long time: nothing of it grows.

The peak is measured first, with the producer at work beside it. Memory grows until the worker remembers as
many events as it may (for duplicates, 24 bytes each): its last quarter is judged against the one before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil
from kafka import KafkaProducer

from ledger.errors import LedgerError
from ledger.query.engine import QueryLimits
from ledger.reader import Ledger
from ledger.storage.stores import open_store
from ledger.verify.verification import verify
from tests.broker.broker import Restartable
from tests.broker.topics import Topics
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.kills import PARTITIONS, environment, may_start, with_broker
from tests.reliability.record import CHECKOUT
from tests.services import command

SHARE_OF_PEAK = 0.7
PEAK_SECONDS = (5.0, 60.0)
SOAK_SECONDS = (12.0, 1_200.0)
"""In the tests, and in full."""
SAMPLE_SECONDS = 2.0
TICK_SECONDS = 0.05
GROWTH = 1.1
"""The last quarter's median may be so many times that of the one before; and some more for small numbers."""
LAG_SECONDS = 10.0
"""How far behind a worker may be at most, in seconds of events, where memory and handles are judged."""
BACKLOG = 100_000
"""Messages that are there at once, so that the worker starts every process that it ever will."""
TOPIC = {"retention.bytes": str(512 << 20), "segment.bytes": str(64 << 20)}


@dataclass
class Samples:
    """What the worker's processes take, in order of time."""

    memory: list[int] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    behind: list[int] = field(default_factory=list)

    def take(self, worker: psutil.Process, behind: int) -> None:
        """One sample over the worker and what it started."""
        all_of_it = [worker, *worker.children(recursive=True)]
        self.memory.append(sum(one.memory_info().rss for one in all_of_it))
        self.handles.append(sum(one.num_fds() for one in all_of_it))
        self.threads.append(sum(one.num_threads() for one in all_of_it))
        self.behind.append(behind)


def produce(bootstrap: str, topic: str, rate: float, seconds: float) -> int:
    """Send events for so long, `rate` a second after a backlog, or as fast as it goes where 0; how many."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=20, batch_size=1 << 18, acks=1
    )
    begun, sent = time.monotonic(), 0
    while (now := time.monotonic() - begun) < seconds:
        due = BACKLOG + int(now * rate) if rate else sent + 2_000
        for number in range(sent, due):
            producer.send(topic, value=_message(topic, number), partition=number % PARTITIONS)
        sent = max(sent, due)
        if rate:
            time.sleep(TICK_SECONDS)
    producer.flush(timeout=120)
    producer.close(timeout=30)
    return sent


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`. The first case is the short one."""
    return with_broker(cases, folder, _case)


def _case(number: int, folder: Path, broker: Restartable, topics: Topics, tally: Tally) -> None:
    peak = _peak(folder, broker, topics, PEAK_SECONDS[number])
    _soak(folder, broker, topics, peak, number, tally)


def _peak(folder: Path, broker: Restartable, topics: Topics, seconds: float) -> float:
    """Events a second that are sealed while events are produced as fast as it goes."""
    topic = topics.create(PARTITIONS, config=TOPIC)
    ledger = folder / "peak"
    worker = _worker(folder, ledger, broker.bootstrap, topic)
    producer = _producer(broker.bootstrap, topic, 0.0, seconds)
    try:
        while _sealed(ledger) == 0:
            time.sleep(0.2)
        begun, first = time.monotonic(), _sealed(ledger)
        while producer.poll() is None:
            time.sleep(0.2)
        return (_sealed(ledger) - first) / (time.monotonic() - begun)
    finally:
        _end(worker, producer)


def _soak(folder: Path, broker: Restartable, topics: Topics, peak: float, number: int, tally: Tally) -> None:
    topic = topics.create(PARTITIONS, config=TOPIC)
    ledger, seconds, rate = folder / "soak", SOAK_SECONDS[number], SHARE_OF_PEAK * peak
    worker = _worker(folder, ledger, broker.bootstrap, topic)
    producer = _producer(broker.bootstrap, topic, rate, seconds)
    samples, begun = Samples(), time.monotonic()
    try:
        while producer.poll() is None and worker.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            produced = BACKLOG + int(min(seconds, time.monotonic() - begun) * rate)
            samples.take(psutil.Process(worker.pid), max(0, produced - _sealed(ledger)))
        assert producer.stdout is not None
        count = int(producer.stdout.read())
        deadline = time.monotonic() + 120
        while _sealed(ledger) < count and time.monotonic() < deadline and worker.poll() is None:
            time.sleep(0.5)
    finally:
        _end(worker, producer)
    # Every event's id is compared with every other: that takes more than a query has by default.
    limits = QueryLimits(seconds=600, memory_bytes=8 << 30)
    with Ledger.open(str(ledger), limits=limits, remember=False) as opened:
        (row,) = opened.sql("SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM events").to_pylist()
        key = opened.state.key
    if (row["n"], row["d"]) != (count, count):
        tally.fail("lost", f"{count} sent, {row['n']} rows, {row['d']} events")
    if not verify(open_store(str(ledger)), vkey=key).ok:
        tally.fail("damaged", "verify found damage")
    # In the short form the worker has only just begun to remember events, and to start processes.
    if number:
        _judge(samples, rate, tally)
        tally.counts.update({"seconds": int(seconds), "peak, events a second": int(peak)})
        tally.counts.update({"offered, events a second": int(rate), "events sealed": count})
        tally.counts["memory at its end, MiB"] = samples.memory[-1] >> 20
        tally.counts["handles at its end"] = samples.handles[-1]
        tally.counts["threads at its end"] = samples.threads[-1]
        tally.counts["behind at most in its second half, events"] = max(_part(samples.behind, 2, 4))


def _judge(samples: Samples, rate: float, tally: Tally) -> None:
    for name, values, more in (
        ("memory grew", samples.memory, 32 << 20), ("handles grew", samples.handles, 8),
        ("threads grew", samples.threads, 8),
    ):  # fmt: skip
        third, last = median(_part(values, 2, 3)), median(_part(values, 3, 4))
        if last > third * GROWTH + more:
            tally.fail(name, f"from {third:,.0f} to {last:,.0f}")
    behind = max(_part(samples.behind, 2, 4))
    if behind > rate * LAG_SECONDS:
        tally.fail("fell behind", f"{behind:,} events at {rate:,.0f} a second")


def _part(values: list[int], first: int, end: int) -> list[int]:
    """Some quarters of a run."""
    size = max(1, len(values) // 4)
    return values[first * size : end * size if end < 4 else None]


def _worker(folder: Path, ledger: Path, bootstrap: str, topic: str) -> subprocess.Popen[bytes]:
    subprocess.run(
        command("init", "--origin", "test.example/soak", "--ledger", str(ledger)),
        check=True, stdout=subprocess.DEVNULL, env=environment(folder), timeout=120,
    )  # fmt: skip
    return subprocess.Popen(
        command("ingest", "kafka", "--bootstrap", bootstrap, "--topic", topic, "--group", topic,
                "--ledger", str(ledger)),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(folder),
    )  # fmt: skip


def _producer(bootstrap: str, topic: str, rate: float, seconds: float) -> subprocess.Popen[bytes]:
    text = "import sys; from tests.reliability.soak import produce; "
    text += "print(produce(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])))"
    return subprocess.Popen(
        [sys.executable, "-c", text, bootstrap, topic, str(rate), str(seconds)],
        stdout=subprocess.PIPE, cwd=CHECKOUT,
    )  # fmt: skip


def _end(worker: subprocess.Popen[bytes], producer: subprocess.Popen[bytes]) -> None:
    producer.kill()
    producer.wait()
    assert producer.stdout is not None
    producer.stdout.close()
    worker.terminate()
    try:
        worker.wait(120)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def _sealed(ledger: Path) -> int:
    try:
        with Ledger.open(str(ledger), remember=False) as opened:
            return sum(position.to for position in opened.state.positions.values())
    except LedgerError:
        return 0


def _message(topic: str, number: int) -> bytes:
    return (
        f'{{"event_id":"{topic}-{number}","kind":"decision","time":"2026-11-23T11:00:00Z",'
        f'"source":"test/pdp","decision":"allow","actor":"user:{number % 997}"}}'
    ).encode()


CAMPAIGN = Campaign(
    "soak", "One worker at 70 % of its peak for 20 minutes: memory, handles, threads stay; lag has a bound.",
    2, 1,
    ("lost", "damaged", "memory grew", "handles grew", "threads grew", "fell behind"), run, may_start,
)  # fmt: skip
