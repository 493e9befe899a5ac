"""Retention classes: from an operator's file into the log, and what an intake may permit."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest

import decision_ledger
from ingest.authority import Intake
from ingest.intakes import IntakeSettings, check_classes
from ledger.console import run
from ledger.errors import DamageError, UsageError
from ledger.format.manifest import RetentionClass
from ledger.log.retention_classes import check_successor, classes_in_force, classes_json, read_classes
from ledger.reader import Ledger
from tests.making import make_ledger

TOML = "[short]\ndays = 30\n[legal]\nuntil_released = true\n[personal]\ndays = 90\nerasable = true\n"
CLASSES = {
    "standard": RetentionClass(days=400, erasable=False),
    "short": RetentionClass(days=30, erasable=False),
    "legal": RetentionClass(days=None, erasable=False),
    "personal": RetentionClass(days=90, erasable=True),
}


def written(folder: Path, text: str) -> Path:
    path = folder / "classes"
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    assert read_classes(written(tmp_path, TOML)) == CLASSES
    as_json = '{"short":{"days":30},"legal":{"until_released":true},"personal":{"days":90,"erasable":true}}'
    assert read_classes(written(tmp_path, as_json)) == CLASSES
    assert read_classes(written(tmp_path, "[standard]\ndays = 7\n"))["standard"].days == 7


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "short = 30", "[short]\n", "[short]\ndays = 0", "[short]\ndays = 400000",
     "[short]\ndays = '30'", "[short]\ndays = true", "[short]\nday = 30", "[Short]\ndays = 30",
     "['a/b']\ndays = 30", '{"a\\n":{"days":3}}', "[short]\ndays = 3\nuntil_released = true", "a" * 70_000,
     "[short]\ndays = 30\n[short]\ndays = 31", '{"' + "a" * 33 + '":{"days":3}}'],
)  # fmt: skip
def test_a_file_that_is_not_classes_is_refused_with_a_remedy(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_classes(written(tmp_path, text))
    assert caught.value.remedy


def test_init_and_config_load_seal_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = str(tmp_path / "l")
    short = written(tmp_path, "[short]\ndays = 30\n")
    assert (
        run(decision_ledger.app, ["init", "--origin", "a/b", "--retention", str(short), "--ledger", url]) == 0
    )
    load = ["config", "load", "classes", str(short), "--ledger", url, "--json"]
    capsys.readouterr()
    assert run(decision_ledger.app, load) == 0
    assert not json.loads(capsys.readouterr().out)["changed"]
    written(tmp_path, TOML)
    for changed in (True, False):
        assert run(decision_ledger.app, load) == 0
        assert json.loads(capsys.readouterr().out)["changed"] is changed
    with Ledger.open(url) as ledger:
        assert ledger.size == 2
        assert classes_in_force(ledger.state, ledger.store) == CLASSES
        assert ledger.verify().ok
    written(tmp_path, "[short]\ndays = 30\n")
    assert run(decision_ledger.app, load) == 2
    assert "leave out legal, personal" in capsys.readouterr().err
    assert run(decision_ledger.app, ["config", "load", "colours", str(short), "--ledger", url]) == 2


def test_an_intake_whose_classes_the_ledger_lacks_is_refused_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = str(tmp_path / "l")
    assert run(decision_ledger.app, ["init", "--origin", "a/b", "--ledger", url]) == 0
    intake = tmp_path / "intake.toml"
    intake.write_text('[intake]\nretention_classes = ["short"]\n', encoding="utf-8")
    events = tmp_path / "e.jsonl"
    event = {"event_id": "1", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s"}
    events.write_bytes(
        b"".join(orjson.dumps({**event, "event_id": c, "retention": c}) + b"\n" for c in ("short", "odd"))
    )
    ingest = ["ingest", "file", str(events), "--ledger", url, "--intake", str(intake)]
    assert run(decision_ledger.app, ingest) == 2
    assert "config load classes" in capsys.readouterr().err
    classes = written(tmp_path, "[short]\ndays = 30\n")
    assert run(decision_ledger.app, ["config", "load", "classes", str(classes), "--ledger", url]) == 0
    assert run(decision_ledger.app, ingest) == 0
    with Ledger.open(url) as ledger:
        rows = ledger.sql("SELECT event_id, retention, attributes FROM events ORDER BY 1").to_pylist()
    assert rows == [
        {"event_id": "odd", "retention": "standard", "attributes": '{"unknown.retention":"odd"}'},
        {"event_id": "short", "retention": "short", "attributes": None},
    ]
    with pytest.raises(UsageError, match="permits the retention class x"):
        check_classes(IntakeSettings(Intake(name="i", retention_classes=frozenset("x"))), ["standard"])


def test_a_changed_or_missing_sealed_file_is_damage(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    assert set(made.writer().classes()) == {"standard"}
    path = written(tmp_path, TOML)
    line = ["config", "load", "classes", str(path), "--ledger", str(made.folder), "--key", str(made.key.path)]
    assert run(decision_ledger.app, line) == 0
    (file,) = (made.folder / "config").iterdir()
    assert file.read_bytes() == classes_json(CLASSES)
    file.write_bytes(b"{}")
    with pytest.raises(DamageError, match="missing or was changed"):
        made.writer().classes()
    with pytest.raises(UsageError, match="leave out short"):
        check_successor(CLASSES, {name: one for name, one in CLASSES.items() if name != "short"})
