"""Days that an engine works out for those who look: no other answer than from rows, nobody else's rows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from dashboard.access import Viewer, local_viewer
from dashboard.answers import activity, integrity, overview
from dashboard.answers.filters import Filters
from dashboard.day_memory import DayMemory
from dashboard.pool import Pool
from dashboard.statements import Statements
from detections.access_review import stale_permissions
from detections.day_answers import answers_of
from detections.day_keeping import EVERY, DayKeeping
from detections.following import Following
from detections.metrics.by_day import ACTIVITY, STATEMENTS, Answers
from detections.metrics.figures import settings_of
from detections.metrics.gaps import Gaps
from detections.metrics.kept_days import IN_LEDGER, ledger_days
from detections.sealed_log import SealedLog
from ledger.format.manifest import OffsetKey
from ledger.query.engine import Query
from ledger.reader import Ledger
from tests.making import NOON, Made, make_ledger, row, stretch

ACME = Viewer("i#ann", frozenset({"analyst"}), frozenset({"acme"}))


def _happened(number: int, **more: Any) -> dict[str, Any]:
    return row(number, **{"time": NOON - timedelta(hours=7 * number), "tenant": "acme", **more})


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    rows = [
        *(_happened(k, kind="action", decision=None, delegated_actor="agent:a") for k in range(4)),
        _happened(4, decision="deny", tenant="beta", resource_tenant="acme"),
        _happened(5, tenant=None),
        _happened(6, kind="signal", decision=None, target="agent:a", reason="session-revoked", tenant="beta"),
        _happened(7, decision="deny", exercise="drill"),
    ]  # fmt: skip
    made.writer().commit([stretch(rows)])
    return made


def _kept(made: Made) -> DayKeeping:
    keeping = DayKeeping(made.store, made.clock)
    size = made.writer().state.size
    while keeping.step(size):
        pass
    return keeping


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements over rows of the ledger."""
    found: list[str] = []
    trusted = Query.trusted

    def counted(query: Query, text: str, params: Any = None) -> Any:
        found.append(text)
        return trusted(query, text, params)

    monkeypatch.setattr(Query, "trusted", counted)
    return found


def _answers(made: Made, name: str, *, from_files: bool) -> list[dict[str, Any]]:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        settings = settings_of(SealedLog.of(ledger).timeline(ledger.size))
        kept = ledger_days(made.store) if from_files else None
        found = Answers(ledger, None, settings, kept=kept).items(name)
    return sorted(found, key=str)


def test_what_an_engine_kept_is_what_the_rows_say(made: Made, asked: list[str]) -> None:
    _kept(made)
    counted = {name: _answers(made, name, from_files=False) for name in STATEMENTS}
    asked.clear()
    assert counted == {name: _answers(made, name, from_files=True) for name in STATEMENTS}
    assert asked == []
    assert counted[ACTIVITY]


def test_it_is_brought_up_to_date_once_a_minute_and_only_the_days_that_changed(
    made: Made, asked: list[str]
) -> None:
    keeping = _kept(made)
    asked.clear()
    made.writer().commit([stretch([row(90, tenant="acme")], 0, OffsetKey("file:more"))])
    assert not keeping.step(3)
    made.clock.advance(EVERY.total_seconds())
    assert keeping.step(3)
    assert asked
    assert all(f"DATE '{NOON.date()}'" in text for text in asked)
    while keeping.step(3):
        pass
    assert _answers(made, ACTIVITY, from_files=True) == _answers(made, ACTIVITY, from_files=False)
    made.clock.advance(EVERY.total_seconds())
    assert not keeping.step(3)  # nothing new


def test_an_engine_that_is_run_once_leaves_them_and_the_ledger_verifies(made: Made, tmp_path: Path) -> None:
    following = Following(made.writer(name="detections"), tmp_path / "ways")
    following.until(threading.Event(), lambda _: None, once=True)
    following.close()
    days = sorted(path.name for path in (made.folder / IN_LEDGER).glob("*.arrow"))
    assert days[-1] == f"{NOON.date()}.arrow"
    with Ledger.open(str(made.folder), remember=False) as ledger:
        assert ledger.verify().ok


def test_a_folder_that_cannot_be_written_ends_no_engine(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    (made.folder / "cache").write_text("no folder")
    _kept(made)
    assert _answers(made, ACTIVITY, from_files=True) == _answers(made, ACTIVITY, from_files=False)


def _damaged(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _other_shape(data: bytes) -> bytes:
    """The right keys with rows of another shape, as someone may write who can write there."""
    table = pa.ipc.open_file(data).read_all()
    sink = pa.BufferOutputStream()
    odd = pa.table({"date": [1], "n": ["many"]})
    with pa.ipc.new_stream(sink, odd.schema) as writer:
        writer.write_table(odd)
    rows = pa.array([sink.getvalue().to_pybytes()] * len(table), pa.large_binary())
    table = table.set_column(2, "rows", rows)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("change", [_damaged, _other_shape])
def test_a_file_that_makes_no_sense_is_worked_out_anew(made: Made, change: Any) -> None:
    _kept(made)
    for path in sorted((made.folder / IN_LEDGER).glob("*.arrow"))[:1]:
        path.write_bytes(change(path.read_bytes()))
    for name in STATEMENTS:
        assert _answers(made, name, from_files=True) == _answers(made, name, from_files=False)


def test_days_that_are_gone_from_the_ledger_go(made: Made) -> None:
    _kept(made)
    old = made.folder / IN_LEDGER / "2019-01-01.arrow"
    old.write_bytes(b"x")
    made.writer().commit([stretch([row(90)], 0, OffsetKey("file:more"))])
    _kept(made)
    assert not old.exists()


@pytest.fixture
def statements(made: Made) -> Iterator[Statements]:
    one = Statements(Pool(str(made.folder)))
    yield one
    one.close()


def _ask(statements: Statements, viewer: Viewer, question: Any, *args: Any) -> Any:
    return statements.answer(viewer, statements.pool.newest().size, question, *args)


@pytest.mark.parametrize("viewer", [local_viewer(), ACME], ids=["all tenants", "one tenant"])
def test_the_counts_of_a_page_are_those_of_the_statement_it_shows(
    made: Made, statements: Statements, viewer: Viewer, asked: list[str]
) -> None:
    _kept(made)
    asked.clear()
    found = _ask(statements, viewer, activity.activity)
    assert [text for text in asked if "count(" in text] == []
    with statements.pool.reading(statements.pool.newest().size, viewer.tenants) as ledger:
        shown = pl.DataFrame(ledger.query(ledger.size).trusted(activity.sql_of_activity()))
    order = ["slot", "tenant", "source", "kind", "decision"]
    assert found.counts.sort(order).rows() == shown.select(found.counts.columns).sort(order).rows()
    assert found.events == shown["n"].sum()
    assert {*found.counts["tenant"]} == ({"acme"} if viewer.tenants else {"acme", "beta", None})


def test_metrics_of_some_tenants_are_worked_out_from_their_rows_alone_and_once(
    made: Made, statements: Statements, asked: list[str]
) -> None:
    _kept(made)
    newest = datetime(2026, 11, 23, tzinfo=UTC)
    everyone = _ask(statements, local_viewer(), overview.metric_weeks, Filters(), newest)
    asked.clear()
    own = _ask(statements, ACME, overview.metric_weeks, Filters(), newest)
    assert asked
    asked.clear()
    assert own == _ask(statements, ACME, overview.metric_weeks, Filters(), newest)
    assert asked == []
    revocations = [[one["sample"] for one in found if one["metric"] == "revocation-effectiveness-time"]
                   for found in (own, everyone)]  # fmt: skip
    assert revocations[0] == [0]  # the signal came from another tenant


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    rows = pa.table({"n": list(range(100))})
    memory = DayMemory(max_bytes=2 * rows.nbytes)
    days = [NOON.date() - timedelta(days=k) for k in range(3)]
    for day in days[:2]:
        memory.put(None, "x", day, ("k", rows))
    assert memory.get(None, "x", days[0], "k") is not None
    memory.put(None, "x", days[2], ("k", rows))
    assert [memory.get(None, "x", day, "k") is not None for day in days] == [True, False, True]
    assert memory.get(frozenset({"acme"}), "x", days[0], "k") is None
    assert memory.get(None, "x", days[0], "other") is None
    memory.clear()
    assert memory.get(None, "x", days[0], "k") is None


def test_numbers_that_were_not_seen_are_counted_over_days_however_they_came(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    numbers = [1, 2, 3, 7, 8, 3, 12, 20, 21, 9]
    rows = [
        _happened(k, sequence=number, instance="one", source="numbered") for k, number in enumerate(numbers)
    ]
    rows += [_happened(50 + k, sequence=5 + k, instance="two", source="numbered") for k in range(3)]
    rows += [_happened(70, source="silent")]
    made.writer().commit([stretch(rows)])
    one = Statements(Pool(str(made.folder)))
    try:
        found = _ask(one, local_viewer(), integrity.completeness)["sources"]
        for_some = _ask(one, ACME, integrity.completeness)["sources"]
    finally:
        one.close()
    with Ledger.open(str(made.folder), remember=False) as ledger:
        gaps = Gaps(answers_of(ledger, None)).between()
        assert {name: gap.provable for name, gap in gaps.items() if gap.provable is not None} == {
            "numbered": 12
        }
    assert [(row["source"], row["missing"], row["events"]) for row in found] == [
        ("numbered", 12, 13), ("silent", None, 1),
    ]  # fmt: skip
    # The numbers run across tenants: of some of them nothing can be said.
    assert [(row["missing"], row["provable"]) for row in for_some] == [
        (None, "for those who see all tenants"), (None, "no numbers in its events"),
    ]  # fmt: skip


def test_unused_permissions_are_those_that_no_need_of_an_action_fell_under(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    long_ago = NOON - timedelta(days=100)
    agent = {"kind": "action", "decision": None, "delegated_actor": "agent:a"}
    held = ["invoice:*", "ticket:read", "payment:post"]
    rows = [
        row(0, time=long_ago, scopes=held, required_scopes=["payment:post"], **agent),
        row(1, scopes=held, required_scopes=["invoice:read"], **agent),
        row(2, scopes=["crm:read"], **{**agent, "delegated_actor": "agent:new"}),
        row(3, time=long_ago, scopes=["old:read"], **agent),
    ]
    made.writer().commit([stretch(rows)])
    with Ledger.open(str(made.folder), remember=False) as ledger:
        found = stale_permissions(ledger, NOON)
    assert [(one["principal"], one["scope"], one["last_used"]) for one in found] == [
        ("agent:a", "payment:post", long_ago), ("agent:a", "ticket:read", None),
    ]  # fmt: skip
