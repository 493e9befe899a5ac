"""What the dashboard's pages cost over ten million events: first data, and the answer to a filter.

Server side: each question of a page through the very pool and scope that pages use. Cold is the first time
in a new pool, warm another filter over the same pool; nothing is answered from what was kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
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
from ledger.query.engine import QueryLimits
from ledger.upkeep.compaction import Compaction
from tests.benchmarks.conftest import Record
from tests.benchmarks.test_detections import History
from tests.making import make_ledger

DAYS = int(os.environ.get("DECISION_LEDGER_BENCH_DAYS", "70"))
"""About ten million events."""
RUNS = 3


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Seventy days of a company, compacted."""
    history = History(make_ledger(tmp_path_factory.mktemp("pages")))
    for number in range(DAYS):
        for rows in history.following(number):
            history.commit(rows)
    Compaction(history.made.writer(name="compact", remember=False)).run(fan_in=2)
    return history


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


def test_pages_over_ten_million_events(grown: History, viewer: Viewer, record: Record) -> None:
    millions = round(grown.sealed / 1e6, 1)
    scope = "all" if viewer.tenants is None else "one tenant"

    def statements() -> Statements:
        return Statements(Pool(str(grown.made.folder), limits=QueryLimits()))

    one = statements()
    _, seen = _asked(one, viewer, activity.activity)
    _, page = _asked(one, viewer, decisions.rows, Filters())
    (some,) = page.slice(0, 1).to_pylist()
    deny = Filters(equal=(("decision", "deny"),))
    agent = Filters(equal=(("delegated_actor", some["delegated_actor"] or "agent:x"),))
    questions: dict[str, tuple[Any, tuple[Any, ...], float | None]] = {
        "counts over time": (activity.activity, (), 1.5),
        "overview standing": (overview.standing, (Filters(),), 1.5),
        "metrics": (overview.metric_weeks, (Filters(), seen.last), 2.5),
        "rows": (decisions.rows, (Filters(),), 0.7),
        "rows denied": (decisions.rows, (deny,), 0.7),
        "rows of an agent": (decisions.rows, (agent,), 0.7),
        "facets": (decisions.facets, (Filters(),), 0.7),
        "facets denied": (decisions.facets, (deny,), 0.7),
        "wide facets": (decisions.facets, (Filters(), decisions.WIDE_FACETS), 2.5),
        "alerts": (alerts.queue, (), 1.5),
        "trace": (traces.trace, (some["trace_id"],), 1.5),
        "identities": (identity.identities, (), 1.5),
        "identity map": (identity.edges, (), 2.5),
        "reviews": (reviews.review_state, (), 1.5),
        "completeness": (integrity.completeness, (), 1.5),
        "search": (search.search, (some["event_id"],), 1.5),
    }
    one.close()
    for name, (question, args, target) in questions.items():
        colds, warms = _times(statements, viewer, question, args)
        record(
            f"pages_{name.replace(' ', '_')}_{scope.replace(' ', '_')}_cold_{millions}M", colds, "s", target
        )
        record(
            f"pages_{name.replace(' ', '_')}_{scope.replace(' ', '_')}_warm_{millions}M", warms, "s", target
        )


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
