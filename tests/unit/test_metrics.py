"""The eight metrics on rows whose figures were worked out by hand."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from detections.configs.models import parse_config
from detections.configs.timeline import Timeline
from detections.metric_catalogue import BY_NAME, METRICS
from detections.metrics.figures import Choice, Figure, figures
from detections.metrics.kept_days import user_days
from detections.metrics.periods import before, period_of, periods_between
from ledger.console import run
from ledger.query.engine import Query
from ledger.reader import Ledger
from tests.making import Made, make_ledger, stretch

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
AGENT = "agent:a"
TRACE = "0" * 31


def at(hours: float, kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "time": MONDAY + timedelta(hours=hours), "source": "test", "tenant": "acme",
            "environment": "production", "retention": "standard", **more}  # fmt: skip


def sealed(place: Path, rows: Sequence[dict[str, Any]]) -> Made:
    made = make_ledger(place)
    numbered = [{"event_id": f"e{n}", **one} for n, one in enumerate(rows)]
    by_day: dict[Any, list[dict[str, Any]]] = {}
    for one in numbered:
        by_day.setdefault(one["time"].date(), []).append(one)
    start = 0
    writer = made.writer()
    for day in by_day.values():
        writer.commit([stretch(day, start)])
        start += len(day)
    return made


def figure(
    made: Made, name: str, *, day: datetime = MONDAY, choice: Choice | None = None,
    configs: dict[str, Any] | None = None,
) -> Figure:  # fmt: skip
    choice = choice or Choice(by="week")
    timeline = Timeline()
    for config, value in (configs or {}).items():
        timeline.set(config, parse_config(config, value))
    one = period_of(day, choice.by, choice.tz)
    with Ledger.open(str(made.folder), remember=False) as ledger:
        found = figures(ledger, [before(one, choice.by, choice.tz), one], choice, timeline=timeline,
                        metrics=[BY_NAME[name]])  # fmt: skip
    return found[-1]


def test_coverage(tmp_path: Path) -> None:
    good = {"delegated_actor": AGENT, "credential_type": "session", "session_id": "s",
            "expires_at": MONDAY + timedelta(days=30)}  # fmt: skip
    made = sealed(tmp_path, [
        at(1, "action", **good), at(1, "action", **{**good, "credential_type": "capability"}),
        at(1, "action", **{**good, "credential_type": "static"}),
        at(1, "action", **{**good, "session_id": None}),
        at(1, "action", **{**good, "expires_at": None}),
        at(1, "action", **{**good, "expires_at": MONDAY}),
        at(1, "action", **{**good, "delegated_actor": "user:u"}), at(1, "decision", **good),
    ])  # fmt: skip
    one = figure(made, "session-scoped-credential-coverage")
    assert (one.numerator, one.denominator, one.sample) == (2, 6, 6)
    assert one.value == pytest.approx(2 / 6)
    assert one.met is False


def test_over_privileged(tmp_path: Path) -> None:
    act = {"delegated_actor": AGENT, "required_scopes": ["ticket:read"]}
    made = sealed(tmp_path, [
        at(1, "action", **act, scopes=["ticket:read"]), at(1, "action", **act, scopes=["ticket:*"]),
        at(1, "action", **act, scopes=["ticket:read", "payment:send"]), at(1, "action", **act),
        at(1, "action", delegated_actor=AGENT, scopes=["*:*"]),
    ])  # fmt: skip
    one = figure(made, "over-privileged-action-rate")
    assert (one.numerator, one.denominator) == (2, 3)
    assert one.details == {"actions": 5}


def test_revocation_effectiveness(tmp_path: Path) -> None:
    def signal(target: str, hours: float = 1.0) -> dict[str, Any]:
        return at(hours, "signal", target=target, reason="credential-compromised")

    def use(credential: str, seconds: float, decision: str) -> dict[str, Any]:
        hours = 1 + seconds / 3_600
        return at(hours, "decision", decision=decision, credential_id=credential, delegated_actor=AGENT)

    made = sealed(tmp_path, [
        signal("credential:a"), signal("credential:a", 2), use("a", -5, "allow"), use("a", 4, "allow"),
        use("a", 9, "deny"),
        signal("credential:b"), use("b", 2, "deny"),
        signal("credential:c"), use("c", 3, "allow"),
        signal("credential:d"), use("d", -3, "allow"),
        signal("credential:e"), use("e", 8, "allow"), use("e", 20, "deny"),
        at(1, "signal", target="credential:f", reason="risk-level-change:LOW"), use("f", 1, "allow"),
    ])  # fmt: skip
    one = figure(made, "revocation-effectiveness-time")
    assert (one.value, one.sample) == (4.0, 3)  # 4, 0 and 8 seconds
    assert one.details == {
        "p95": 8.0, "first_block_median": 9.0, "first_block_p95": 20.0, "open": 1, "censored": 1,
        "open_targets": ["credential:c"],
    }  # fmt: skip


def test_policy_evaluation_coverage(tmp_path: Path) -> None:
    yes = {"decision": "allow", "policy_engine": "cedar", "policy_version": "1"}
    step = {"delegated_actor": AGENT, "action": "payment:send", "resource": "payment:1"}
    traced = {**step, "trace_id": TRACE + "a"}
    made = sealed(tmp_path, [
        {**at(1, "decision", **yes, **step), "event_id": "d1"},
        at(1, "action", **step, impact="high", decision_ref="d1"),
        at(1, "action", **step, impact="high", decision_ref="test#d1"),
        at(1, "action", **{**step, "resource": "payment:2"}, impact="high", decision_ref="d1"),
        at(2, "decision", **yes, **traced), at(2 + 4 / 60, "action", **traced, impact="high"),
        at(2 + 6 / 60, "action", **traced, impact="high"),
        {**at(3, "decision", **{**yes, "decision": "deny"}, **step), "event_id": "d2"},
        at(3, "action", **step, data_class="restricted", decision_ref="d2"),
        at(3, "action", **step, impact="low"),
        at(3, "action", **{**step, "action": "tiered:act"}),
    ])  # fmt: skip
    one = figure(made, "policy-evaluation-coverage", configs={"tiers": {"tiered:act": "high"}})
    assert (one.numerator, one.denominator) == (3, 7)
    assert one.details == {"despite_deny": 1}


def test_exception_half_life(tmp_path: Path) -> None:
    def step(days: float, name: str, outcome: str, **more: Any) -> dict[str, Any]:
        ends = {key: MONDAY + timedelta(days=value) for key, value in more.items()}
        return at(days * 24, "exception", exception_id=name, outcome=outcome, **ends)

    made = sealed(tmp_path, [
        step(0, "active", "opened", expires_at=30, review_due_at=20),
        step(3, "overdue", "opened", expires_at=30, review_due_at=4),
        step(0, "closed", "opened", expires_at=30, review_due_at=20), step(1, "closed", "closed"),
        step(0, "expired", "opened", expires_at=2, review_due_at=20),
        step(0, "reviewed", "opened", expires_at=2, review_due_at=20), step(3, "reviewed", "reviewed"),
        step(0, "extended", "opened", expires_at=2, review_due_at=3),
        step(2, "extended", "extended", expires_at=30, review_due_at=31),
        step(8, "later", "opened", expires_at=30, review_due_at=31),
    ])  # fmt: skip
    one = figure(made, "exception-half-life")
    assert (one.value, one.sample) == (7.0, 3)  # 7, 4 and 7 days at the week's end
    assert one.details == {"overdue": 2, "overdue_exceptions": ["expired", "overdue"]}


def test_cross_tenant_denies(tmp_path: Path) -> None:
    away = {"decision": "deny", "resource_tenant": "b", "delegated_actor": AGENT}
    made = sealed(tmp_path, [
        at(1, "decision", **away, request_id="r1"), at(2, "decision", **away, request_id="r1"),
        at(1, "decision", **away, trace_id=TRACE + "a", action="x", resource="y"),
        at(1, "decision", **away, trace_id=TRACE + "a", action="x", resource="y"),
        at(1, "decision", **{**away, "resource_tenant": "acme"}, request_id="r2"),
        at(1, "decision", **{**away, "resource_tenant": None}, request_id="r3"),
        at(1, "decision", **{**away, "decision": "allow"}, request_id="r4"),
        at(1, "decision", **away, exercise="drill"),
    ])  # fmt: skip
    drill = [{"id": "drill", "sources": ["test"], "begins_at": MONDAY, "ends_at": MONDAY + timedelta(days=1)}]
    one = figure(made, "cross-tenant-denies", configs={"exercises": drill})
    assert (one.numerator, one.denominator) == (2, 7)
    assert one.value == pytest.approx(2 * 10_000 / 7)
    assert one.details == {"without_resource_tenant": 1}


def test_decision_log_completeness(tmp_path: Path) -> None:
    full = {"actor": "user:u", "delegated_actor": AGENT, "policy_version": "1", "trace_id": TRACE + "a"}
    made = sealed(tmp_path, [
        at(1, "decision", **full), at(1, "issuance", **full),
        at(1, "action", **{**full, "policy_version": None}),
        at(1, "decision", **{**full, "policy_version": None}),
        at(1, "decision", **{**full, "trace_id": None}),
        at(1, "action", actor="agent:auto", trace_id=TRACE + "a"),
        at(1, "decision", policy_version="1", trace_id=TRACE + "a"),
        at(1, "decision", **{**full, "delegated_actor": None}),
        at(1, "decision", **full, action="a", resource="r", decision="allow", attributes="{}",
           policy_digest="d"),
    ])  # fmt: skip
    one = figure(made, "decision-log-completeness")
    assert (one.numerator, one.denominator) == (5, 8)  # a person's own decision owes nothing
    assert one.details == {"grade_0": 4, "grade_1": 0, "grade_2": 0, "grade_3": 0, "grade_4": 1,
                           "missing": None, "missing_estimated": None}  # fmt: skip


def test_security_adjusted_task_success(tmp_path: Path) -> None:
    def task(name: str, outcome: str, hours: float = 2) -> dict[str, Any]:
        return at(hours, "task", task_id=name, outcome=outcome)

    def work(name: str, number: int, **more: Any) -> list[dict[str, Any]]:
        step = {"delegated_actor": AGENT, "action": "a", "resource": "r", "task_id": name,
                "trace_id": f"{number:032x}"}  # fmt: skip
        yes = {"decision": "allow", "policy_engine": "cedar", "policy_version": "1"}
        return [at(1, "decision", **yes, **step), at(1.01, "action", **step, **more)]

    made = sealed(tmp_path, [
        *work("clean", 1), task("clean", "started", 0.5), task("clean", "succeeded"),
        *work("outside", 2, destination="mail"), task("outside", "succeeded"),
        *work("unasked", 3)[1:], task("unasked", "succeeded"),
        task("idle", "succeeded"), *work("failed", 4), task("failed", "failed"),
        *work("retried", 5), task("retried", "failed", 1.5), task("retried", "succeeded"),
        task("running", "started"), at(1, "action", delegated_actor=AGENT),
    ])  # fmt: skip
    one = figure(made, "security-adjusted-task-success")
    assert (one.numerator, one.denominator) == (2, 6)  # clean and retried
    assert one.details == {"succeeded": 5, "unended": 1, "actions_without_task": 1}


@pytest.mark.parametrize("name", BY_NAME)
def test_nothing_is_no_data_and_neither_none_nor_all(tmp_path: Path, name: str) -> None:
    made = sealed(tmp_path, [at(1, "heartbeat")])
    one = figure(made, name)
    assert (one.value, one.met, one.change, one.sample) == (None, None, None, 0)


def test_a_figure_has_the_change_from_the_period_before_and_may_be_narrowed_and_grouped(
    tmp_path: Path,
) -> None:
    step = {"delegated_actor": AGENT, "required_scopes": ["a:b"]}
    made = sealed(tmp_path, [
        at(-24, "action", **step, scopes=["a:b"]), at(-24, "action", **step, scopes=["*:*"]),
        at(1, "action", **step, scopes=["a:b"]), at(1, "action", **step, scopes=["a:b"], tenant="b"),
        at(2, "action", **step, scopes=["*:*"], tenant="b"),
    ])  # fmt: skip
    one = figure(made, "over-privileged-action-rate")
    assert one.previous == 0.5
    assert one.change == pytest.approx(1 / 3 - 0.5)
    assert figure(made, "over-privileged-action-rate", choice=Choice(tenant="b")).value == 0.5
    assert figure(made, "over-privileged-action-rate", choice=Choice(source="other")).value is None
    with Ledger.open(str(made.folder), remember=False) as ledger:
        found = figures(ledger, [period_of(MONDAY, "week", UTC)], Choice(group="tenant"), timeline=Timeline(),
                        metrics=[BY_NAME["over-privileged-action-rate"]])  # fmt: skip
    assert [(one.group, one.value) for one in found] == [("acme", 0.0), ("b", 0.5)]


def test_a_late_event_counts_in_the_week_in_which_it_happened(tmp_path: Path) -> None:
    made = sealed(tmp_path, [at(1, "heartbeat")])
    late = {
        "event_id": "late",
        **at(2, "action", delegated_actor=AGENT, required_scopes=["a:b"], scopes=["a:b"]),
    }
    made.clock.advance(20 * 86_400)
    made.writer().commit([stretch([late], 1)])
    assert figure(made, "over-privileged-action-rate").denominator == 1


def test_days_have_the_hours_that_their_zone_gives_them_and_weeks_their_year() -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    spring = period_of(datetime(2026, 3, 29, 12, tzinfo=UTC), "day", berlin)
    autumn = period_of(datetime(2026, 10, 25, 12, tzinfo=UTC), "day", berlin)
    assert [(one.end - one.start) / timedelta(hours=1) for one in (spring, autumn)] == [23, 25]
    assert period_of(datetime(2026, 12, 31, tzinfo=UTC), "week", UTC).name == "2026-W53"
    assert period_of(datetime(2027, 1, 3, 23, tzinfo=UTC), "week", UTC).name == "2026-W53"
    assert period_of(datetime(2027, 1, 3, 23, 30, tzinfo=UTC), "week", berlin).name == "2027-W01"
    days = [
        *periods_between(
            datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC), "day", berlin
        )
    ]
    assert all(one.end == following.start for one, following in pairwise(days))


def test_a_zone_moves_an_event_into_its_own_day(tmp_path: Path) -> None:
    made = sealed(
        tmp_path, [at(23.5, "action", delegated_actor=AGENT, required_scopes=["a:b"], scopes=["a:b"])]
    )
    name = "over-privileged-action-rate"
    berlin = Choice(by="day", tz=zoneinfo.ZoneInfo("Europe/Berlin"))
    assert figure(made, name, choice=Choice(by="day")).denominator == 1
    assert figure(made, name, choice=berlin).denominator == 0
    assert figure(made, name, day=MONDAY + timedelta(hours=24), choice=berlin).denominator == 1


def test_the_command_shows_every_metric_and_its_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = sealed(tmp_path, [at(1, "action", delegated_actor=AGENT, required_scopes=["a:b"], scopes=["a:*"])])
    targets = tmp_path / "targets.yml"
    targets.write_text("targets:\n  over-privileged-action-rate: 0.01\n")
    url = ["--ledger", str(made.folder), "--key", str(made.key.path)]
    assert run(decision_ledger.app, ["config", "load", "targets", str(targets), *url]) == 0
    assert run(decision_ledger.app, ["metrics", "--from", "2026-11-16", *url[:2]]) == 0
    shown = capsys.readouterr().out
    assert all(metric.name in shown for metric in METRICS)
    assert "100.00%  1 of 1" in " ".join(shown.split()).replace(" 1 of 1", "  1 of 1")
    assert "0.01" in shown
    assert run(decision_ledger.app, ["metrics", "--by", "month", *url[:2]]) == 2
    assert run(decision_ledger.app, ["metrics", "--tz", "Mars/Olympus", *url[:2]]) == 2


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "cache"


def _all(made: Made, **more: Any) -> list[dict[str, Any]]:
    with Ledger.open(str(made.folder)) as ledger:
        found = figures(
            ledger, [period_of(MONDAY, "day", UTC)], Choice(by="day"), timeline=Timeline(),
            kept=user_days(ledger), **more,
        )  # fmt: skip
    return [one.as_json() for one in found]


def test_only_days_whose_rows_changed_are_asked_about_again(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [at(24 * day + 1, "action", delegated_actor=AGENT) for day in range(6)]
    made = sealed(tmp_path, rows)
    asked: list[str] = []
    trusted = Query.trusted

    def counted(query: Query, text: str, params: Any = None) -> Any:
        asked.extend(re.findall(r"e.date <= DATE '([0-9-]+)'", text))
        return trusted(query, text, params)

    monkeypatch.setattr(Query, "trusted", counted)
    first = _all(made)
    assert {*asked} == {"2026-11-21"}
    assert _all(made, at=made.writer().state.size) == first
    asked.clear()
    assert _all(made) == first
    assert asked == []
    made.writer().commit([stretch([at(25, "action", event_id="e9", delegated_actor=AGENT)], 6)])
    grown = _all(made)
    # The day, and the one after it, which reads it too.
    assert {*asked} == {"2026-11-18"}
    assert first[0]["denominator"] == grown[0]["denominator"] == 1
    tuesday = period_of(MONDAY + timedelta(days=1), "day", UTC)
    with Ledger.open(str(made.folder)) as ledger:
        found = figures(ledger, [tuesday], Choice(by="day"), timeline=Timeline(), kept=user_days(ledger))
    assert found[0].denominator == 2


def test_a_kept_answer_that_cannot_be_read_or_is_another_users_is_asked_for_anew(
    tmp_path: Path, kept: Path
) -> None:
    made = sealed(tmp_path, [at(1, "action", delegated_actor=AGENT)])
    first = _all(made)
    (file,) = kept.rglob("days/*.arrow")
    whole = file.read_bytes()
    for damage in (lambda: file.write_bytes(b"ARROW1 no more"), lambda: file.chmod(0o666)):
        file.write_bytes(whole)
        damage()
        assert _all(made) == first


def test_who_remembers_nothing_keeps_nothing(tmp_path: Path, kept: Path) -> None:
    made = sealed(tmp_path, [at(1, "action", delegated_actor=AGENT)])
    with Ledger.open(str(made.folder), remember=False) as ledger:
        assert user_days(ledger) is None
        figures(ledger, [period_of(MONDAY, "day", UTC)], Choice(by="day"), timeline=Timeline())
    assert not kept.exists()


GATEWAYS = {
    "gateway/*": {"agentic": True},
    "kube_1": {"agents": ["user:system:serviceaccount:agents:*", "user:100%!"]},
    "other": {},
}


@pytest.mark.parametrize(
    ("source", "actor", "counts"),
    [
        ("gateway/eu", "user:u", True), ("gateway/eu", None, True), ("gatewayx", "user:u", False),
        ("kube_1", "user:system:serviceaccount:agents:triage", True), ("kube_1", "user:system:node", False),
        ("kubex1", "user:system:serviceaccount:agents:triage", False), ("kube_1", "user:100%!", True),
        ("kube_1", "user:1000!", False), ("other", "agent:a", True), ("other", "user:u", False),
    ],
)  # fmt: skip
def test_who_counts_as_an_agent_by_pattern(
    tmp_path: Path, source: str, actor: str | None, counts: bool
) -> None:
    made = sealed(tmp_path, [at(1, "action", source=source, actor=actor)])
    one = figure(made, "session-scoped-credential-coverage", configs={"sources": GATEWAYS})
    assert one.denominator == int(counts)


@pytest.mark.parametrize("said", [{"trusted": True}, {"grade": 2}, {"silent_after": "1h"}])
def test_a_pattern_of_sources_says_who_is_an_agent_and_nothing_else(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="name each source"):
        parse_config("sources", {"gateway/*": said})


def test_there_is_an_end_to_patterns() -> None:
    many = {f"s{n}": {"agents": [f"user:{k}*" for k in range(50)]} for n in range(5)}
    with pytest.raises(ValueError, match="at most 200"):
        parse_config("sources", many)
