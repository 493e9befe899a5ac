"""The variable and the configuration key of an option are its long name, for every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import UsageError
from ledger.settings.option_names import command_of, commands, config_key, defaults, is_setting, variable

PROGRAM = command_of(decision_ledger.app)
SHARED_VARIABLES = {
    "--ledger": "DECISION_LEDGER_URL", "--key": "DECISION_LEDGER_KEY",
    "--state": "DECISION_LEDGER_ISSUER_STATE",
}  # fmt: skip
OPTIONS = [
    (words, option)
    for words, command in [((), PROGRAM), *commands(PROGRAM)]
    for option in command.params
    if is_setting(option)
]
NAMES = [" ".join([*words, option.opts[-1]]) for words, option in OPTIONS]


@pytest.mark.parametrize(("words", "option"), OPTIONS, ids=NAMES)
def test_an_option_goes_by_its_long_name_everywhere(words: tuple[str, ...], option: Any) -> None:
    (long,) = [name for name in option.opts if name.startswith("--")]
    plain = "_".join(["DECISION_LEDGER", *words, long[2:]]).replace("-", "_").upper()
    assert variable(words, option) == SHARED_VARIABLES.get(long, plain)
    assert option.envvar == variable(words, option)
    assert config_key(words, option) == ".".join([*words, long[2:]])
    value: Any = {long[2:].replace("-", "_"): "x"}
    expected: Any = {option.name: "x"}
    for word in reversed(words):
        value, expected = {word: value}, {word: expected}
    assert defaults(PROGRAM, value, "file") == expected


@pytest.mark.parametrize(
    "config", [{"as_json": True}, {"sql": {"format_": "csv"}}, {"nowhere": {}}, {"sql": 1}, {"json": {}}]
)
def test_a_key_that_names_no_option_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="unknown setting"):
        defaults(PROGRAM, config, "decision-ledger.toml")


def test_variables_and_the_file_reach_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(decision_ledger.app, ["init", "--origin", "test.example/names"]) == 0
    capfd.readouterr()
    monkeypatch.setenv("DECISION_LEDGER_SQL_FORMAT", "csv")
    assert run(decision_ledger.app, ["sql", "SELECT 1 AS one"]) == 0
    assert capfd.readouterr().out == "one\n1\n"
    monkeypatch.delenv("DECISION_LEDGER_SQL_FORMAT")
    file = tmp_path / "mine.toml"
    file.write_text('[sql]\nformat = "csv"\n')
    for line in (
        ["--config", str(file), "sql", "SELECT 1 AS one"],
        [f"--config={file}", "sql", "SELECT 1 AS one"],
    ):
        assert run(decision_ledger.app, line) == 0
        assert capfd.readouterr().out == "one\n1\n"
    monkeypatch.setenv("DECISION_LEDGER_CONFIG", str(file))
    assert run(decision_ledger.app, ["sql", "SELECT 1 AS one"]) == 0
    assert capfd.readouterr().out == "one\n1\n"
    file.write_text('[evidence.tlog-proof]\noutput = "there"\n')
    assert run(decision_ledger.app, ["evidence", "tlog-proof", "none"]) == 2
    assert "event" in capfd.readouterr().err


def test_the_default_ledger_is_no_folder_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ledger").mkdir()
    assert run(decision_ledger.app, ["init", "--origin", "test.example/x"]) == 0
    assert run(decision_ledger.app, ["status"]) == 0
    assert Path("decision-ledger/ledger.json").is_file()
    assert not list(Path("ledger").iterdir())
