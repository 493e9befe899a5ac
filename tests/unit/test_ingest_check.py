"""`ingest check` and `--explain`: where fields come from, what a sample gives, what stays blind."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from decision_ledger import app
from ingest.adapters import adapter, field_map, grade
from ingest.defaults import FORMATS
from ingest.explaining import explained, grade_of
from tests.adapting import events
from tests.foreign_shapes import CERBOS, CLOUDEVENTS, OPA, SHAPES


def checked(path: Path, *arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["ingest", "check", str(path), "--json", *arguments])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_a_sample_tells_fields_grades_and_what_stays_blind(tmp_path: Path) -> None:
    sample, intake = tmp_path / "s.jsonl", tmp_path / "i.toml"
    odd = {**OPA, "decision_id": "d2", "result": {"verdict": "fine"}}
    sample.write_text("\n".join(json.dumps(one) for one in (OPA, odd)))
    intake.write_text('[options.fields]\ntenant = "/input/context/tenant"\npep = { const = "gateway" }\n')
    found = checked(sample, "--format", "opa", "--intake", str(intake))
    assert (found["messages"], found["events"], found["kinds"]) == (2, 2, {"decision": 2})
    assert (found["decisions"], found["unmapped"]) == ({"allow": 1, "error": 1}, 1)
    assert (found["grades"], found["grade_can_reach"]) == ({"3": 2}, 3)
    assert found["fields"]["actor"] == 2
    assert "delegated_actor" in found["empty"]
    origins = {one["field"]: one["pointer"] for one in found["from"]}
    assert origins["event_id"] == "/decision_id"
    assert origins["tenant"] == "the intake's file: /input/context/tenant"
    assert origins["pep"] == "the intake's file: a word"
    assert origins["trace_id"] == "/request_context/http/headers/Traceparent"
    assert origins["kind"] == "the format"
    rules = {one["id"]: one for one in found["rules"]}
    assert rules["repeated-denies"]["works"]
    assert rules["cross-tenant-attempts"]["missing"] == ["resource_tenant"]
    assert "issuance events" in rules["scope-inflation"]["missing"]
    metrics = {one["id"]: one for one in found["metrics"]}
    assert metrics["decision-log-completeness"]["works"]
    assert "exception events" in metrics["exception-half-life"]["missing"]


def test_a_rejected_line_and_what_the_intake_may_not_deliver_end_with_one(tmp_path: Path) -> None:
    sample, intake = tmp_path / "s.jsonl", tmp_path / "i.toml"
    sample.write_text(json.dumps(OPA) + "\n{}\n")
    found = checked(sample, "--format", "opa", code=1)
    assert found["rejected"] == [{"line": 2, "reason": "missing", "field": "event_id"}]
    intake.write_text('[intake]\nsources = ["other/*"]\n')
    sample.write_text(json.dumps(OPA))
    (one,) = checked(sample, "--format", "opa", "--intake", str(intake), code=1)["rejected"]
    assert one["field"] == "source"


def test_plain_text_says_the_same(tmp_path: Path) -> None:
    sample = tmp_path / "s.jsonl"
    sample.write_text(json.dumps(CERBOS))
    text = CliRunner().invoke(app, ["ingest", "check", str(sample), "--format", "cerbos"]).stdout
    assert "1 messages gave 2 events; 0 rejected." in text
    assert "actor" in text
    assert "/checkResources/inputs/0/principal/id" in text
    assert "Context grades: 2 1, 3 1" in text or "Context grades: " in text
    assert "blind: no " in text
    assert "repeated-denies" in text


@pytest.mark.parametrize("format_", sorted(SHAPES))
def test_every_field_of_every_format_has_an_origin(format_: str) -> None:
    message = json.dumps(SHAPES[format_]).encode()
    for event in events(format_, message):
        told = {one["field"]: one["from"] for one in explained(format_, {}, event, message)}
        assert told["event_id"].startswith("/"), told
        assert told["time"].startswith("/"), told
        # Only what the format itself decides comes from nowhere in the message.
        made = {name for name, origin in told.items() if origin == "the format"}
        assert made <= {"kind", "source", "policy_engine", "decision", "credential_type", "action_type",
                        "outcome", "attributes", "reason"}, made  # fmt: skip


def test_around_another_format_pointers_lead_beneath_data() -> None:
    message = json.dumps(CLOUDEVENTS).encode()
    (event,) = events("cloudevents", message)
    told = {one["field"]: one["from"] for one in explained("cloudevents", {}, event, message)}
    assert (told["actor"], told["event_id"], told["trace_id"]) == ("/data/actor", "/id", "/traceparent")


def test_grades() -> None:
    event: dict[str, Any] = {}
    for grade_, names in enumerate((("action", "resource", "decision"), ("policy_version",), ("attributes",),
                                    ("policy_digest",))):  # fmt: skip
        assert grade_of(event) == grade_
        event |= dict.fromkeys(names, "x")
    assert grade_of(event) == 4
    for name in FORMATS:
        assert 0 <= grade(name) <= 4
        assert field_map(name)
        assert adapter(name).name == name


def test_ingest_explains_its_first_event(tmp_path: Path) -> None:
    sample, ledger = tmp_path / "s.jsonl", tmp_path / "ledger"
    sample.write_text("not JSON\n" + json.dumps({**OPA, "timestamp": datetime.now(UTC).isoformat()}))
    runner = CliRunner()
    runner.invoke(app, ["init", "--origin", "test.example/e", "--ledger", str(ledger)])
    result = runner.invoke(
        app,
        ["ingest", "file", str(sample), "--format", "opa", "--explain", "--ledger", str(ledger)],
    )
    assert result.exit_code == 0, result.output
    assert "The first event, read as opa:" in result.stderr
    assert "/decision_id" in result.stderr
    assert OPA["decision_id"] in result.stderr


def test_a_sample_may_be_packed_and_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    event = {"event_id": "e", "kind": "task", "time": "2026-11-23T10:00:00Z", "source": "s"}
    text = b"\n\n" + json.dumps(event).encode() + b"\n\nhello\n" + b"x" * 2_000_000 + b"\n"
    packed = tmp_path / "sample.jsonl.gz"
    packed.write_bytes(gzip.compress(text))
    told = checked(packed, code=1)
    assert (told["messages"], told["events"]) == (3, 1)
    assert [one["line"] for one in told["rejected"]] == [5, 6]
    assert told["rejected"][1]["reason"].startswith("too long: 2000000 bytes")
