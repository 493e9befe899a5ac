"""How soon an event of a rate-limited producer can be queried, against how soon a bare consumer has it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from kafka import KafkaConsumer, TopicPartition

from ledger.reader import Ledger
from tests.benchmarks.comparisons.comparison import Comparison, Sides
from tests.benchmarks.comparisons.processes import environment, new_ledger
from tests.benchmarks.comparisons.topics import broker_needs, broker_of, sealing
from tests.benchmarks.figures import ROOT
from tests.benchmarks.workload import PARTITIONS
from tests.broker.topics import Topics

LOOK_SECONDS: Final = 0.1
WARM_UP: Final = 0.3
"""The share of the events that does not count: processes start, the group joins, decoding gets processes."""
STEADY_RATE: Final = 5_000
OF_PEAK: Final = 0.7
LONGEST_SECONDS: Final = 600
Upto = Callable[[], list[int]]
"""How far each partition is there."""


@dataclass
class _Freshness:
    bootstrap: str
    topics: Topics
    rate: float
    count: int
    folder: Path

    def ours(self) -> float:
        with self._working() as (topic, queries):
            return self._late(topic, queries.upto)

    def peers(self) -> float:
        topic = self.topics.create(PARTITIONS)
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        consumer.assign([TopicPartition(topic, one) for one in range(PARTITIONS)])
        seen = [0] * PARTITIONS

        def received() -> list[int]:
            for of, batch in consumer.poll(timeout_ms=0, max_records=50_000).items():
                seen[of.partition] = batch[-1].offset + 1
            return list(seen)

        try:
            return self._late(topic, received)
        finally:
            consumer.close()

    def peak(self, count: int) -> float:
        """Events a second that come to a query while events are sent as fast as it goes."""
        with self._working() as (topic, queries), self._sending(topic, count, 0.0) as (sender, _):
            while not (first := sum(queries.upto())):
                time.sleep(LOOK_SECONDS)
            begun = time.monotonic()
            # What comes to a query when nobody sends any more was done with more of the machine.
            while sender.poll() is None:
                time.sleep(LOOK_SECONDS)
            return (sum(queries.upto()) - first) / (time.monotonic() - begun)

    @contextmanager
    def _working(self) -> Iterator[tuple[str, Queries]]:
        """A worker on a new topic, and queries of its new ledger."""
        ledger, topic = new_ledger(self.folder), self.topics.create(PARTITIONS)
        with subprocess.Popen(
            sealing(self.bootstrap, topic, topic, ledger, "--batch-seconds", "0.5"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(self.folder),
        ) as worker:  # fmt: skip
            queries = Queries(ledger)
            try:
                yield topic, queries
            finally:
                queries.close()
                worker.terminate()

    @contextmanager
    def _sending(self, topic: str, count: int, rate: float) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """The process that sends, and where it writes when each event was sent."""
        times = self.folder / "times"
        arguments = [self.bootstrap, topic, str(count), str(rate), str(times)]
        with subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.comparisons.rated_sender", *arguments], cwd=ROOT
        ) as sender:
            try:
                yield sender, times
            except BaseException:
                sender.kill()
                raise
        if sender.returncode:
            raise subprocess.CalledProcessError(sender.returncode, sender.args)

    def _late(self, topic: str, upto: Upto) -> float:
        """The 99th percentile of how late events are there, in seconds."""
        looks: list[tuple[float, list[int]]] = []
        end = time.monotonic() + LONGEST_SECONDS
        with self._sending(topic, self.count, self.rate) as (_, times):
            while not looks or sum(looks[-1][1]) < self.count:
                time.sleep(LOOK_SECONDS)
                there = upto()
                looks.append((time.monotonic(), there))
                if looks[-1][0] > end:
                    raise TimeoutError(f"{sum(there)} of {self.count} events are there")
        sent = np.frombuffer(times.read_bytes())
        late = np.zeros(self.count)
        for partition in range(PARTITIONS):
            own = sent[partition::PARTITIONS]
            first = np.searchsorted(
                [there[partition] for _, there in looks], np.arange(len(own)), side="right"
            )
            late[partition::PARTITIONS] = np.array([when for when, _ in looks])[first] - own
        return float(np.quantile(late[int(self.count * WARM_UP) :], 0.99))


class Queries:
    """Asks a ledger again and again, as a dashboard that stays open does."""

    def __init__(self, folder: Path) -> None:
        self._opened = Ledger.open(str(folder), remember=False)
        self._there = [0] * PARTITIONS

    def upto(self) -> list[int]:
        """How far each partition is there for a query, which is asked where the ledger has grown."""
        if not self._opened.refresh():
            return self._there
        there = [0] * PARTITIONS
        for (_, _, partition), position in self._opened.state.positions.items():
            there[partition] = position.to
        (row,) = self._opened.sql("SELECT count(*) AS n FROM events").to_pylist()
        if row["n"] != sum(there):
            raise AssertionError(f"{row['n']} rows, where the log says {sum(there)}")
        self._there = there
        return there

    def close(self) -> None:
        """Ends it."""
        self._opened.close()


@contextmanager
def _with_broker(count: int, folder: Path) -> Iterator[_Freshness]:
    with broker_of(folder) as bootstrap, Topics(bootstrap) as topics:
        yield _Freshness(bootstrap, topics, STEADY_RATE, count, folder)


@contextmanager
def at_a_steady_rate(count: int, folder: Path) -> Iterator[Sides]:
    """A consumer that does nothing has them as soon as they can be had."""
    with _with_broker(count, folder) as sides:
        yield sides


@contextmanager
def near_the_peak(count: int, folder: Path) -> Iterator[Sides]:
    """At seven tenths of what goes with producer and broker beside it; that peak is taken first."""
    with _with_broker(count, folder) as sides:
        sides.rate = OF_PEAK * sides.peak(count)
        print(f"the rate is {sides.rate:,.0f} events/s")
        yield sides


COMPARISONS: Final = (
    Comparison(
        "fresh_at_5000", "from produced to queryable at 5,000 events/s, 99th percentile", "s",
        "a bare consumer", None, 300_000, 2_000, at_a_steady_rate, broker_needs, less_is_better=True,
        value_target=2.0,
    ),
    Comparison(
        "fresh_near_the_peak", "from produced to queryable at 70 % of the peak, 99th percentile", "s",
        "a bare consumer", None, 1_500_000, 4_000, near_the_peak, broker_needs, less_is_better=True,
        value_target=5.0,
    ),
)  # fmt: skip
