"""What detections cost: all rules on a commit of 50,000 events, a cold start, all metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
import rfc8785

from detections.configs.timeline import Timeline
from detections.engine import Engine
from detections.metrics.figures import Choice, figures
from detections.metrics.kept_days import user_days
from detections.metrics.span import chosen_periods
from detections.rulebook.rule_files import rule_document, shipped_rules
from ledger.config_cli import seal_config
from ledger.reader import Ledger
from ledger.sealing.batch import ACCEPTED, Stretch
from tests.benchmarks.conftest import Record
from tests.benchmarks.healthy_days import KEY, batches, day_of, one_day
from tests.making import NOON, Made, make_ledger

TASKS_AN_HOUR = 700.0
DAYS = 14
"""About two million events."""
COMMIT_ROWS = 50_000
RUNS = 5
FIRST_DAY = 14
"""Days from when the scenario begins to when the ledger does."""


class History:
    """A ledger of many days, and the days that follow."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.writer = made.writer(remember=False)
        self.day = day_of(one_day(TASKS_AN_HOUR), FIRST_DAY, 0)
        assert self.day["time"][0].as_py() > NOON
        self.sealed = 0
        seal_config(self.writer, "rules", rfc8785.dumps([rule_document(rule) for rule in shipped_rules()]))

    def following(self, number: int) -> Iterator[pa.Table]:
        """The commits of day `number`."""
        return batches(day_of(self.day, number, self.sealed), COMMIT_ROWS)

    def commit(self, rows: pa.Table) -> None:
        """Seal one batch, read to its source's end."""
        count = len(rows)
        clock = self.made.clock
        clock.now = max(clock.now, rows["time"][-1].as_py() + timedelta(seconds=1))
        stretch = Stretch(
            KEY, self.sealed, self.sealed + count, np.arange(self.sealed, self.sealed + count),
            pa.array([b""] * count, pa.large_binary()), np.full(count, ACCEPTED, np.uint8), rows,
            np.arange(count, dtype=np.int64), complete=clock.now,
        )  # fmt: skip
        self.writer.commit([stretch])
        self.sealed += count


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    history = History(make_ledger(tmp_path_factory.mktemp("history")))
    for number in range(DAYS):
        for rows in history.following(number):
            history.commit(rows)
    return history


def _drain(engine: Engine) -> None:
    while (run := engine.run()) is not None:
        assert not run.troubles


def test_rules_behind_a_history(history: History, record: Record) -> None:
    millions = round(history.sealed / 1e6, 1)
    engine = Engine(history.made.writer(name="engine", remember=False))
    begun = time.perf_counter()
    _drain(engine)
    rate = history.sealed / (time.perf_counter() - begun)
    record("rules_catch_up", [rate], "events/s", None)
    engine.close()
    begun = time.perf_counter()
    engine = Engine(history.made.writer(name="engine", remember=False))
    record(f"rules_cold_start_{millions:g}m_events", [time.perf_counter() - begun], "s", 60 * millions / 10)
    taken = []
    for number in (DAYS, DAYS + 1):
        for rows in history.following(number):
            history.commit(rows)
            begun = time.perf_counter()
            run = engine.run()
            taken.append(time.perf_counter() - begun)
            assert run is not None
            assert not run.troubles
            _drain(engine)
    record(f"rules_commit_50k_behind_{millions:g}m_events", taken[1 : RUNS + 1], "s", 1.0)
    engine.close()


def test_all_metrics(history: History, record: Record) -> None:
    with Ledger.open(str(history.made.folder), remember=False) as ledger:
        periods = chosen_periods(ledger, Choice(), None, None, 8)
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            found = figures(ledger, periods, Choice(), timeline=Timeline())
            taken.append(time.perf_counter() - begun)
        assert any(one.value is not None for one in found)
    millions = round(history.sealed / 1e6, 1)
    record(f"metrics_over_{millions:g}m_events", taken, "s", 6.0 * millions / 10)
    taken = []
    with Ledger.open(str(history.made.folder)) as ledger:
        for _ in range(4):
            begun = time.perf_counter()
            figures(ledger, periods, Choice(), timeline=Timeline(), kept=user_days(ledger))
            taken.append(time.perf_counter() - begun)
    record(f"metrics_from_kept_days_of_{millions:g}m_events", taken[1:], "s", 1.0)
