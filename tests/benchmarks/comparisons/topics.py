"""A prefilled topic of Kafka: sealed by us, against a bare poll loop and Spark that writes plain Parquet."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer

from tests.benchmarks import workload
from tests.benchmarks.comparisons.comparison import Comparison, Sides
from tests.benchmarks.comparisons.processes import SEED, new_ledger, script, seconds
from tests.broker.broker import Restartable
from tests.broker.jars import BrokerUnavailable, fetch, java_command
from tests.broker.topics import Topics
from tests.services import command

BOOTSTRAP: Final = "BENCH_BOOTSTRAP"
FLUSHED_EVERY: Final = 20_000
POLL: Final = """
import sys
from kafka import KafkaConsumer, TopicPartition
consumer = KafkaConsumer(bootstrap_servers=sys.argv[1], auto_offset_reset="earliest")
consumer.assign([TopicPartition(sys.argv[2], one) for one in range(4)])
left = int(sys.argv[3])
while left > 0:
    left -= sum(map(len, consumer.poll(timeout_ms=1000, max_records=50_000).values()))
"""
SPARK_POM: Final = Path(__file__).with_name("spark-pom.xml")
NOT_OF_SPARK: Final = (
    "spark-sql-kafka-*",
    "spark-token-provider-kafka-*",
    "kafka-clients-*",
    "commons-pool2-*",
)
"""What of the pom's jars does not come with pyspark."""


@contextmanager
def broker_of(folder: Path) -> Iterator[str]:
    """The address of a broker: that of $BENCH_BOOTSTRAP, or one that is started and lies in `folder`."""
    if given := os.environ.get(BOOTSTRAP):
        yield given
        return
    place = folder / "broker"
    place.mkdir()
    broker = Restartable(place)
    try:
        yield broker.bootstrap
    finally:
        broker.stop()
        shutil.rmtree(place)


@contextmanager
def filled(count: int, folder: Path) -> Iterator[tuple[str, str]]:
    """A broker and a topic of lz4 batches with `count` events; its address and the topic."""
    with broker_of(folder) as bootstrap, Topics(bootstrap) as topics:
        topic = topics.create(workload.PARTITIONS)
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, compression_type="lz4", linger_ms=50, batch_size=1 << 18, acks=1
        )
        for number, line in enumerate(workload.each_line(count, SEED)):
            producer.send(topic, line, partition=number % workload.PARTITIONS)
            if number % FLUSHED_EVERY == 0:
                producer.flush()
        producer.close()
        yield bootstrap, topic


def sealing(bootstrap: str, topic: str, group: str, ledger: Path, *more: str) -> list[str]:
    """The command of one worker of a group."""
    return command(
        "ingest", "kafka", "--bootstrap", bootstrap, "--topic", topic, "--group", group, "--ledger", ledger,
        *more,
    )  # fmt: skip


@dataclass(slots=True)
class _Ours:
    bootstrap: str
    topic: str
    count: int
    folder: Path

    def ours(self) -> float:
        ledger, group = new_ledger(self.folder), f"g-{time.monotonic_ns()}"
        sealed = sealing(self.bootstrap, self.topic, group, ledger, "--until-end")
        return self.count / seconds(sealed, self.folder)


@dataclass(slots=True)
class _Poll(_Ours):
    def peers(self) -> float:
        polling = script(POLL, self.bootstrap, self.topic, str(self.count))
        return self.count / seconds(polling, self.folder)


@dataclass(slots=True)
class _Spark(_Ours):
    session: Any

    def peers(self) -> float:
        """One more run in a session that is warm."""
        place = self.folder / "spark"
        shutil.rmtree(place, ignore_errors=True)
        begun = time.perf_counter()
        lines = (
            self.session.readStream.format("kafka")
            .option("kafka.bootstrap.servers", self.bootstrap)
            .option("subscribe", self.topic)
            .option("startingOffsets", "earliest")
            .load()
        )
        parsed = lines.selectExpr(f"from_json(CAST(value AS STRING), '{_schema()}') AS e").select("e.*")
        query = (
            parsed.writeStream.format("parquet")
            .option("path", str(place / "out"))
            .option("checkpointLocation", str(place / "checkpoint"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        rate = self.count / (time.perf_counter() - begun)
        written = self.session.read.parquet(str(place / "out")).count()
        assert written == self.count, f"Spark wrote {written} of {self.count} events"
        return rate


def _schema() -> str:
    """The workload's fields as Spark names their types: what its user would write."""
    kinds = {str: "STRING", int: "BIGINT", bool: "BOOLEAN", list: "ARRAY<STRING>", dict: "STRING"}
    fields: dict[str, str] = {}
    for event in workload.events(2_000, SEED):
        fields |= {name: kinds[type(value)] for name, value in event.items()}
    return ", ".join(f"`{name}` {kind}" for name, kind in fields.items())


@contextmanager
def with_poll(count: int, folder: Path) -> Iterator[Sides]:
    """kafka-python's own loop, which does nothing with what it gets: what any of its users pays."""
    with filled(count, folder) as (bootstrap, topic):
        yield _Poll(bootstrap, topic, count, folder)


@contextmanager
def with_spark(count: int, folder: Path) -> Iterator[Sides]:
    """Structured Streaming to plain Parquet, no hash, in one session whose first two runs do not count."""
    from pyspark.sql import SparkSession

    with filled(count, folder) as (bootstrap, topic):
        session = (
            SparkSession.builder.master("local[*]")
            .config("spark.jars", _spark_jars())
            .config("spark.driver.memory", "4g")
            .config("spark.sql.shuffle.partitions", "4")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
        try:
            sides = _Spark(bootstrap, topic, count, folder, session)
            for _ in range(2):
                sides.peers()
            yield sides
        finally:
            session.stop()


def _spark_jars() -> str:
    """The connector, comma-separated. Raises BrokerUnavailable."""
    folder = fetch(SPARK_POM, "spark-sql-kafka-*.jar")
    return ",".join(str(jar) for pattern in NOT_OF_SPARK for jar in folder.glob(f"{pattern}.jar"))


@cache
def broker_needs() -> str | None:
    """Why no broker can be started here, or None."""
    try:
        java_command()
        fetch()
    except BrokerUnavailable as reason:
        return str(reason)
    return None


def spark_needs() -> str | None:
    """Why Spark cannot run here, or None."""
    try:
        import pyspark  # noqa: F401 - whether it is there
    except ImportError:
        return "pyspark is not installed (`make bench` fetches it)"
    try:
        _spark_jars()
    except BrokerUnavailable as reason:
        return str(reason)
    return broker_needs()


COMPARISONS: Final = (
    Comparison(
        "ingest_vs_poll", "`ingest kafka` by a bare kafka-python poll loop over the same topic", "events/s",
        "kafka-python poll", 0.5, 1_000_000, 2_000, with_poll, broker_needs,
    ),
    Comparison(
        "ingest_vs_spark", "`ingest kafka` by warm Spark Structured Streaming to plain Parquet", "events/s",
        "Spark, warm", 1.4, 1_000_000, 2_000, with_spark, spark_needs,
    ),
)  # fmt: skip
