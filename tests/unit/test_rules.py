"""The rules that come with the product, judged by the tests inside them and by what a rule's text may say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import jsonschema
import pytest

import decision_ledger
from detections.recall.views import DERIVED, VIEWS
from detections.rulebook.bound_rule import OPTIONAL, bind
from detections.rulebook.rule import Rule
from detections.rulebook.rule_files import read_rules, shipped_rules
from detections.rulebook.rule_sql import AGGREGATES, ORDERED, SCALARS, check_rule_query
from detections.trial import try_rule
from ledger.console import run
from ledger.errors import UsageError
from ledger.settings.yaml_file import read_yaml
from tests.making import make_ledger

DOCS = Path(__file__).parents[2] / "docs"
RULES = {rule.id: rule for rule in shipped_rules()}


@pytest.mark.parametrize("rule_id", RULES)
def test_every_test_inside_a_shipped_rule_passes(rule_id: str) -> None:
    verdicts = try_rule(RULES[rule_id])
    assert [(one.name, one.problems) for one in verdicts if not one.passed] == []


def test_a_rule_file_bears_the_name_of_its_rule() -> None:
    folder = Path(__file__).parents[2] / "detections" / "rules"
    assert {path.stem for path in folder.glob("*.yml")} == {*RULES}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT now() AS time FROM events", "the function now"),
        ("SELECT current_timestamp AS time FROM events", "current_timestamp"),
        ("SELECT 'today'::TIMESTAMPTZ AS time FROM events", "'today'"),
        ("SELECT random() AS x FROM events", "the function random"),
        ("SELECT time FROM events LIMIT 3", "LIMIT"),
        ("SELECT time FROM events ORDER BY time", "ORDER BY"),
        ("SELECT * FROM events", "list of columns"),
        ("SELECT any_value(ref) FROM events", "any_value"),
        ("SELECT count(*) OVER (ORDER BY time ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) FROM events", "ROWS"),
        ("SELECT lag(ref) OVER (ORDER BY time) FROM events", "may tie"),
        ("SELECT row_number() OVER (ORDER BY time, source, event_id) FROM events", "row_number"),
        ("SELECT DISTINCT ON (ref) ref FROM events", "DISTINCT ON"),
        ("SELECT ref FROM events TABLESAMPLE 10%", "sample"),
        ("WITH RECURSIVE t AS (SELECT 1 AS x UNION ALL SELECT x FROM t) SELECT x FROM t", "refers to itself"),
        ("SELECT conflict FROM events", "conflict"),
        ("SELECT x FROM read_csv('/etc/passwd')", ""),
        ("SELECT ref FROM alerts", ""),
        ("DELETE FROM events", ""),
    ],
)  # fmt: skip
def test_what_would_make_an_answer_depend_on_more_than_the_events_is_refused(query: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_rule_query(query, duckdb.connect(), VIEWS)
    assert said in refused.value.message


RULE = """\
title: A rule
id: a-rule
description: What it finds.
level: low
suppress: 1h
key: [principal]
runbook: repeated-denies.md
query: SELECT principal, time, ref AS evidence FROM decisions
tests:
  - name: one
    events: [{at: 0s, kind: decision, actor: "user:a"}]
    alerts: [{key: ["user:a"]}]
  - name: none
    events: [{at: 0s, kind: action, actor: "user:a"}]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("level: low", "level: grave", "rule.yml:4: level"),
        ("suppress: 1h", "suppress: 1s", "suppress is at least 1m"),
        ("suppress: 1h", "suppress: 1h\nwindow: 90d", "window is at most"),
        ("suppress: 1h", "suppress: an hour", "written as 90s"),
        ("key: [principal]", "key: [principal, principal]", "twice"),
        ("key: [principal]", "key: [agent]", "no column agent"),
        ("runbook: repeated-denies.md", "runbook: ../secrets.md", "rule.yml:7: runbook"),
        ("evidence FROM", "evidence, 1 AS extra FROM", "extra"),
        ("ref AS evidence", "ref", "no column evidence"),
        ("time, ref", "'x' AS time, ref", "time must be"),
        ("FROM decisions", "FROM decisions WHERE time > $since", "asks for $since"),
        ("FROM decisions", "FROM nowhere", "nowhere"),
        ("level: low", "level: low\nrespond: revoke", "answers with `revoke`"),
        ("level: low", "level: low\nhistory: {look_back: 1d, warm_up: 1h}", "look_back"),
        ('    events: [{at: 0s, kind: action, actor: "user:a"}]', "    events: [{at: 0s, kind: x}]", "kind"),
        ("{at: 0s, kind: action,", "{at: 0s, kid: action,", "no field kid"),
        ('    alerts: [{key: ["user:a"]}]', "", "positive test"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line_and_a_remedy(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    file = tmp_path / "rule.yml"
    assert old in RULE
    file.write_text(RULE.replace(old, new))
    with pytest.raises(UsageError) as refused:
        for rule in read_rules(file):
            bind(rule)
            try_rule(rule)
    assert said in refused.value.message
    assert refused.value.remedy


def test_a_test_that_expects_something_else_is_told_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "rule.yml"
    file.write_text(RULE.replace('key: ["user:a"]', 'key: ["user:b"], count: 2'))
    (rule,) = read_rules(file)
    first, second = try_rule(rule)
    assert second.passed
    assert [line.split(":")[0] for line in first.problems] == ["- missing", "- not expected"]


def test_what_a_rule_finds_decides_its_version_and_its_tests_do_not(tmp_path: Path) -> None:
    file = tmp_path / "rule.yml"
    file.write_text(RULE)
    (first,) = read_rules(file)
    file.write_text(
        RULE.replace("name: one", "name: another").replace("level: low", "state: staging\nlevel: low")
    )
    (same,) = read_rules(file)
    file.write_text(RULE.replace("FROM decisions", "FROM decisions WHERE decision = 'deny'"))
    (other,) = read_rules(file)
    assert first.rule_version == same.rule_version != other.rule_version


def test_the_schema_for_editors_is_that_of_the_code_and_fits_every_shipped_rule() -> None:
    schema = json.loads((DOCS / "schemas" / "rule.json").read_text("utf-8"))
    assert schema == json.loads(json.dumps({**schema, **_described(Rule.model_json_schema())})), (
        "run make docs"
    )
    for path in (DOCS.parent / "detections" / "rules").glob("*.yml"):
        jsonschema.validate(read_yaml(path).value, schema)


def test_the_page_on_rules_names_every_field_view_column_and_function() -> None:
    page = (DOCS / "rules.md").read_text("utf-8")
    named = set(re.findall(r"`([a-z_:…-]+)`", page))
    letters = {name for name in SCALARS | AGGREGATES | ORDERED if re.fullmatch("[a-z_]+", name)}
    assert {*Rule.model_fields, *VIEWS, *DERIVED, *OPTIONAL, "time", "evidence"} - named == set()
    assert letters - named == {"count_star"}


def _described(schema: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in schema.items() if name not in ("title", "description")}


def test_a_rule_that_looks_back_further_than_events_are_kept_is_not_sealed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_ledger(tmp_path)
    short = tmp_path / "classes.toml"
    short.write_text("[standard]\ndays = 7\n")
    where = ["--ledger", str(made.folder)]
    assert run(decision_ledger.app, ["config", "load", "classes", str(short), *where]) == 0
    rule = tmp_path / "rule.yml"
    long = RULE.replace("level: low", "level: low\nhistory: {look_back: 8d, warm_up: 1h}")
    rule.write_text(long)
    capsys.readouterr()
    assert run(decision_ledger.app, ["config", "load", "rules", str(rule), *where]) == 2
    assert "a-rule looks back 8d, and this ledger keeps events of the class standard for 7 days" in (
        capsys.readouterr().err
    )
    rule.write_text(long.replace("8d", "7d"))
    assert run(decision_ledger.app, ["config", "load", "rules", str(rule), *where]) == 0


def test_who_is_an_agent_by_pattern_is_an_agent_to_rules(tmp_path: Path) -> None:
    file = tmp_path / "rule.yml"
    text = RULE.replace("FROM decisions", "FROM events WHERE agentic").replace(
        "tests:\n",
        """\
tests:
  - name: by pattern
    configs: {sources: {"gateway/*": {agentic: true}, kube: {agents: ["user:bot-*"]}}}
    events:
      - {at: 0s, kind: action, actor: "user:a", source: gateway/eu}
      - {at: 1s, kind: action, actor: "user:bot-1", source: kube}
      - {at: 2s, kind: action, actor: "user:c", source: kube}
      - {at: 3s, kind: action, actor: "user:bot-2", source: elsewhere}
    alerts: [{key: ["user:a"]}, {key: ["user:bot-1"]}]
""",
    )
    file.write_text(
        text.replace('kind: decision, actor: "user:a"', 'kind: decision, actor: "agent:a"').replace(
            'alerts: [{key: ["user:a"]}]\n  - name: none', 'alerts: [{key: ["agent:a"]}]\n  - name: none'
        )
    )
    (rule,) = read_rules(file)
    assert [(one.name, one.problems) for one in try_rule(rule) if not one.passed] == []
