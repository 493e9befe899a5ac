"""The weekly report: what it counts and at which size, its forms, and how it is proved or refuted."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import orjson
import pyarrow.parquet as pq
import pytest

import decision_ledger
from dashboard.report.checking import check_by_key, check_by_ledger
from dashboard.report.headline import headline
from dashboard.report.making import make_report
from dashboard.report.report_folder import write_folder
from dashboard.report.tables import TABLES
from dashboard.report.week import basis_of, week_of
from detections.config_files import seal_shipped_rules
from ledger.console import run, shared
from ledger.errors import DamageError, UsageError
from ledger.format.manifest import OffsetKey
from ledger.format.state import ENGINE_TOPIC
from ledger.log.signing import SigningKey, create_key
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from tests.making import NOON, Clock, Made, make_ledger, row, stretch

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)
"""The first day of 2026-W47; NOON lies on the first day of the week after it."""
EVIL = "=cmd|' /C calc'!A0<script>alert(1)</script>#set page(fill: red)"
ALERT = "a" * 32
HALF = '{"format":"decision-ledger-report/1"}'


def acts(start: int, day: datetime, n: int, **more: Any) -> list[dict[str, Any]]:
    return [
        row(start + k, time=day + timedelta(minutes=k), kind="action", delegated_actor="agent:a",
            tenant="acme", actor="user:u", action="ticket:read", resource="ticket:1", **more)
        for k in range(n)
    ]  # fmt: skip


def denied(start: int, day: datetime, n: int, **more: Any) -> list[dict[str, Any]]:
    return [
        row(start + k, time=day + timedelta(minutes=k), decision="deny", actor="user:u",
            delegated_actor="agent:a", action="payment:send", resource=EVIL, reason="scope_missing",
            tenant="acme", sequence=start + 2 * k, instance="i1", **more)
        for k in range(n)
    ]  # fmt: skip


def alert(**more: Any) -> dict[str, Any]:
    return row(
        0, event_id=f"{ALERT}/e0", kind="alert", source="decision-ledger", decision=None, outcome="confirmed",
        alert_id=ALERT, rule_id="repeated-denies", rule_version="1", alert_key=json.dumps([EVIL]),
        window_start=MONDAY, severity="critical", count=3, first_seen=MONDAY + timedelta(hours=1),
        last_seen=MONDAY + timedelta(hours=2), evidence=["test/pdp#e100", "test/pdp#gone"], time=NOON,
        attributes='{"rule_state":"active","title":"Repeated denies"}', **more,
    )  # fmt: skip


def seal(made: Made, rows: list[dict[str, Any]], key: OffsetKey | None = None) -> None:
    done = made.writer().commit([stretch(rows, 0, key or OffsetKey(f"file:{rows[0]['event_id']}"))])
    assert not done.fenced


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A ledger of two weeks, with the report on the first of them beside it."""
    place = tmp_path_factory.mktemp("template")
    made = make_ledger(place)
    exception = {"kind": "exception", "decision": None, "exception_id": "x1", "owner": "user:o"}
    rows = [
        *acts(0, MONDAY - timedelta(days=7), 5), *acts(50, MONDAY, 10, credential_type="session"),
        *denied(100, MONDAY + timedelta(days=1), 3),
        row(200, time=MONDAY, outcome="opened", expires_at=MONDAY + timedelta(days=1), reason=EVIL,
            review_due_at=MONDAY + timedelta(days=2), **exception),
    ]  # fmt: skip
    seal(made, rows)
    seal(made, [alert()], OffsetKey(ENGINE_TOPIC))
    case = {
        "kind": "case",
        "decision": None,
        "target": "case:c1",
        "tenant": "acme",
        "time": MONDAY + timedelta(days=6),
    }
    seal(made, [
        row(700, outcome="opened", alert_id=ALERT, attributes=json.dumps({"title": EVIL}), **case),
        row(701, outcome="noted", owner="user:o", evidence=["test/pdp#e100"], **case),
        row(702, outcome="opened", **{**case, "target": "case:c2", "time": MONDAY + timedelta(days=7)}),
    ])  # fmt: skip
    made.clock.advance(13 * 3600)
    seal(made, acts(300, made.clock.now - timedelta(hours=1), 1))
    with Ledger.open(str(made.folder), remember=False) as opened:
        _, files = make_report(opened)
    write_folder(place / "report", files, NOON)
    return made


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    place = tmp_path / "place"
    shutil.copytree(template.folder.parent, place)
    folder, key = place / "ledger", SigningKey(place / "ledger.key")
    return Made(folder, LocalStore(folder), key, Clock(template.clock.now))


@pytest.fixture
def folder(made: Made) -> Path:
    return made.folder.parent / "report"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*") if path.is_file() and path.name != "run.json"
    }  # fmt: skip


def report_of(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = orjson.loads((folder / "report.json").read_bytes())
    return report


def test_it_counts_the_week_at_the_size_at_which_it_settled(made: Made, folder: Path) -> None:
    report = report_of(folder)
    assert report["week"]["name"] == "2026-W47"
    assert not report["preliminary"]
    with Ledger.open(str(made.folder)) as opened:
        assert report["counted_at"]["size"] == opened.size
    assert report["window"] | {"tenants": 0} == {
        "events": 14, "decisions": 3, "denies": 3, "errors": 0, "tenants": 0, "lost_messages": 0,
        "first": "2026-11-16T00:00:00.000000Z", "last": "2026-11-17T00:02:00.000000Z",
    }  # fmt: skip
    (most,) = report["top_denied"]
    assert (most["principal"], most["resource"], most["denies"]) == ("agent:a", EVIL, 3)
    coverage = next(one for one in report["metrics"] if one["metric"] == "session-scoped-credential-coverage")
    assert (coverage["denominator"], coverage["trend"][-2]["sample"]) == (10, 5)
    (source,) = report["sources"]
    assert (source["source"], source["missing"]) == ("test/pdp", 2)
    (incident,) = report["incidents"]
    assert (incident["about"], incident["event"]) == (EVIL, f"decision-ledger#{ALERT}/e0")
    (exception,) = report["exceptions"]
    assert (exception["state"], exception["overdue"], exception["owner"]) == ("expired", True, "user:o")
    (case,) = report["cases"]
    assert (case["title"], case["alerts"], case["evidence"], case["owner"]) == (EVIL, 1, 1, "user:o")
    # What an alert rests on may be gone; the rest is proved.
    assert [one["event"] for one in report["listed"]] == [
        f"decision-ledger#{ALERT}/e0", "test/pdp#e100", "test/pdp#e701", "test/pdp#e200", "test/pdp#e102",
    ]  # fmt: skip


def test_it_repeats_byte_for_byte_although_the_ledger_has_grown(
    made: Made, folder: Path, tmp_path: Path
) -> None:
    seal(made, acts(400, MONDAY + timedelta(days=2), 4))  # late: never part of this report
    with Ledger.open(str(made.folder)) as opened:
        _, files = make_report(opened, "2026-W47", (folder / "checkpoint").read_bytes())
        newer, _ = make_report(opened, "2026-W47")
    write_folder(tmp_path / "again", files, NOON + timedelta(days=1))
    assert bytes_of(tmp_path / "again") == bytes_of(folder)
    assert newer == report_of(folder)


def test_the_next_report_says_what_came_late(made: Made) -> None:
    made.clock.advance(3600)
    seal(made, acts(400, MONDAY + timedelta(days=2), 4))
    made.clock.advance(7 * 86_400)
    seal(made, acts(500, made.clock.now - timedelta(hours=2), 1))
    with Ledger.open(str(made.folder)) as opened:
        report, _ = make_report(opened, "2026-W48")
    restated = {one["metric"]: one for one in report["restated"]}
    assert restated["session-scoped-credential-coverage"]["sample_was"] == 10
    assert restated["session-scoped-credential-coverage"]["sample_is"] == 14


def test_a_week_that_has_not_settled_is_preliminary(made: Made) -> None:
    with Ledger.open(str(made.folder)) as opened:
        report, files = make_report(opened, "2026-W48")
        assert report["preliminary"]
        assert b"preliminary" in files["report.html"]
        assert basis_of(opened, week_of("2026-W48"), 2).size == 2
        with pytest.raises(UsageError, match="does not reach the week 2027-W01"):
            make_report(opened, "2027-W01")


def test_a_ledger_that_begins_with_old_logs_reports_on_them_once_they_were_judged(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    made.clock.advance(30 * 86_400)
    key = OffsetKey("file:old")
    made.writer().commit([stretch(acts(0, MONDAY, 10), 0, key)])

    def seen() -> tuple[bool, int, int]:
        with Ledger.open(str(made.folder)) as opened:
            report, _ = make_report(opened, "2026-W47")
        return report["preliminary"], report["window"]["events"], len(report["incidents"])

    assert seen() == (True, 10, 0)  # the file has not been seen to its end
    made.writer().commit([replace(stretch(acts(10, MONDAY, 5), 10, key), complete=made.clock.now)])
    assert seen() == (True, 15, 0)  # nor have rules looked at it
    seal_shipped_rules(made.writer())
    read = made.writer().state.size
    judged = replace(stretch([alert()], 0, OffsetKey(ENGINE_TOPIC)), start=0, end=read)
    made.writer().commit([judged])
    assert seen() == (False, 15, 1)
    seal(made, acts(20, MONDAY, 5))
    assert seen() == (False, 15, 1)


def test_nobody_waits_for_rules_that_do_not_run(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    made.clock.advance(30 * 86_400)
    made.writer().commit([replace(stretch(acts(0, MONDAY, 10)), complete=made.clock.now)])
    made.clock.advance(3_600)
    made.writer().tick()
    with Ledger.open(str(made.folder)) as opened:
        assert not basis_of(opened, week_of("2026-W47")).preliminary


@pytest.mark.parametrize("text", ["2026-47", "2026-W54", "2026-W00", "0000-W01", "W47", "2026-W47x", ""])
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no week"):
        week_of(text)


def test_all_forms_say_the_same_and_text_stays_text(folder: Path) -> None:
    report = report_of(folder)
    page = (folder / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    book = openpyxl.load_workbook(folder / "report.xlsx")
    for table in TABLES:
        rows = list(
            csv.DictReader(io.StringIO((folder / f"csv/{table.name}.csv").read_bytes().decode(), newline=""))
        )
        assert len(rows) == len(report[table.name])
        arrow = pq.read_table(folder / f"parquet/{table.name}.parquet")
        assert arrow.num_rows == len(rows)
        sheet = book[table.title[:31]]
        assert sheet.freeze_panes == "A2"
        assert sheet.max_row == len(rows) + 1
    denied_sheet = book["Most denied"]
    assert denied_sheet["C2"].value == EVIL
    assert denied_sheet["C2"].data_type == "s"
    assert denied_sheet["G2"].is_date
    assert book["Metrics"]["H2"].number_format == "0.00%"
    with zipfile.ZipFile(folder / "report.xlsx") as packed:
        assert not any(b"<f>" in packed.read(name) for name in packed.namelist() if "sheet" in name)
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_key_alone_proves_events_and_not_numbers(made: Made, folder: Path) -> None:
    outcome, _ = check_by_key(folder, made.key.verifier)
    assert (outcome.result, outcome.events, outcome.faults) == ("proved", 5, [])
    assert any("not counted again" in note for note in outcome.notes)


def test_the_ledger_confirms_every_number(made: Made, folder: Path) -> None:
    seal(made, acts(400, MONDAY + timedelta(days=2), 4))
    outcome, report = check_by_key(folder, made.key.verifier)
    assert report is not None
    with Ledger.open(str(made.folder)) as opened:
        check_by_ledger(outcome, folder, report, opened)
    assert (outcome.result, outcome.faults) == ("confirmed", [])


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """A forger's report: every form follows the changed numbers."""
    from dashboard.report.report_folder import forms

    report = report_of(folder)
    edit(report)
    for name, data in forms(report).items():
        (folder / name).write_bytes(data)


FORGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a number": (lambda r: r["metrics"][0].update(value=0.99), "metrics[0].value: the report says 0.99"),
    "a row left out": (lambda r: r["alerts_by_rule"].clear(), "alerts_by_rule: the report has 0 rows"),
    "a headline": (lambda r: r.update(headline="Nothing needs action."), "headline: the report says"),
}


@pytest.mark.parametrize("name", FORGED)
def test_the_ledger_refutes_a_forged_number_and_names_the_cell(name: str, made: Made, folder: Path) -> None:
    edit, said = FORGED[name]
    change(folder, edit)
    outcome, report = check_by_key(folder, made.key.verifier)
    assert report is not None
    with Ledger.open(str(made.folder)) as opened:
        check_by_ledger(outcome, folder, report, opened)
    assert outcome.result == "refuted"
    assert outcome.faults[0].startswith(said)


def _in_evidence(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "evidence/0002.json"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def _in_json(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / "report.json"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "severity lowered": (lambda f: change(f, lambda r: r["incidents"][0].update(severity="low")), "severity"),
    "an event of another": (lambda f: change(f, lambda r: r["listed"][0].update(event="x#y")), "prove x#y"),
    "a path of its own": (lambda f: change(f, lambda r: r["listed"][0].update(file="../../x")), "../../x"),
    "a root of its own": (lambda f: change(f, lambda r: r["counted_at"].update(root="0" * 64)), "root"),
    "a size of its own": (lambda f: change(f, lambda r: r["counted_at"].update(size=1)), "consistency.json"),
    "a bundle gone": (lambda f: (f / "evidence/0001.json").unlink(), "0001.json is missing"),
    "a bundle too many": (lambda f: (f / "evidence/0099.json").write_text("{}"), "0099.json"),
    "a bundle changed": (lambda f: _in_evidence(f, b"scope_missing", b"scope_present"), "not row"),
    "a page of its own": (lambda f: (f / "report.html").write_text("all is well"), "report.html"),
    "a table changed": (lambda f: (f / "csv/metrics.csv").write_text("x"), "csv/metrics.csv"),
    "another checkpoint": (lambda f: (f / "checkpoint").write_text("x"), "note"),
    "no JSON": (lambda f: (f / "report.json").write_text("{"), "no JSON"),
    "half a report": (lambda f: (f / "report.json").write_text(HALF), "malformed"),
    "a true for a one": (lambda f: _in_json(f, b'"alerts": 1', b'"alerts": true'), "[0].alerts"),
    "a trend of its own": (lambda f: _in_json(f, b'"trend": [', b'"trend": [7,'), "malformed"),
    "no run": (lambda f: (f / "run.json").unlink(), "run.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_the_key_alone_refutes(name: str, made: Made, folder: Path) -> None:
    edit, said = BROKEN[name]
    edit(folder)
    outcome, _ = check_by_key(folder, made.key.verifier)
    assert outcome.result == "refuted"
    assert said in outcome.faults[0]


def test_another_key_and_another_ledger_refute(made: Made, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    create_key(other / "k.key", "other.example/ledger")
    twin = make_ledger(other)
    outcome, _ = check_by_key(folder, twin.key.verifier)
    assert outcome.result == "refuted"
    outcome, report = check_by_key(folder, made.key.verifier)
    assert report is not None
    with Ledger.open(str(twin.folder)) as opened:
        check_by_ledger(outcome, folder, report, opened)
    assert outcome.result == "refuted"


def test_a_damaged_ledger_gets_no_report(made: Made) -> None:
    victim = next(made.folder.rglob("*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    with Ledger.open(str(made.folder)) as opened, pytest.raises(DamageError, match="The ledger is damaged"):
        make_report(opened)


def test_an_empty_ledger_says_so(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    with Ledger.open(str(made.folder)) as opened, pytest.raises(UsageError, match="holds no events yet"):
        make_report(opened)


def test_a_report_for_tenants_counts_theirs_alone(made: Made) -> None:
    seal(made, [
        row(900 + k, time=MONDAY, tenant="beta", decision="deny", actor="agent:b", reason="s3cret")
        for k in range(9)
    ])  # fmt: skip
    with Ledger.open(str(made.folder), tenants=frozenset({"acme"})) as opened:
        report, files = make_report(opened, "2026-W47", None)
    assert report["window"]["tenants"] == 1
    assert not any(b"s3cret" in data for data in files.values())
    assert report["incidents"] == []  # its alert has no tenant


def test_the_commands(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "a" / "2026-W47")
    url = ["--ledger", str(made.folder)]
    shared.ledger = None
    assert run(decision_ledger.app, ["report", "weekly", "--out", out, *url]) == 0
    assert "are provably missing" in capsys.readouterr().out.splitlines()[0]
    # A report is replaced as a whole; anything else is left alone.
    assert (
        run(
            decision_ledger.app, ["report", "weekly", "--out", out, *url, "--checkpoint", f"{out}/checkpoint"]
        )
        == 0
    )
    assert run(decision_ledger.app, ["report", "weekly", "--out", str(tmp_path), *url]) == 2
    assert run(decision_ledger.app, ["report", "verify", out, "--vkey", made.key.verifier.text]) == 0
    assert "was not" not in capsys.readouterr().err
    assert run(decision_ledger.app, ["--json", "report", "verify", out, *url]) == 0
    shared.json = False
    assert json.loads(capsys.readouterr().out)["result"] == "confirmed"
    assert run(decision_ledger.app, ["report", "verify", out]) == 2
    shutil.rmtree(Path(out) / "parquet")
    assert run(decision_ledger.app, ["report", "verify", out, *url]) == 1
    assert "Refuted" in capsys.readouterr().out
    assert run(decision_ledger.app, ["report", "verify", str(tmp_path / "none"), *url]) == 2


QUIET: dict[str, Any] = {
    "window": {"lost_messages": 0}, "sources": [], "incidents": [], "exceptions": [], "metrics": [],
}  # fmt: skip
SLIPPED = {
    "metric": "m", "title": "Coverage", "value": 0.5, "unit": "share", "target": 0.9, "better": "higher",
    "met": False, "previous": 0.6, "change": -0.1, "sample": 10,
}  # fmt: skip
CRITICAL = {
    "severity": "critical",
    "state": "open",
    "title": "Theft",
    "about": "agent:a",
    "owner": None,
    "count": 4,
}
OVERDUE = {
    "overdue": True,
    "exception_id": "x1",
    "owner": "user:o",
    "review_due_at": "2026-11-01T",
    "expires_at": None,
}
SHORT = {"source": "opa", "missing": 3, "events": 10, "silences": 0}


@pytest.mark.parametrize(
    ("more", "begins", "acts"),
    [
        ({}, "Nothing needs action.", ""),
        ({"metrics": [SLIPPED | {"met": True}]}, "Nothing needs action.", ""),
        ({"metrics": [SLIPPED | {"change": 0.1}]}, "Nothing needs action.", ""),
        ({"metrics": [SLIPPED]}, "Coverage: 50.00 %, 60.00 % the week before", "unowned"),
        ({"metrics": [SLIPPED], "exceptions": [OVERDUE]}, "1 exception is overdue, x1", "user:o must act"),
        ({"exceptions": [OVERDUE], "incidents": [CRITICAL]}, "A critical alert is", "unowned must act"),
        ({"incidents": [CRITICAL | {"state": "resolved"}]}, "Nothing needs action.", ""),
        ({"incidents": [CRITICAL], "sources": [SHORT]}, "3 event(s) of opa are provably", "platform team"),
        ({"sources": [SHORT | {"missing": None}]}, "Nothing needs action.", ""),
        ({"window": {"lost_messages": 7}, "sources": [SHORT]}, "The broker removed 7", "platform team"),
    ],
)  # fmt: skip
def test_the_first_sentence_is_the_first_that_is_true(more: dict[str, Any], begins: str, acts: str) -> None:
    said = headline({**QUIET, **more})
    assert said.startswith(begins)
    assert acts in said
