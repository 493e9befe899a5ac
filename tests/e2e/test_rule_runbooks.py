"""Every rule has a runbook, and what it tells a responder to run works on a ledger where the rule fired."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import rfc8785

import decision_ledger
from detections.alerting.standing import alerts_of
from detections.engine import Engine
from detections.rulebook.rule import Rule
from detections.rulebook.rule_files import rule_document, shipped_rules
from detections.trial import BEGIN, QUIET, log_of
from ledger.config_cli import seal_config
from ledger.console import run
from ledger.reader import Ledger
from ledger.settings.option_names import command_of, commands
from tests.making import Made, make_ledger, stretch

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
RULES = {rule.id: rule for rule in shipped_rules()}
COMMANDS = {" ".join(words) for words, _ in commands(command_of(decision_ledger.app))}


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _fired(place: Path, rule: Rule) -> Made:
    """A ledger with the events of the rule's first positive test, judged by the engine."""
    made = make_ledger(place)
    test = next(one for one in rule.tests if one.alerts and not one.configs)
    made.clock.now = BEGIN
    writer, start = made.writer(), 0
    seal_config(writer, "rules", rfc8785.dumps([rule_document(rule)]))
    for table in log_of(rule.id, test).tables.values():
        rows = [
            {name: value for name, value in row.items() if value is not None} for row in table.to_pylist()
        ]
        made.clock.now = max(row["time"] for row in rows)
        writer.commit([stretch(rows, start)])
        start += len(rows)
    made.clock.advance(QUIET.total_seconds())
    writer.tick()
    engine = Engine(made.writer(name="engine", remember=False), memory={"threads": 1})
    while engine.run() is not None:
        pass
    engine.close()
    return made


@pytest.mark.parametrize("rule_id", RULES)
def test_a_runbook_finds_what_its_rule_found(
    rule_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = _fired(tmp_path, RULES[rule_id])
    text = (RUNBOOKS / RULES[rule_id].runbook).read_text(encoding="utf-8")
    with Ledger.open(str(made.folder), remember=False) as ledger:
        alerts = [one for one in alerts_of(ledger) if one["engine_state"] != "withdrawn"]
        assert alerts
        statements = _blocks(text, "sql")
        assert len(statements) == 2
        for statement in statements:
            assert ledger.sql(statement).num_rows, statement
    lines = [line.partition("#")[0] for block in _blocks(text, "sh") for line in block.splitlines()]
    assert len(lines) == 4
    for line in lines:
        words = [alerts[0]["alert_id"] if word == "…" else word for word in shlex.split(line)[1:]]
        key = ["--key", str(made.key.path)] if words[1] in {"resolve", "dismiss"} else []
        assert run(decision_ledger.app, [*words, "--ledger", str(made.folder), *key]) == 0, line
    assert rule_id in capsys.readouterr().out


@pytest.mark.parametrize("rule_id", RULES)
def test_a_runbook_says_what_to_decide_how_to_contain_and_names_commands_that_exist(rule_id: str) -> None:
    text = (RUNBOOKS / RULES[rule_id].runbook).read_text(encoding="utf-8")
    for part in ("You see", "It means", "Query.", "Decide", "Contain", "It is over"):
        assert f"**{part}**" in text
    for line in re.findall(r"decision-ledger ([a-z][^`\n]*)", text):
        words = [word for word in line.split() if re.fullmatch(r"[a-z][a-z-]*", word)]
        assert any(" ".join(words[:count]) in COMMANDS for count in (3, 2, 1)), line
