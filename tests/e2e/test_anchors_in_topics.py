"""Heads in a topic of a real Kafka, published by an intake beside its work, and held against the ledger."""

from __future__ import annotations

import json
from pathlib import Path

from ledger.anchoring.anchors import check, publish
from ledger.anchoring.places import open_place
from ledger.log.commit_log import open_log
from ledger.storage.local_store import LocalStore
from tests.broker.topics import Topics
from tests.making import make_ledger, row, stretch
from tests.services import run


def test_an_intake_publishes_to_a_topic(tmp_path: Path, kafka_bootstrap: str, topics: Topics) -> None:
    events, heads = topics.create(), topics.create()
    told = {"kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s", "decision": "deny"}
    sent = [json.dumps({"event_id": f"e{n}", **told}).encode() for n in range(20)]
    topics.fill(events, sent)
    place, ledger = f"kafka://{kafka_bootstrap}/{heads}", tmp_path / "ledger"
    run("init", "--origin", "test.example/anchored", "--ledger", ledger)
    source = ["--bootstrap", kafka_bootstrap, "--topic", events, "--until-end"]
    run("ingest", "kafka", *source, "--anchor", place, "--ledger", ledger)
    (found,) = json.loads(run("anchor", "check", place, "--ledger", ledger, "--json"))["places"]
    size = open_log(LocalStore(ledger)).head.size
    assert (found["newest"], found["wrong"]) == (size, [])


def test_the_same_head_again_and_what_is_no_head_of_ours(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(0)])])
    log = open_log(made.store)
    place = open_place(f"kafka://{kafka_bootstrap}/{topics.create()}")
    for _ in range(2):
        assert not publish(log.note, [place])
    assert (check(place, log).heads, check(place, log).wrong) == (1, [])
    place.put("9.checkpoint", b"nothing of ours")
    place.put("no name of a head", log.note)
    assert len(check(place, log).wrong) == 1


def test_a_broker_that_is_away_is_told(tmp_path: Path) -> None:
    # In a process of its own: kafka-python leaves the sockets of a failed producer to the garbage collector.
    made = make_ledger(tmp_path)
    place, client = "kafka://127.0.0.1:1/heads", tmp_path / "client.toml"
    client.write_text("bootstrap_timeout_ms = 500\nmax_block_ms = 500\n")
    told = json.loads(
        run("anchor", "publish", place, "--client-config", client, "--ledger", made.folder, "--json", code=3)
    )
    assert "cannot be reached" in told["failures"][place]
