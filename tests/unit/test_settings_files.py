"""A file that lies beside somebody's data changes no answer; the user's own files may."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import decision_ledger
from ledger.console import run, shared
from ledger.settings.files import FILE_HERE, HARMLESS, MAX_CONFIG_BYTES, settings
from ledger.settings.option_names import command_of
from ledger.storage.user_folders import config_folder
from tests.making import Made, make_ledger, row, stretch

PROGRAM = command_of(decision_ledger.app)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    made = make_ledger(tmp_path)
    for n in range(3):
        made.writer().commit([stretch([row(n)], start=n)])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return made


@pytest.mark.parametrize(
    "text",
    ["[verify]\nsample = 1", "ledger = 'x'", "[verify]\nsave-head = 'victim'",
     "[verify]\nsave_head = 'victim'",
     "key = 'x'", "[verify]\nvkey = 'x'", "[status]\nledger = 'x'", "[sql]\nat = 1", "config = 'x'",
     "[ingest.file]\nintake = 'x'", "[verify]\npin = true", "[deadletters.list]\nstatus = 'replayed'"],
)  # fmt: skip
def test_a_file_in_the_current_folder_cannot_weaken_an_answer(
    text: str, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("victim").write_bytes(b"precious")
    Path(FILE_HERE).write_text(text, encoding="utf-8")
    assert run(decision_ledger.app, ["verify", "--ledger", str(made.folder)]) == 2
    assert "current folder" in capsys.readouterr().err
    assert Path("victim").read_bytes() == b"precious"


def test_it_may_set_how_much_and_in_which_form(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    Path(FILE_HERE).write_text("json = true\n[deadletters.list]\nlimit = 3\n", encoding="utf-8")
    assert run(decision_ledger.app, ["status", "--ledger", str(made.folder)]) == 0
    shared.json = False
    assert json.loads(capsys.readouterr().out)["events"] == 3
    assert "ledger" not in HARMLESS


def test_the_users_own_file_is_below_the_named_one(made: Made, tmp_path: Path) -> None:
    own = config_folder() / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("ledger = 'mine'\n[sql]\nseconds = 5\nformat = 'csv'\n", encoding="utf-8")
    named = tmp_path / "named.toml"
    named.write_text("[sql]\nformat = 'json'\n", encoding="utf-8")
    assert settings(PROGRAM) == {"ledger_": "mine", "sql": {"seconds": 5, "format_": "csv"}}
    assert settings(PROGRAM, named) == {"ledger_": "mine", "sql": {"seconds": 5, "format_": "json"}}
    own.write_text("[sql]\ncolour = 1\n", encoding="utf-8")
    assert run(decision_ledger.app, ["status", "--ledger", str(made.folder)]) == 2


@pytest.mark.parametrize("data", [b"\xff", b"a = ", b"x" * (MAX_CONFIG_BYTES + 1), None])
def test_a_file_that_is_none_is_said_in_a_sentence(
    data: bytes | None, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    if data is not None:
        path.write_bytes(data)
    assert run(decision_ledger.app, ["--config", str(path), "status", "--ledger", str(made.folder)]) == 2
    assert capsys.readouterr().err.startswith("decision-ledger: The configuration file")


def test_a_sample_says_that_it_is_one_and_is_never_nothing(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["verify", "--ledger", str(made.folder), "--sample"]
    for wrong in ("0", "-1"):
        assert run(decision_ledger.app, [*line, wrong]) == 2
    assert run(decision_ledger.app, [*line, "1"]) == 0
    out = capsys.readouterr().out
    assert "sampled: 1 of 3 files" in out
    assert "(sampled)" in out


def test_a_head_is_saved_over_a_head_alone(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["verify", "--ledger", str(made.folder), "--save-head", "head"]
    assert [run(decision_ledger.app, line) for _ in range(2)] == [0, 0]
    Path("head").write_bytes(b"precious")
    assert run(decision_ledger.app, line) == 2
    assert Path("head").read_bytes() == b"precious"
