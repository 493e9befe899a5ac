"""Services say how they fare, at the address that is asked for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest
import rfc8785
from prometheus_client import CollectorRegistry, generate_latest

from detections.engine import Engine
from detections.meters import EngineMeters
from detections.rulebook.rule_files import rule_document, shipped_rules
from ingest.meters import IngestMeters
from ledger.config_cli import seal_config
from ledger.errors import OutsideError, UsageError
from ledger.format.manifest import OffsetKey
from ledger.meters import serve_meters
from tests.making import NOON, make_ledger, row, stretch
from tests.unit.test_pipeline import Messages


def _text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_an_engine_counts_runs_rules_and_alerts(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    rules = [rule_document(rule) for rule in shipped_rules() if rule.id == "repeated-denies"]
    seal_config(writer, "rules", rfc8785.dumps(rules))
    denies = [row(n, time=NOON - timedelta(seconds=n + 1), decision="deny", actor="user:a") for n in range(9)]
    one = stretch(denies, 0, OffsetKey("decisions"))
    one.complete = NOON
    writer.commit([one])
    engine = Engine(made.writer(name="engine", remember=False), memory={"threads": 1})
    meters = EngineMeters(engine, None)
    while (run := engine.run()) is not None:
        meters.ran(run, 0.5)
    text = _text(meters.registry)
    engine.close()
    assert 'decision_ledger_detect_alert_steps_total{outcome="fired",rule="repeated-denies"} 1.0' in text
    assert 'decision_ledger_detect_rule_seconds_count{rule="repeated-denies"}' in text
    assert "decision_ledger_detect_settle_lag_seconds 0.0" in text


def test_a_worker_counts_what_it_sealed_and_how_far_it_is_behind(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    source = Messages([b"{}"] * 5)
    meters = IngestMeters(source)
    (entry,) = made.writer().commit([stretch([row(1), row(2)])]).entries
    meters.committed(entry, 0.25)
    text = _text(meters.registry)
    assert "decision_ledger_ingest_events_total 2.0" in text
    assert 'decision_ledger_ingest_messages_total{status="accepted"} 2.0' in text
    assert "decision_ledger_ingest_lag_messages 5.0" in text
    assert "decision_ledger_ingest_commit_seconds_sum 0.25" in text


def test_figures_are_served_until_the_service_ends() -> None:
    port, stop = serve_meters("127.0.0.1:0", CollectorRegistry())
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(OutsideError, match="Nothing can listen"):
        serve_meters(f"127.0.0.1:{port}", CollectorRegistry())
    stop()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


@pytest.mark.parametrize("listen", ["9464", "host:", "host:port", "host:99999"])
def test_what_is_no_address_is_refused(listen: str) -> None:
    with pytest.raises(UsageError):
        serve_meters(listen, CollectorRegistry())
