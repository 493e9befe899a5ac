"""What the dashboard's pages cost over ten million events: first data, and the answer to a filter.

Server side: each question of a page through the very pool and scope that pages use. Cold is the first time
in a new pool, warm another filter over the same pool; nothing is answered from what was kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dashboard.access import Viewer, local_viewer
from dashboard.answers import (
    activity,
    alerts,
    decisions,
    identity,
    integrity,
    overview,
    reviews,
    search,
    traces,
)
from dashboard.answers.filters import Filters
from dashboard.pool import Pool
from dashboard.statements import Statements
from detections.day_keeping import DayKeeping
from detections.metrics.kept_days import IN_LEDGER
from ledger.query.engine import QueryLimits
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from tests.benchmarks.conftest import Record
from tests.benchmarks.test_detections import History
from tests.making import make_ledger

DAYS = int(os.environ.get("DECISION_LEDGER_BENCH_DAYS", "70"))
"""About ten million events."""
MILLIONS = round(DAYS * 0.140948, 1)
RUNS = 3


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of many days of a company, compacted, followed by an engine.

    Made anew, or found where DECISION_LEDGER_BENCH_FOLDER says that big ledgers are kept between runs.
    """
    kept = os.environ.get("DECISION_LEDGER_BENCH_FOLDER")
    place = Path(kept) / f"days-{DAYS}" if kept else tmp_path_factory.mktemp("pages")
    if not (place / "whole").exists():
        place.mkdir(parents=True, exist_ok=True)
        history = History(make_ledger(place))
        for number in range(DAYS):
            for rows in history.following(number):
                history.commit(rows)
        Compaction(history.made.writer(name="compact", remember=False)).run(fan_in=2)
        (place / "whole").touch()
    return place / "ledger"


def test_days_are_kept_beside_judging(grown: Path, record: Record) -> None:
    for path in (grown / IN_LEDGER).glob("*"):
        path.unlink()
    taken = []
    keeping = DayKeeping(LocalStore(grown), lambda: datetime.now(UTC))
    begun = time.perf_counter()
    while keeping.step(1):
        taken.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    record(f"days_kept_{MILLIONS}M", [sum(taken)], "s", None)
    record(f"days_kept_longest_step_{MILLIONS}M", [max(taken)], "s", None)


@pytest.fixture(params=["all tenants", "one tenant"])
def viewer(request: pytest.FixtureRequest) -> Viewer:
    if request.param == "all tenants":
        return local_viewer()
    return Viewer("i#x", frozenset({"admin"}), frozenset({"acme"}))


def _asked(statements: Statements, viewer: Viewer, question: Any, *args: Any) -> tuple[float, Any]:
    at = statements.pool.newest().size
    begun = time.perf_counter()
    found = statements.answer(viewer, at, question, *args)
    return time.perf_counter() - begun, found


def _questions(one: Statements, viewer: Viewer) -> dict[str, tuple[Any, tuple[Any, ...], float | None]]:
    """By name: a question of a page, what it is asked with, and in how many seconds it should be answered."""
    _, seen = _asked(one, viewer, activity.activity)
    _, page = _asked(one, viewer, decisions.rows, Filters())
    (some,) = page.slice(0, 1).to_pylist()
    deny = Filters(equal=(("decision", "deny"),))
    agent = Filters(equal=(("delegated_actor", some["delegated_actor"] or "agent:x"),))
    return {
        "counts over time": (activity.activity, (), 1.5),
        "overview standing": (overview.standing, (Filters(),), 1.5),
        "overview activations": (overview.activations, (Filters(),), 2.5),
        "metrics": (overview.metric_weeks, (Filters(), seen.last), 2.5),
        "rows": (decisions.rows, (Filters(),), 1.5),
        "rows denied": (decisions.rows, (deny,), 0.7),
        "rows of an agent": (decisions.rows, (agent,), 0.7),
        "facets": (decisions.facets, (Filters(),), 1.5),
        "facets denied": (decisions.facets, (deny,), 0.7),
        "wide facets": (decisions.facets, (Filters(), decisions.WIDE_FACETS), 2.5),
        "alerts": (alerts.queue, (), 1.5),
        "trace": (traces.trace, (some["trace_id"],), 1.5),
        "identities": (identity.identities, (), 1.5),
        "identity map": (identity.edges, (), 2.5),
        "reviews": (reviews.review_state, (), 1.5),
        "completeness": (integrity.completeness, (), 1.5),
        "search id": (search.search, (some["event_id"],), 1.5),
        "search name": (search.search, (some["actor"],), 1.5),
    }


def test_pages_over_ten_million_events(grown: Path, viewer: Viewer, record: Record) -> None:
    scope = "all" if viewer.tenants is None else "one_tenant"

    def statements() -> Statements:
        return Statements(Pool(str(grown), limits=QueryLimits()))

    one = statements()
    questions = _questions(one, viewer)
    one.close()
    for name, (question, args, target) in questions.items():
        colds, warms = _times(statements, viewer, question, args)
        for word, values in (("cold", colds), ("warm", warms)):
            record(f"pages_{name.replace(' ', '_')}_{scope}_{word}_{MILLIONS}M", values, "s", target)


def test_ten_people_at_once(grown: Path, record: Record) -> None:
    """Each looks at the overview, then filters decisions, with nothing kept of what others asked."""
    people = [Viewer(f"i#{k}", frozenset({"admin"}), None) for k in range(10)]
    one = Statements(Pool(str(grown), limits=QueryLimits()))
    names = ("counts over time", "overview standing", "rows denied", "facets denied")
    questions = _questions(one, people[0])
    at = one.pool.newest().size

    def work(person: Viewer) -> list[float]:
        taken = []
        for name in names:
            question, args, _ = questions[name]
            begun = time.perf_counter()
            one.ask(person, at, question, *args).future.result()
            taken.append(time.perf_counter() - begun)
        return taken

    with ThreadPoolExecutor(len(people)) as pool:
        found = list(pool.map(work, people))
    one.close()
    for nth, name in enumerate(names):
        values = [taken[nth] for taken in found]
        record(f"pages_{name.replace(' ', '_')}_ten_people_{MILLIONS}M", values, "s", None)


def _times(
    statements: Callable[[], Statements], viewer: Viewer, question: Any, args: tuple[Any, ...]
) -> tuple[list[float], list[float]]:
    colds, warms = [], []
    for _ in range(RUNS):
        one = statements()
        one.pool.newest()  # the log is read when the process starts
        colds.append(_asked(one, viewer, question, *args)[0])
        warms.append(_asked(one, viewer, question, *args)[0])
        one.close()
    return colds, warms
