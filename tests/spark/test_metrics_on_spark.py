"""The eight metrics are the same figures on Spark, merged and partly counted files included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import decision_ledger
from detections.configs.models import parse_config
from detections.configs.timeline import Timeline
from detections.metric_catalogue import METRICS
from detections.metrics.figures import Choice, figures
from detections.metrics.on_spark import SparkQuery
from detections.metrics.span import chosen_periods
from issuer.scenarios.catalogue import play
from ledger.console import run
from ledger.reader import Ledger
from tests.making import Made, make_ledger, stretch

DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Days with one of each incident, sealed bit by bit and merged in between."""
    made = make_ledger(tmp_path_factory.mktemp("spark"))
    events = play("company-week", 7, start=DAY - timedelta(days=6)).events
    writer = made.writer()
    sent = 0
    for begin in range(0, len(events), 4_000):
        rows = []
        for event in events[begin : begin + 4_000]:
            row: dict[str, Any] = {**event, "retention": "standard"}
            for name, value in event.items():
                if name == "time" or name.endswith("_at"):
                    row[name] = datetime.fromisoformat(value)
                elif name == "attributes":
                    row[name] = "{}"
            rows.append(row)
        made.clock.now = max(made.clock.now, rows[-1]["time"])
        writer.commit([stretch(rows, sent)])
        sent += len(rows)
    assert run(decision_ledger.app, ["compact", "--ledger", str(made.folder)]) == 0
    return made


def test_every_figure_is_the_same(spark: Any, made: Made) -> None:
    timeline = Timeline()
    timeline.set("tiers", parse_config("tiers", {"ticket:read": "high"}))
    with Ledger.open(str(made.folder), remember=False) as ledger:
        size = ledger.size
        # Before the last two entries: files that were merged since count in part.
        for at, metrics in ((None, METRICS), (size - 2, METRICS[:1])):
            ask = SparkQuery(spark, ledger, at).trusted
            choice = Choice(by="day", group="tenant")
            periods = chosen_periods(ledger, choice, None, None, 5)
            here = figures(ledger, periods, choice, timeline=timeline, at=at, metrics=metrics)
            there = figures(ledger, periods, choice, timeline=timeline, at=at, metrics=metrics, ask=ask)
            assert [one.as_json() for one in there] == [one.as_json() for one in here]
            assert sum(one.sample > 0 for one in here) > 10
