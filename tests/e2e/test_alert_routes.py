"""Alerts leave by a real topic and a real webhook, sent by the command itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kafka import KafkaConsumer

import decision_ledger
from ledger.console import run
from tests.broker.topics import Topics
from tests.making import make_ledger, row, stretch
from tests.unit.test_delivery import SECRET, Receiver


def test_alerts_are_written_to_a_topic_and_posted(
    tmp_path: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    made = make_ledger(tmp_path)
    receiver = Receiver()
    topic = topics.create(1)
    (tmp_path / "secret").write_bytes(SECRET)
    routes = tmp_path / "routes.yml"
    routes.write_text(
        "routes:\n"
        f"  - {{name: topic, kind: kafka, bootstrap: '{kafka_bootstrap}', topic: {topic}, form: ocsf}}\n"
        f"  - {{name: hook, kind: webhook, url: '{receiver.url}', secret_file: '{tmp_path / 'secret'}'}}\n"
    )
    line = ["detect", "run", "--once", "--ledger", str(made.folder), "--key", str(made.key.path),
            "--routes", str(routes)]  # fmt: skip
    try:
        assert run(decision_ledger.app, line) == 0  # the routes begin here
        now = datetime.now(UTC)
        made.clock.now = now
        denies = [row(n, time=now - timedelta(seconds=n), decision="deny", delegated_actor="agent:a",
                      action="a", resource="r") for n in range(9)]  # fmt: skip
        made.writer().commit([stretch(denies)])
        assert run(decision_ledger.app, line) == 0
    finally:
        receiver.close()
    posted = [one for one in receiver.bodies if one["rule_id"] == "repeated-denies"]
    assert [one["alert_key"] for one in posted] == ['["agent:a"]']
    consumer = KafkaConsumer(
        topic, bootstrap_servers=kafka_bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=5_000
    )
    records = [*consumer]
    consumer.close()
    found = {json.loads(record.value)["finding_info"]["uid"]: record for record in records}
    record = found[posted[0]["alert_id"]]
    assert record.key.decode() == posted[0]["alert_id"]
    assert dict(record.headers)["idempotency-key"] == posted[0]["event_id"].encode()
