"""The logic of pages, without a browser: streamlit's AppTest over real ledgers and a real intake."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from dashboard.frame import surroundings
from dashboard.settings import VARIABLE, DashboardSettings
from detections.alerting.standing import alerts_of
from detections.config_files import seal_shipped_rules
from detections.engine import Engine
from ingest.adapters import adapter
from ingest.intakes import of_people
from ingest.pipeline import Pace, Pipeline
from ingest.sources.http.listener import Listener
from ingest.sources.http.source import SpoolSource
from ingest.sources.http.spool import Spool
from issuer.scenarios.catalogue import play
from ledger.log.signing import SigningKey
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from tests.making import NOON, Clock, Made, make_ledger, row, stretch

APP = Path(__file__).parents[2] / "dashboard" / "app.py"
NOW = datetime.now(UTC)
"""What people do is dated by the wall clock, and an intake refuses what comes from the future."""
TOKEN = "token-of-the-tests-with-many-letters"
PAGES = {
    "overview": "incident", "alerts": "high or critical", "decisions": "without an answer",
    "identities": "without an owner", "exceptions": "grants stand", "integrity": "Did everything arrive?",
    "weekly": "counted at entry", "sql": "Views:", "trace": "Paste a trace id", "cases": "cases open",
    "audit": "Nobody looked", "search": "Paste an id", "event": "Open an event", "alert": "No such alert",
}  # fmt: skip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A day of the example company with an incident in it, looked at by the rules."""
    made = make_ledger(tmp_path_factory.mktemp("pages"))
    day = play("healthy-day", 7, start=NOON, planted=("shared-identity", "delegated-abuse"))
    made.clock.advance(2 * 86_400)
    wire = made.folder.parent / "day.jsonl"
    wire.write_text("".join(json.dumps(event, default=str) + "\n" for event in day.events))
    from ingest.sources.files.source import FileSource  # only here

    settings = of_file()
    source = FileSource([str(wire)], lambda _: None, limits=settings.limits)
    Pipeline(source, adapter("native"), made.writer(), intake=settings.intake).run()
    writer = made.writer(name="detections")
    seal_shipped_rules(writer)
    engine = Engine(writer)
    while engine.run() is not None:
        pass
    engine.close()
    return made


def of_file() -> Any:
    from ingest.intakes import read_intake  # only here

    return read_intake(None, "pages")


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    shutil.copytree(template.folder, tmp_path / "ledger")
    shutil.copy(template.key.path, tmp_path / "ledger.key")
    folder = tmp_path / "ledger"
    key = SigningKey(tmp_path / "ledger.key")
    return Made(folder, LocalStore(folder), key, Clock(template.clock.now))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()
    monkeypatch.undo()


def look(monkeypatch: pytest.MonkeyPatch, folder: Path, page: str = "overview", **settings: Any) -> AppTest:
    """A page as a new person sees it. `settings` are the dashboard's; other words go into the address."""
    told = DashboardSettings(str(folder), verify_minutes=0, **settings)
    monkeypatch.setenv(VARIABLE, told.to_environment())
    app = AppTest.from_file(str(APP), default_timeout=120)
    # Pages are functions, to which AppTest has no way of its own: their hash is that of their path.
    app._page_hash = "" if page == "overview" else calc_hash(page)  # as above
    return app


def text_of(app: AppTest) -> str:
    """Everything that is written on a page."""
    assert not app.exception, app.exception
    kinds = ("title", "subheader", "markdown", "caption", "text", "info", "warning", "error", "success")
    parts = [str(one.value) for kind in kinds for one in getattr(app, kind)]
    return "\n".join([*parts, *(str(one.value) for one in app.code)]).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_something(page: str, template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    app = look(monkeypatch, template.folder, page).run()
    assert PAGES[page] in text_of(app)


def test_a_week_without_data_between_others_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_ledger(tmp_path)
    acts = {"kind": "action", "decision": None, "delegated_actor": "agent:a"}
    rows = [row(weeks, time=NOON - timedelta(weeks=weeks), **acts) for weeks in (0, 2, 4)]
    made.writer().commit([stretch(rows)])
    assert "no data" in text_of(look(monkeypatch, made.folder).run())


def alert_of_rule(made: Made, rule: str) -> dict[str, Any]:
    with Ledger.open(str(made.folder), remember=False) as one:
        return next(found for found in alerts_of(one) if found["rule_id"] == rule)


def test_pages_of_one_thing(template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    alert = alert_of_rule(template, "cross-tenant-attempts")
    app = look(monkeypatch, template.folder, "alert")
    app.query_params["id"] = alert["alert_id"]
    said = text_of(app.run())
    assert "Why it fired" in said
    assert "Nothing can be decided here" in said
    source, _, event_id = alert["evidence"][0].partition("#")
    app = look(monkeypatch, template.folder, "event")
    app.query_params["of"], app.query_params["id"] = source, event_id
    assert f'"event_id": "{event_id}"' in text_of(app.run())
    app = look(monkeypatch, template.folder, "trace")
    with Ledger.open(str(template.folder), remember=False) as one:
        (found,) = one.sql("SELECT trace_id FROM events WHERE event_id = ?", [event_id]).to_pylist()
    app.query_params["trace"] = found["trace_id"]
    said = text_of(app.run())
    assert "was denied customer:read" in said
    assert "marimo run notebooks/trace_an_incident.py" in said
    app.toggle(key="prove").set_value(True).run()
    assert not app.exception


def test_filters_facets_and_pages_of_rows(template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    app = look(monkeypatch, template.folder, "decisions").run()
    whole = text_of(app)
    app.selectbox(key="f_kind").set_value("decision").run()
    app.button_group(key="decision").set_value("deny").run()
    assert text_of(app) != whole
    assert "0 without an answer" in text_of(app)
    app.selectbox(key="field").set_value("reason").run()
    app.text_input(key="value").set_value("no such reason").run()
    assert "Nothing meets these filters" in text_of(app)
    app.text_input(key="from").set_value("soon").run()
    assert "soon is no time" in text_of(app)


def test_search_finds_several_kinds_or_none(template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    app = look(monkeypatch, template.folder, "search")
    app.query_params["q"] = "report"
    app.query_params["parts"] = "true"
    app.query_params["stay"] = "1"
    app.run()
    assert not app.exception
    app.checkbox(key="parts").set_value(False).run()
    assert "Nothing is called 'report'" in text_of(app)


def test_a_statement_that_is_wrong_is_a_sentence(template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    app = look(monkeypatch, template.folder, "sql")
    app.query_params["statement"] = "SELECT nothing FROM nowhere"
    assert "There is no table nowhere" in text_of(app.run())
    app = look(monkeypatch, template.folder, "sql")
    app.query_params["statement"] = "SELECT kind, count(*) AS n FROM events GROUP BY 1"
    assert "id: saved-query" in text_of(app.run())


def test_a_pin_that_cannot_be_read_is_said(template: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    app = look(monkeypatch, template.folder, "integrity")
    app.query_params["at"] = "99999"
    assert "cannot be read as of 99999 entries" in text_of(app.run())
    app = look(monkeypatch, template.folder, "decisions")
    app.query_params["at"] = "1"
    assert "holds no events yet" in text_of(app.run())


def test_empty_missing_and_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "decision-ledger init" in text_of(look(monkeypatch, tmp_path / "none").run())
    st.cache_resource.clear()
    made = make_ledger(tmp_path)
    assert "holds no events yet" in text_of(look(monkeypatch, made.folder).run())
    st.cache_resource.clear()
    made.writer().commit([stretch([row(0)])])
    next(made.folder.rglob("*.parquet")).unlink()
    assert "The ledger is damaged" in text_of(look(monkeypatch, made.folder, "decisions").run())


class Taking:
    """An intake of what people do, over a ledger, as `ingest http --people` runs it."""

    def __init__(self, made: Made) -> None:
        self.made = made
        self.token = made.folder.parent / "token"
        self.token.write_text(TOKEN)
        self.spool = Spool(made.folder.parent / "spool")
        self.listener = Listener(self.spool, "127.0.0.1", 0, (TOKEN,))
        self.listener.start()
        self.pipeline = Pipeline(
            SpoolSource(self.spool, 0), adapter("native"), made.writer(name="people"),
            intake=of_people().intake, pace=Pace(seconds=0.01),
        )  # fmt: skip
        self.thread = threading.Thread(target=self.pipeline.run)
        self.thread.start()

    @property
    def settings(self) -> dict[str, str]:
        return {"intake": f"http://127.0.0.1:{self.listener.port}", "intake_token_file": str(self.token)}

    def end(self) -> None:
        """Seal what came, and stop."""
        until = time.monotonic() + 60
        while self.pipeline_lag() and time.monotonic() < until:
            threading.Event().wait(0.01)
        self.listener.stop()
        self.pipeline.stop()
        self.thread.join()
        self.spool.close()

    def pipeline_lag(self) -> int:
        """Messages that no commit has taken yet."""
        with Ledger.open(str(self.made.folder), remember=False) as one:
            stream = f"http:{self.spool.id}"
            found = [told.to for told in one.state.positions.values() if told.key.topic == stream]
        return self.spool.end - (found[0] if found else 0)


def test_what_people_decide_is_sealed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.clock.now = NOW
    taking = Taking(made)
    try:
        alert = alert_of_rule(made, "shared-identity")
        app = look(monkeypatch, made.folder, "alert", **taking.settings)
        app.query_params["id"] = alert["alert_id"]
        app.run()
        app.selectbox(key="triage-step").set_value("dismiss")
        app.selectbox(key="triage-verdict").set_value("false-positive")
        app.text_area(key="triage-comment").set_value("a **test**")
        next(one for one in app.button if one.label.startswith("Save for 1")).click().run()
        assert "saved, not sealed yet" in text_of(app)
        app.text_input(key="case-title").set_value("A case")
        next(one for one in app.button if one.label == "Add to the case").click().run()
        assert "Saved, not sealed yet" in text_of(app)
        app = look(monkeypatch, made.folder, "sql", **taking.settings)
        app.query_params["statement"] = "SELECT 1 AS one"
        app.run()
        next(one for one in app.text_input if one.label == "Title").set_value("Kept")
        next(one for one in app.button if one.label == "Keep").click().run()
        assert "Saved, not sealed yet" in text_of(app)
        surroundings().intake.close()  # type: ignore[union-attr]  # it was set
    finally:
        taking.end()
    st.cache_resource.clear()
    with Ledger.open(str(made.folder), remember=False) as one:
        (stands,) = [found for found in alerts_of(one) if found["alert_id"] == alert["alert_id"]]
        assert (stands["state"], stands["verdict_id"], stands["comment"]) == ("dismissed", 1, "a **test**")
        assert one.sql("SELECT count(*) AS n FROM cases").to_pylist() == [{"n": 2}]
        assert one.sql("SELECT count(*) AS n FROM accesses").to_pylist()[0]["n"] >= 2
        assert not one.sql("SELECT reason FROM dead_letters").to_pylist()
    assert "1 cases open" in text_of(look(monkeypatch, made.folder, "cases").run())
    assert "people did" in text_of(look(monkeypatch, made.folder, "audit").run())
    assert "Kept queries" in text_of(look(monkeypatch, made.folder, "sql").run())


def _child(answers: Any) -> None:
    answers.put(7)


def test_a_process_that_is_spawned_beside_the_pages_draws_none(
    template: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch, template.folder).run()
    monkeypatch.delenv(VARIABLE)
    spawning = multiprocessing.get_context("spawn")
    answers = spawning.Queue()
    child = spawning.Process(target=_child, args=(answers,))
    child.start()
    child.join(60)
    assert (child.exitcode, answers.get(timeout=10)) == (0, 7)
