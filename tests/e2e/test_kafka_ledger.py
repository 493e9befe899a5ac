from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import orjson
import pytest

from ledger.errors import LedgerError
from ledger.reader import Ledger
from ledger.storage.stores import open_store
from ledger.verify.verification import verify
from tests.broker.topics import Topics
from tests.making import wire_message
from tests.services import command

EVENTS = {False: 200_000, True: 1_000_000}
KILLS = {False: 5, True: 20}
PARTITIONS = 4
DEADLINE_SECONDS = {False: 400, True: 3_000}


def _worker(folder: Path, bootstrap: str, topic: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(
            "ingest", "kafka", "--bootstrap", bootstrap, "--topic", topic, "--group", topic,
            "--ledger", str(folder), "--batch-rows", "5000",
        ),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _sealed(folder: Path) -> int:
    try:
        with Ledger.open(str(folder)) as ledger:
            return sum(position.to for position in ledger.state.positions.values())
    except LedgerError:
        return 0


@pytest.mark.timeout(0)
def test_two_workers_killed_at_random_seal_every_event_exactly_once(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics, full_scale: bool
) -> None:
    count, kills = EVENTS[full_scale], KILLS[full_scale]
    topic = topics.create(PARTITIONS)
    share = count // PARTITIONS
    for partition in range(PARTITIONS):
        first = partition * share
        topics.fill(
            topic, (wire_message(n) for n in range(first, first + share)), partition=partition, codec="lz4"
        )
    folder = tmp_path / "ledger"
    subprocess.run(
        command("init", "--origin", "test.example/kills", "--ledger", str(folder)),
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    chance = random.Random(17)
    thresholds = sorted(chance.randrange(count // 50, count * 9 // 10) for _ in range(kills))
    workers = [_worker(folder, kafka_bootstrap, topic) for _ in range(2)]
    deadline = time.monotonic() + DEADLINE_SECONDS[full_scale]
    try:
        while (sealed := _sealed(folder)) < count:
            assert time.monotonic() < deadline, f"{sealed} of {count} sealed"
            for at, worker in enumerate(workers):
                assert worker.poll() is None, f"worker {at} ended by itself with {worker.returncode}"
            if thresholds and sealed >= thresholds[0]:
                thresholds.pop(0)
                victim = chance.randrange(2)
                workers[victim].send_signal(signal.SIGKILL)
                workers[victim].wait()
                workers[victim] = _worker(folder, kafka_bootstrap, topic)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        # One that was only just replaced may not have begun to listen for the signal; that is its right.
        assert {worker.wait(timeout=60) for worker in workers} <= {0, -signal.SIGTERM}
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert not thresholds, "every planned kill took place"
    with Ledger.open(str(folder)) as ledger:
        (row,) = ledger.sql("SELECT count(*) AS n, count(DISTINCT event_id) AS d FROM events").to_pylist()
        assert (row["n"], row["d"]) == (count, count)
        assert {p.to for p in ledger.state.positions.values()} == {share}
        key = ledger.state.key
    report = verify(open_store(str(folder)), vkey=key)
    assert report.ok, json.dumps(report.to_json())[:2_000]


def test_topics_of_one_file_have_formats_of_their_own_and_headers_reach_them(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    """Binary CloudEvents, and Cerbos's word for what an entry is; a tombstone is ignored."""
    folder = tmp_path / "ledger"
    subprocess.run(
        command("init", "--origin", "test.example/headers", "--ledger", str(folder)),
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    told = {"ce_specversion": "1.0", "ce_source": "gate", "ce_type": "example.decision",
            "ce_time": "2026-11-23T11:00:00Z", "content-type": "application/json", "other": "x"}  # fmt: skip
    event = orjson.dumps({"decision": "deny", "actor": "user:a"})
    tombstone: bytes | None = None
    sent: dict[str, list[tuple[bytes | None, dict[str, str]]]] = {
        "cloudevents": [(event, {**told, "ce_id": f"c{number}"}) for number in range(3)] + [(tombstone, {})],
        "cerbos": [(b"\x0aprotobuf", {"cerbos.audit.kind": "access"})],
    }
    lines = [f'[kafka]\nbootstrap = "{kafka_bootstrap}"\ngroup = "{tmp_path.name}-{len(sent)}"\n']
    for format_, messages in sent.items():
        topic = topics.create()
        lines.append(f'[[kafka.topic]]\nname = "{topic}"\nformat = "{format_}"\n')
        with topics.producing() as producer:
            for value, headers in messages:
                listed = [(name, text.encode()) for name, text in headers.items()]
                producer.send(topic, key=b"k", value=value, headers=listed, partition=0)
    file = tmp_path / "topics.toml"
    file.write_text("".join(lines))
    done = subprocess.run(
        command(
            "ingest", "kafka", "--topics", str(file), "--ledger", str(folder), "--until-end", "--json"
        ),
        check=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    totals = json.loads(done.stdout)
    assert (totals["rejected"], totals["ignored"], totals["accepted"]) == (0, 2, 3)
    with Ledger.open(str(folder)) as ledger:
        found = ledger.sql("SELECT event_id, kind, source, decision FROM events ORDER BY 1").to_pylist()
    assert [tuple(one.values()) for one in found] == [
        (f"c{number}", "decision", "gate", "deny") for number in range(3)
    ]
