"""On real logs no rule fails, and what fires is explained (docs/detections.md, "On real logs")."""

from __future__ import annotations

from pathlib import Path

import pytest

import decision_ledger
from detections.backtest import backtest
from ledger.console import run
from ledger.reader import Ledger

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real logs are not part of the repository")
@pytest.mark.parametrize("name", ["opa_decision_log.jsonl", "opa_decision_log_asreceived.jsonl"])
def test_opa_as_it_really_logs(name: str, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    assert run(decision_ledger.app, ["init", "--origin", "samples.example/opa", "--ledger", ledger]) == 0
    line = ["ingest", "file", str(SAMPLES / name), "--format", "opa", "--ledger", ledger]
    assert run(decision_ledger.app, line) == 0
    with Ledger.open(ledger, remember=False) as opened:
        alerts = backtest(opened, None)  # raises where a rule fails
        for alert in alerts:
            assert alert["rule_id"] == "repeated-denies"
            refs = ", ".join(f"'{ref}'" for ref in alert["evidence"])
            (found,) = opened.sql(
                "SELECT count(*) FILTER (decision = 'deny') AS denies, count(*) AS n,"
                " date_diff('second', min(time), max(time)) AS seconds FROM decisions"
                f" WHERE source || '#' || event_id IN ({refs})"
            ).to_pylist()
            assert found["denies"] == found["n"] == alert["count"] >= 8
            assert found["seconds"] < 60
    assert len(alerts) == 2
