"""How long an alert takes: from the event that completes it, through a real Kafka, to its sealed entry."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from kafka import KafkaProducer

from detections.sealed_log import SealedLog
from ledger.format.manifest import parse_instant
from ledger.reader import Ledger
from tests.benchmarks.conftest import Record
from tests.benchmarks.healthy_days import one_day
from tests.broker.topics import Topics
from tests.services import process, run

RATES = (1_000, 5_000)
"""Events a second. Producer, broker, worker and engine share this machine's cores."""
SECONDS = 60
WARM_UP_SECONDS = 15
"""What happens before is not counted: processes start, the broker fills its caches."""
DENIES = 8
"""What `repeated-denies` asks for."""


def _events(count: int) -> list[dict[str, object]]:
    """Events of a healthy day, each of an agent of its own, without their times and ids."""
    names = ("kind", "source", "tenant", "environment", "actor", "delegated_actor", "action", "resource",
             "decision", "policy_version", "policy_id", "policy_engine", "credential_id", "session_id",
             "outcome", "pep", "impact", "scopes", "required_scopes")  # fmt: skip
    rows = one_day(2.0).select(names).to_pylist()
    kept = [{k: v for k, v in row.items() if v is not None} for row in rows if row["kind"] != "heartbeat"]
    own = ("actor", "delegated_actor", "session_id", "credential_id", "resource")
    return [
        {name: f"{value}-{n}" if name in own else value for name, value in kept[n % len(kept)].items()}
        for n in range(count)
    ]


class _Load(threading.Thread):
    """Sends `rate` events a second, and each second the denies of one new agent among them."""

    def __init__(self, bootstrap: str, topic: str, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap, linger_ms=5, compression_type="lz4", acks=1, batch_size=131_072
        )
        self.topic = topic
        self.completed: dict[str, float] = {}
        self.slow = 0.0

    def run(self) -> None:
        bodies = [orjson.dumps(one)[1:] for one in _events(self.rate)]
        begun = time.time()
        for second in range(SECONDS):
            for tenth in range(10):
                due = begun + second + tenth / 10
                self.slow = max(self.slow, time.time() - due)
                time.sleep(max(0.0, due - time.time()))
                now = datetime.now(UTC).isoformat().encode()
                for n in range(tenth * self.rate // 10, (tenth + 1) * self.rate // 10):
                    head = b'{"event_id":"%d-%d","time":"%b",' % (second, n, now)
                    self.producer.send(self.topic, head + bodies[n])
            self._probe(second)
        self.producer.flush()
        self.producer.close()

    def _probe(self, second: int) -> None:
        agent = f"agent:production/probe-{second}"
        for n in range(DENIES):
            when = time.time()
            event = {
                "event_id": f"probe-{second}-{n}", "kind": "decision", "decision": "deny", "source": "issuer",
                "time": datetime.fromtimestamp(when, UTC).isoformat(), "delegated_actor": agent,
                "action": "ticket:read", "resource": f"ticket:{n}", "tenant": "acme",
            }  # fmt: skip
            self.producer.send(self.topic, orjson.dumps(event))
        self.completed[agent] = when


@pytest.mark.parametrize("rate", RATES)
def test_from_an_event_to_its_sealed_alert(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics, record: Record, rate: int
) -> None:
    folder = tmp_path / "ledger"
    run("init", "--origin", "bench.example/alerts", "--ledger", folder)
    topic = topics.create(4)
    load = _Load(kafka_bootstrap, topic, rate)
    with (
        process("ingest", "kafka", "--bootstrap", kafka_bootstrap, "--topic", topic, "--group", topic,
                "--ledger", folder, "--batch-seconds", "0.5"),
        process("detect", "run", "--ledger", folder),
    ):  # fmt: skip
        load.start()
        load.join()
        end = time.monotonic() + 60
        sealed: dict[str, float] = {}
        while len(sealed) < SECONDS and time.monotonic() < end:
            time.sleep(1)
            sealed = _sealed(folder)
    # Above what the cores can share the producer itself comes late: then the rate was less than it says.
    record(f"alert_latency_producer_late_at_{rate}_events_s", [load.slow], "s", None)
    late = sorted(
        sealed[agent] - when
        for number, (agent, when) in enumerate(load.completed.items())
        if number >= WARM_UP_SECONDS
    )
    assert len(late) == SECONDS - WARM_UP_SECONDS
    record(f"alert_latency_p50_at_{rate}_events_s", [late[len(late) // 2]], "s", None)
    record(f"alert_latency_p99_at_{rate}_events_s", [late[-1]], "s", 3.0)


def _sealed(folder: Path) -> dict[str, float]:
    """When the entry was made in which each probe's alert first stands."""
    found: dict[str, float] = {}
    with Ledger.open(str(folder), remember=False) as ledger:
        log = SealedLog.of(ledger)
        for entry, steps in log.alert_steps(log.parsed(0, ledger.size)):
            for step in steps:
                agent = step.get("delegated_actor") or ""
                if step["rule_id"] == "repeated-denies" and "probe-" in agent and agent not in found:
                    found[agent] = parse_instant(entry.time).timestamp()
    return found
