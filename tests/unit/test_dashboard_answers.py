"""What the dashboard's pages are told: rights first, within the viewer's tenants, over all rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from dashboard.access import ROLES, Forbidden, Right, Viewer, local_viewer
from dashboard.answers import (
    activity,
    alerts,
    blast_radius,
    decisions,
    identity,
    integrity,
    overview,
    reviews,
    search,
    traces,
)
from dashboard.answers.filters import Filters, named_range
from dashboard.pool import MAX_OPEN, Pool
from dashboard.statements import Reading, Statements
from dashboard.verifying import Verifier
from dashboard.wording import ago, change, figure, literal, moment, short_id, size_text
from ledger.console import run, shared
from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.format.manifest import OffsetKey
from ledger.format.state import ENGINE_TOPIC
from tests.making import NOON, Made, make_ledger, row, stretch

TRACE, OTHER_TRACE = "a" * 32, "b" * 32
ACME = Viewer("i#ann", frozenset({"analyst"}), frozenset({"acme"}))


def some(number: int, **more: Any) -> dict[str, Any]:
    time = NOON - timedelta(minutes=number)
    common = {"tenant": "acme", "actor": "user:u", "delegated_actor": "agent:a", "action": "ticket:read"}
    return row(number, **{"time": time, **common, "resource": "ticket:1", "trace_id": TRACE, **more})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_ledger(tmp_path_factory.mktemp("answers"))
    rows = [
        some(0, span_id="1" * 16, kind="issuance", credential_id="c1", scopes=["ticket:*"], audience="tool:t",
             session_expires_at=NOON, expires_at=NOON + timedelta(hours=1), source="broker"),
        some(1, span_id="2" * 16, parent_span_id="1" * 16, decision="deny", reason="scope_missing",
             credential_id="c1"),
        some(2, decision="deny", reason="scope_missing", tenant="beta", trace_id=OTHER_TRACE,
             resource="s3cret"),
        some(3, tenant=None, resource="nobody's s3cret"),
        *(some(10 + k) for k in range(300)),
        some(400, kind="exception", decision=None, exception_id="x1", outcome="opened", owner="user:o",
             expires_at=NOON - timedelta(hours=1), review_due_at=NOON - timedelta(hours=2), reason="r"),
        some(401, kind="delegation", decision=None, grant_id="g1", outcome="opened",
             grant_covers=["tenant:b"], expires_at=NOON + timedelta(days=30), approved_by="user:p"),
        *(some(410 + k, kind="policy", decision=None, policy_id="p", policy_version=f"v{k}", tenant=tenant,
               previous_policy_version=was)
          for k, (tenant, was) in enumerate([("acme", None), ("beta", "s3cret")])),
    ]  # fmt: skip
    made.writer().commit([stretch(rows)])
    alert = row(
        0, event_id=f"{'c' * 32}/e0", kind="alert", source="decision-ledger", decision=None, time=NOON,
        outcome="confirmed", alert_id="c" * 32, rule_id="repeated-denies", rule_version="1", severity="high",
        alert_key='["agent:a"]', window_start=NOON - timedelta(days=1), count=2, tenant="acme",
        first_seen=NOON - timedelta(minutes=2), last_seen=NOON - timedelta(minutes=1),
        evidence=["test/pdp#e1", "test/pdp#e2"],
    )  # fmt: skip
    made.writer().commit([stretch([alert], 0, OffsetKey(ENGINE_TOPIC))])
    return made


@pytest.fixture(scope="module")
def statements(made: Made) -> Iterator[Statements]:
    one = Statements(Pool(str(made.folder)))
    yield one
    one.close()


def asked(statements: Statements, viewer: Viewer, question: Any, *args: Any, **more: Any) -> Any:
    return statements.answer(viewer, statements.pool.newest().size, question, *args, **more)


QUESTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "activity": (activity.activity, ()),
    "metrics": (overview.metric_weeks, (Filters(), NOON)),
    "standing": (overview.standing, (Filters(),)),
    "activations": (overview.activations, (Filters(),)),
    "rows": (decisions.rows, (Filters(),)),
    "facets": (decisions.facets, (Filters(),)),
    "wide facets": (decisions.facets, (Filters(), decisions.WIDE_FACETS)),
    "over time": (decisions.over_time, (Filters(), "1h")),
    "event of another": (decisions.event, ("test/pdp", "e2")),
    "event of nobody": (decisions.event, ("test/pdp", "e3")),
    "queue": (alerts.queue, ()),
    "troubles": (alerts.troubles, ()),
    "alert": (alerts.one_alert, ("c" * 32,)),
    "trace": (traces.trace, (TRACE,)),
    "identities": (identity.identities, ()),
    "edges": (identity.edges, ()),
    "reviews": (reviews.review_state, ()),
    "search": (search.search, ("s3cret",)),
    "head": (integrity.head, ()),
    "completeness": (integrity.completeness, ()),
    "written": (decisions.written, ("SELECT * FROM events",)),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_answer_holds_a_row_of_another_tenant(name: str, statements: Statements) -> None:
    question, args = QUESTIONS[name]
    found = asked(statements, ACME, question, *args)
    said = repr(found.to_pylist() if hasattr(found, "to_pylist") else found)
    if name == "activity":
        said += repr(found.counts.to_dicts())
    assert "s3cret" not in said
    assert "beta" not in said


def test_another_tenants_trace_is_not_there_and_errors_say_nothing_of_it(statements: Statements) -> None:
    with pytest.raises(UsageError) as refused:
        asked(statements, ACME, traces.trace, OTHER_TRACE)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(LedgerError) as wrong:
        asked(statements, ACME, decisions.written, "SELECT CAST(resource AS INTEGER) FROM events")
    assert "s3cret" not in str(wrong.value)
    with pytest.raises(UsageError, match="No sealed event has the id"):
        asked(statements, ACME, decisions.evidence, ("test/pdp#e2",))


NEEDED = {
    "activity": Right.OVERVIEW, "metrics": Right.OVERVIEW, "standing": Right.OVERVIEW,
    "activations": Right.OVERVIEW, "head": Right.OVERVIEW,
    "completeness": Right.INTEGRITY,
}  # fmt: skip


@pytest.mark.parametrize("role", [*ROLES, "stranger"])
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_checks_the_right_to_it(name: str, role: str, statements: Statements) -> None:
    question, args = QUESTIONS[name]
    viewer = Viewer("i#x", frozenset({role}), None)
    if NEEDED.get(name, Right.ROWS) in ROLES.get(role, frozenset()):
        asked(statements, viewer, question, *args)
    else:
        with pytest.raises(Forbidden, match="Your role"):
            asked(statements, viewer, question, *args)


def test_dead_letters_belong_to_those_who_see_all_tenants(statements: Statements) -> None:
    asked(statements, Viewer("i#p", frozenset({"platform"}), None), integrity.dead_letters)
    with pytest.raises(Forbidden):
        asked(statements, Viewer("i#p", frozenset({"platform"}), frozenset({"acme"})), integrity.dead_letters)
    with pytest.raises(Forbidden):
        asked(statements, Viewer("i#a", frozenset({"analyst"}), None), integrity.dead_letters)


def test_pages_of_rows_go_on_by_key_and_facets_count_all(statements: Statements) -> None:
    admin, seen, below = local_viewer(), [], None
    while True:
        found = asked(statements, admin, decisions.rows, Filters(), below).to_pylist()
        seen += [(one["source"], one["event_id"]) for one in found]
        if len(found) < decisions.PAGE:
            break
        last = found[-1]
        below = (last["time"], last["source"], last["event_id"])
    assert len(seen) == len(set(seen)) == 309
    counts = asked(statements, admin, decisions.facets, Filters(equal=(("decision", "deny"),)))
    assert counts[""] == [(None, 2)]
    # The field that is filtered by offers its other values too.
    assert dict(counts["decision"])["allow"] == 302
    assert counts["tenant"] == [("acme", 1), ("beta", 1)]
    assert counts["reason"] == [("scope_missing", 2)]


def test_policies_mark_the_time_that_is_looked_at_whatever_else_is_filtered(statements: Statements) -> None:
    def versions(filters: Filters) -> list[str]:
        return [
            one["policy_version"] for one in asked(statements, local_viewer(), overview.activations, filters)
        ]

    assert versions(Filters(equal=(("decision", "deny"),))) == ["v0", "v1"]
    assert versions(Filters(equal=(("tenant", "beta"),))) == ["v1"]
    assert versions(Filters(since=NOON - timedelta(hours=1))) == []


def test_a_filter_is_bound_and_names_a_column() -> None:
    where, values = Filters(NOON, NOON, (("resource", "x' OR true --"),)).where()
    assert "true" not in where
    assert "x' OR true --" in values
    for column in ('resource" = resource OR "x', "raw", "scopes", ""):
        with pytest.raises(UsageError, match="Nothing can be filtered by"):
            Filters(equal=((column, "x"),)).where()
    assert named_range("24 h", NOON)[0] == NOON - timedelta(days=1)
    assert named_range("all", NOON) == (None, None)


def test_a_trace_as_lanes(statements: Statements) -> None:
    found = asked(statements, ACME, traces.trace, TRACE)
    assert found["decisions"]["deny"] == 1
    assert "was denied ticket:read ticket:1 (scope_missing)" in found["sentence"]
    by_id = {lane["event_id"]: lane for lane in found["lanes"]}
    assert by_id["e1"]["depth"] == by_id["e0"]["depth"] + 1
    assert by_id["e0"]["outlived"]
    assert by_id["e0"]["critical"]
    assert found["pivots"]["credential"] == ["c1"]


def test_search_finds_by_form(statements: Statements) -> None:
    def kinds(text: str, **more: bool) -> list[str]:
        return [hit.kind for hit in asked(statements, local_viewer(), search.search, text, **more)]

    assert kinds(f" {TRACE.upper()} ") == ["trace"]
    assert kinds("credential:c1") == kinds("c1") == ["credential"]
    assert kinds("test/pdp#e1") == ["event"]
    assert kinds("agent:a") == ["agent"]
    assert kinds("ticket") == []
    assert "resource" in kinds("TICKET", parts=True)
    for text in ("", "   ", "x" * 2_000):
        with pytest.raises(UsageError):
            kinds(text)


def test_reviews_and_identities(statements: Statements) -> None:
    state = asked(statements, local_viewer(), reviews.review_state)
    (exception,) = state["exceptions"]
    assert (exception["state"], exception["overdue"]) == ("expired", True)
    (grant,) = state["grants"]
    assert (grant["grant_id"], grant["covers"]) == ("g1", ["tenant:b"])
    found, left_out = identity.narrowed(asked(statements, local_viewer(), identity.edges), None)
    assert {(one.start, one.end) for one in found} == {
        (("person", "user:u"), ("issuer", "broker")), (("issuer", "broker"), ("agent", "agent:a")),
        (("agent", "agent:a"), ("tool", "tool:t")),
    }  # fmt: skip
    assert left_out == {}
    many = [identity.Edge(("person", f"u{k}"), ("agent", "a"), k, dormant=False) for k in range(40)]
    kept, left_out = identity.narrowed(many, None)
    assert (len(kept), left_out) == (identity.TOP, {"person": 40 - identity.TOP})
    assert len(identity.narrowed(many, "u3")[0]) == 1


def test_answers_are_kept_for_one_person_and_one_size(statements: Statements) -> None:
    size = statements.pool.newest().size
    first = statements.ask(ACME, size, activity.activity)
    assert first.wait(60)
    assert statements.kept(ACME, size, activity.activity) is first.future.result()
    for other, at in (
        (Viewer(ACME.user, ACME.roles, None), size), (Viewer("i#bob", ACME.roles, ACME.tenants), size),
        (Viewer(ACME.user, frozenset({"admin"}), ACME.tenants), size), (ACME, size - 1),
    ):  # fmt: skip
        assert statements.kept(other, at, activity.activity) is None


_ENDLESS = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range, b.range) = 1"


def test_a_question_that_nobody_waits_for_ends(statements: Statements) -> None:
    begun = threading.Event()

    def endless(reading: Reading) -> Any:
        begun.set()
        return reading.rows(_ENDLESS)

    one = statements.ask(local_viewer(), statements.pool.newest().size, endless)
    assert begun.wait(60)
    one.stop()
    assert one.wait(60)
    with pytest.raises(LedgerError, match="stopped"):
        one.future.result()


def test_at_most_eight_readings_are_open_and_those_in_use_stay(made: Made) -> None:
    pool = Pool(str(made.folder))
    size = pool.newest().size
    with pool.reading(size, None) as held:
        for number in range(3 * MAX_OPEN):
            with pool.reading(size, frozenset({f"t{number}"})) as one:
                one.query(size)
        assert held.query(size).trusted("SELECT 1").num_rows == 1
    contexts = [pool.reading(size, frozenset({f"u{number}"})) for number in range(MAX_OPEN)]
    for one_context in contexts:
        one_context.__enter__()
    with pytest.raises(OutsideError, match="are being read"), pool.reading(size, frozenset({"more"})):
        pass
    for one_context in contexts:
        one_context.__exit__(None, None, None)
    pool.close()


def test_a_session_reads_on_at_its_size_while_the_ledger_grows_and_is_merged(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    for number in range(3):
        made.writer().commit([stretch([some(number)], number)])
    pool = Pool(str(made.folder), clock=iter(range(0, 10_000, 100)).__next__)
    one = Statements(pool)
    size = pool.newest().size
    assert one.answer(ACME, size, decisions.facets, Filters())[""] == [(None, 3)]
    made.writer().commit([stretch([some(9)], 3)])
    assert pool.newest().size == size + 1
    assert one.answer(ACME, size, decisions.facets, Filters())[""] == [(None, 3)]
    assert one.answer(ACME, size + 1, decisions.facets, Filters())[""] == [(None, 4)]
    one.close()


def test_the_verifier_says_what_its_last_run_found(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([some(0)])])
    verifier = Verifier(Pool(str(made.folder)), clock=lambda: NOON)
    verifier.start()
    assert verifier.wait(60)
    assert verifier.last is not None
    assert (verifier.last.ok, verifier.last.when) == (True, NOON)
    victim = next(made.folder.rglob("*.parquet"))
    victim.unlink()
    verifier.start()
    assert verifier.wait(60)
    assert not verifier.last.ok
    assert verifier.last.damage[0].kind == "missing"


def test_words() -> None:
    assert literal("**x** [a](b) <i> $y$ :red[z]") == (
        r"\*\*x\*\* \[a\]\(b\) \<i\> \$y\$ \:red\[z\]"
    )  # fmt: skip
    assert short_id("a" * 64) == "aaaaaa…aaaaaa"
    assert short_id(None) == "–"
    assert moment(None) == "never"
    assert moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02 03:04:05 UTC"
    assert ago(NOON - timedelta(hours=5), NOON) == "5 h ago"
    assert figure(None, "share") == "no data"
    assert figure(0.981, "share") == "98.1%"
    assert change(-0.012, "share") == "-1.2 points"
    assert size_text(3 * 1024**2) == "3.0 MiB"


def test_a_compromise_reaches_what_was_derived(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    issue = {"kind": "issuance", "session_id": "s1"}
    rows = [
        some(50, credential_id="c1", expires_at=NOON + timedelta(hours=1), **issue),
        some(
            49, credential_id="c2", parent_credential_id="c1", expires_at=NOON + timedelta(hours=1), **issue
        ),
        some(
            48, credential_id="c3", parent_credential_id="c2", expires_at=NOON - timedelta(hours=1), **issue
        ),
        some(47, credential_id="other", **issue),
        some(40, kind="action", credential_id="c2", data_class="restricted", decision=None),
        some(39, kind="signal", target="credential:c1", decision=None, credential_id=None),
        some(38, kind="revocation", target="credential:c1", decision=None, credential_id=None),
        # A circle of parents ends.
        some(37, credential_id="c1", parent_credential_id="c3", **issue),
    ]
    made.writer().commit([stretch(rows)])
    one = Statements(Pool(str(made.folder)))
    found = asked(one, local_viewer(), blast_radius.compromise, "c1")
    by_id = {row["credential_id"]: row for row in found["credentials"]}
    assert set(by_id) == {"c1", "c2", "c3"}
    assert by_id["c1"]["seconds_to_revocation"] == 60
    assert found["to_revoke"] == ["credential:c2"]
    assert found["data_classes"] == ["restricted"]
    with pytest.raises(UsageError, match="No event names the credential"):
        asked(one, local_viewer(), blast_radius.compromise, "none")
    one.close()


def test_a_review_is_listed_and_closed_by_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_ledger(tmp_path)
    grant = {"kind": "delegation", "decision": None, "grant_id": "g1", "outcome": "opened"}
    made.writer().commit([stretch([some(5, expires_at=NOON + timedelta(days=9), **grant)])])
    url = ["--ledger", str(made.folder)]

    def ran(*arguments: str) -> tuple[int, Any]:
        code = run(decision_ledger.app, ["--json", "review", *arguments, *url])
        shared.json = False
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    _, listed = ran("list", "--todo")
    assert ([row["target"] for row in listed["rows"]], listed["done"], listed["of"]) == (["grant:g1"], 0, 1)
    assert ran("close", "grant:none", "--outcome", "kept", "--reason", "x")[0] == 2
    assert ran("close", "grant:g1", "--outcome", "burnt", "--reason", "x")[0] == 2
    assert ran("close", "grant:g1", "--outcome", "kept", "--reason", "it goes on", "--by", "user:ann")[0] == 0
    _, listed = ran("list")
    assert (listed["rows"][0]["outcome"], listed["rows"][0]["by"], listed["done"]) == ("kept", "user:ann", 1)
    assert ran("list", "--todo")[1]["rows"] == []


def test_large_answers_are_not_kept_and_those_of_rows_that_went_are_forgotten(statements: Statements) -> None:
    size = statements.pool.newest().size
    large = "SELECT repeat('x', 10000) AS x FROM events a, events b LIMIT 1000"

    def one(statement: str) -> Any:
        asked = statements.ask(ACME, size, decisions.written, statement)
        assert asked.wait(60)
        asked.future.result()
        return statements.kept(ACME, size, decisions.written, statement)

    assert one("SELECT 1 AS one FROM events LIMIT 1") is not None
    assert one(large) is None
    assert statements.pool.floor() == 0
    statements.forget_below(size)
    assert statements.kept(ACME, size, decisions.written, "SELECT 1 AS one FROM events LIMIT 1") is not None
    statements.forget_below(size + 1)
    assert statements.kept(ACME, size, decisions.written, "SELECT 1 AS one FROM events LIMIT 1") is None
