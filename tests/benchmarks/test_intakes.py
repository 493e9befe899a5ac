"""How fast formats are read, and how fast the HTTP intake answers for what is durable."""

from __future__ import annotations

import copy
import json
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.decoded import Limits
from ledger.reader import Ledger
from tests.benchmarks.conftest import Record
from tests.benchmarks.healthy_days import one_day
from tests.foreign_shapes import SHAPES
from tests.services import process, run

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MESSAGES = 5_000
REPEATS = 3
SENDERS = 4
BATCH = 200
SECONDS = 20
TARGET = 10_000
"""Events a second over HTTP, durable, on two cores; the senders share them."""


def _messages(shape: dict[str, Any], count: int) -> pa.LargeBinaryArray:
    """Messages of a shape with ids of their own, wherever the format keeps them."""
    made = []
    for number in range(count):
        one = copy.deepcopy(shape)
        for name in ("decision_id", "callId", "auditID", "eventID", "request_id", "uid", "id"):
            if name in one:
                one[name] = f"{one[name]}-{number}"
        if isinstance(one.get("request"), dict) and "id" in one["request"]:
            one["request"]["id"] = f"q-{number}"
        made.append(json.dumps(one).encode())
    return pa.array(made, pa.large_binary())


def test_events_a_second_of_each_format(record: Record) -> None:
    found: dict[str, float] = {}
    for name, shape in SHAPES.items():
        values, reader = _messages(shape, MESSAGES), adapter(name)
        rates = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            decoded = reader.decode(values, Limits(), NOW)
            rates.append(len(decoded.events) / (time.perf_counter() - begun))
            assert not decoded.rejected
        record(f"adapter_{name}", rates, "events/s", None)
        found[name] = max(rates)
    print(f"the slowest: {min(found, key=lambda name: found[name])}")


def _events(count: int) -> list[dict[str, Any]]:
    rows = one_day(2.0).to_pylist()
    kept = [
        {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items() if v is not None}
        for row in rows
        if row["kind"] != "heartbeat"
    ]
    for one in kept:
        for name in ("topic", "topic_id", "partition", "record_offset", "part", "event_id", "masked", "raw"):
            one.pop(name, None)
        if "attributes" in one:
            one["attributes"] = json.loads(one["attributes"])
    return [kept[n % len(kept)] for n in range(count)]


def _send(url: str, name: str, until: float, sent: list[int], place: int, bodies: list[list[bytes]]) -> None:
    headers = {"content-type": "application/x-ndjson"}
    label = name.encode()
    with httpx.Client(trust_env=False, timeout=60) as client:
        number = 0
        while time.perf_counter() < until:
            lines = bodies[number % len(bodies)]
            text = b"\n".join(
                b'{"event_id":"%b-%d-%d",%b' % (label, number, n, line) for n, line in enumerate(lines)
            )
            answer = client.post(url, content=text, headers=headers)
            if answer.status_code == 202:
                sent[place] += len(lines)
                number += 1
            else:
                time.sleep(0.05)


@pytest.mark.timeout(0)
def test_events_a_second_over_http(tmp_path: Path, record: Record) -> None:
    ledger = tmp_path / "ledger"
    run("init", "--origin", "bench.example/http", "--ledger", ledger)
    texts = [orjson.dumps(one)[1:] for one in _events(BATCH * 10)]
    bodies = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    durable, sealed = [], []
    for repeat in range(REPEATS):
        with process(
            "ingest", "http", "--listen", "127.0.0.1:0", "--ledger", ledger, ready="Listening on "
        ) as said:
            url = said.split("Listening on ")[1].split()[0]
            before = _sealed(ledger)
            sent = [0] * SENDERS
            begun = time.perf_counter()
            threads = [
                threading.Thread(target=_send, args=(url, f"{repeat}-{n}", begun + SECONDS, sent, n, bodies))
                for n in range(SENDERS)
            ]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            durable.append(sum(sent) / (time.perf_counter() - begun))
            while _sealed(ledger) - before < sum(sent):
                time.sleep(0.1)
            sealed.append(sum(sent) / (time.perf_counter() - begun))
    record("http_durable", durable, "events/s", TARGET)
    record("http_sealed", sealed, "events/s", TARGET)


def _sealed(ledger: Path) -> int:
    with Ledger.open(str(ledger)) as opened:
        count: int = opened.status()["events"]
    return count
