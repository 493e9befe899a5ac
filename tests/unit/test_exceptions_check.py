"""The gate over a file of exceptions: what it finds, on which line, and how it says so."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import decision_ledger
from issuer.registry.exceptions import RULES, ExceptionRecord, check
from issuer.registry.faults import sarif
from ledger.console import run
from ledger.errors import UsageError
from ledger.settings.yaml_file import parse_yaml

ROOT = Path(__file__).parents[2]
GOOD: dict[str, Any] = {
    "id": "exc-1",
    "reason": "the payment provider is down and refunds must go out by hand",
    "owner": "user:carol",
    "approved_by": "user:dan",
    "principal": "agent:production/refunds",
    "scopes": ["payment:refund"],
    "resource": "payment:4711",
    "environment": "production",
    "impact": "high",
    "opened_at": "2026-11-25T10:00:00Z",
    "expires_at": "2026-11-25T18:00:00+01:00",
    "review_due_at": "2026-11-27T10:00:00Z",
    "ticket": "INC-1",
}
Change = Callable[[dict[str, Any]], Any]


def found(change: Change) -> list[str]:
    record = copy.deepcopy(GOOD)
    change(record)
    document = parse_yaml(yaml.safe_dump({"exceptions": [record]}).encode(), "x.yml")
    return [fault.rule for fault in check(document)[1]]


def test_a_good_exception_passes() -> None:
    assert found(lambda record: None) == []
    assert found(lambda record: record.pop("ticket")) == []


@pytest.mark.parametrize("field", sorted(set(GOOD) - {"ticket"}))
def test_every_field_but_the_ticket_is_needed(field: str) -> None:
    assert found(lambda record: record.pop(field)) == ["missing"]
    assert found(lambda record: record.update({field: None})) == ["invalid"]
    assert found(lambda record: record.update({field: ""})) == ["invalid"]


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        (lambda r: r.update(expires_at="2026-11-28T10:00:01Z"), ["too-long"]),
        (lambda r: r.update(expires_at="2026-11-28T10:00:00Z"), []),
        (lambda r: r.update(expires_at="2026-11-25T10:00:00Z"), ["order"]),
        (lambda r: r.update(review_due_at="2026-12-02T17:00:01Z"), ["review-late"]),
        (lambda r: r.update(review_due_at="2026-12-02T17:00:00Z"), []),
        (lambda r: r.update(review_due_at="2026-11-25T09:00:00Z"), ["order"]),
        (lambda r: r.update(owner=r["principal"]), ["own-owner"]),
        (lambda r: r.update(approved_by=r["principal"]), ["own-approval"]),
        (lambda r: r.update(approved_by=r["owner"]), ["own-approval"]),
        (lambda r: r.update(scopes=["payment:*"], impact="low"), ["wildcard"]),
        (lambda r: r.update(resource="payment:*", impact="medium"), ["wildcard"]),
        (lambda r: r.update(scopes=["payment:*"]), []),
        (lambda r: r.update(scopes=[]), ["invalid"]),
        (lambda r: r.update(scopes=[" "]), ["invalid"]),
        (lambda r: r.update(impact="huge"), ["invalid"]),
        (lambda r: r.update(owner="carol"), ["invalid"]),
        (lambda r: r.update(owner="user:"), ["invalid"]),
        (lambda r: r.update(opened_at="2026-11-25T10:00:00"), ["invalid"]),
        (lambda r: r.update(opened_at="2026-11-25"), ["invalid"]),
        (lambda r: r.update(opened_at=1764064800), ["invalid"]),
        (lambda r: r.update(reason=["a"]), ["invalid"]),
        (lambda r: r.update(until="2027-01-01T00:00:00Z"), ["unknown"]),
    ],
)
def test_each_rule_finds_what_it_is_for(change: Change, rules: list[str]) -> None:
    assert found(change) == rules
    assert set(rules) <= set(RULES)


def test_a_fault_names_the_line_of_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exceptions.yml"
    file.write_text(
        "# comment\nexceptions:\n" + "".join(
            f"  {'- ' if name == 'id' else '  '}{name}: {json.dumps(value)}\n"
            for name, value in {**GOOD, "owner": "user:dan", "expires_at": "2026-12-25T10:00:00Z"}.items()
        ) + "  - id: exc-1\n    reason: no\n"
    )  # fmt: skip
    assert run(decision_ledger.app, ["exceptions", "check", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{file}:6: exc-1: its approver is its owner or the principal that it empowers" in lines
    assert f"{file}:13: exc-1: it lives longer than 72 hours" in lines
    assert f"{file}:16: exc-1: owner is missing" in lines
    assert run(decision_ledger.app, ["exceptions", "check", str(file), "--max-hours", "9999"]) == 1
    assert "9999" not in capsys.readouterr().out


def test_two_with_one_id_and_a_section_too_many() -> None:
    document = parse_yaml(
        yaml.safe_dump({"exceptions": [GOOD, copy.deepcopy(GOOD)], "excptions": []}).encode(), "x.yml"
    )
    records, faults = check(document)
    assert len(records) == 2
    assert sorted(fault.rule for fault in faults) == ["twice", "unknown-section"]


def test_answers_are_text_json_or_sarif(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exceptions.yml"
    file.write_text(yaml.safe_dump({"exceptions": [{**GOOD, "owner": GOOD["principal"]}]}))
    assert run(decision_ledger.app, ["exceptions", "check", str(file), "--format", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [one["rule"] for one in answer["faults"]] == ["own-owner"]
    assert run(decision_ledger.app, ["exceptions", "check", str(file), "--format", "sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    result = log["runs"][0]["results"][0]
    assert result["ruleId"] == "own-owner"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": answer["faults"][0]["line"]}
    file.write_text(yaml.safe_dump({"exceptions": [GOOD]}))
    assert run(decision_ledger.app, ["exceptions", "check", str(file)]) == 0
    assert "1 exceptions, nothing" in capsys.readouterr().out
    assert run(decision_ledger.app, ["exceptions", "check", str(file), "--format", "xml"]) == 2
    assert run(decision_ledger.app, ["exceptions", "check", str(tmp_path / "none.yml")]) == 2
    assert run(decision_ledger.app, ["exceptions", "check", str(tmp_path)]) == 2


def test_every_rule_of_the_report_has_its_sentence() -> None:
    document = parse_yaml(b"exceptions: []", "x.yml")
    driver = sarif(document, [], tool="t", rules=RULES)["runs"][0]["tool"]["driver"]
    assert {rule["id"] for rule in driver["rules"]} == set(RULES)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"exceptions: 1", b"exceptions", b"\xff", b"a: [", b"a: 1\na: 2", b"? [a]\n: 1",
        b"exceptions: !!python/object:os.system {}", b"exceptions: &a [*a]", b"exceptions: [" + b"[" * 5000,
        b"a: &x 1\nb: *x", b"x" * (5 << 20), b"--- 1\n--- 2\n", b"exceptions: !!set {a}",
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_list_is_unusable(data: bytes) -> None:
    with pytest.raises(UsageError):
        check(parse_yaml(data, "x.yml"))


def test_a_word_stays_a_word() -> None:
    document = parse_yaml(
        b"a: no\nb: 2026-11-25\nc: 1_0\nd: 0x1F\ne: '12'\nf: 12\ng: ~\nh: 1e3\ni: on", "x.yml"
    )
    assert document.value == {
        "a": "no", "b": "2026-11-25", "c": "1_0", "d": "0x1F", "e": "12", "f": 12, "g": None, "h": 1e3,
        "i": "on",
    }  # fmt: skip
    assert document.line(("f",)) == 6


def test_the_schema_accepts_what_the_gate_accepts() -> None:
    schema = ExceptionRecord.model_json_schema()
    jsonschema.validate(GOOD, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**GOOD, "impact": "huge"}, schema)


def test_the_standard_names_every_field_and_rule_and_its_example_passes() -> None:
    page = (ROOT / "docs/exception-standard.md").read_text("utf-8")
    for name in (*ExceptionRecord.model_fields, *RULES):
        assert f"`{name}`" in page, name
    example = page.partition("```yaml\n")[2].partition("```")[0]
    records, faults = check(parse_yaml(example.encode(), "example"))
    assert (len(records), faults) == (1, [])
