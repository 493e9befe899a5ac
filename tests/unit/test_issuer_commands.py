"""The commands that change an issuer's state beside its services: policies, exceptions, revocation, keys."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from issuer.policy.bundle import read_bundle
from issuer.state.database import FILE, Database
from issuer.state.outbox import next_events
from issuer.state.signals import signals_after
from ledger.console import run


@pytest.fixture
def state(company: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "company"
    shutil.copytree(company, folder)
    Database(folder / FILE).close()
    return folder


def do(*words: str | Path, code: int = 0) -> None:
    assert run(decision_ledger.app, [str(word) for word in words]) == code


def events(state: Path) -> list[dict[str, Any]]:
    db = Database(state / FILE)
    found = [json.loads(text) for _, text in next_events(db, 1_000)]
    db.close()
    return found


def second(state: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "agents-2"
    for path, data in read_bundle(state / "policies/agents-1").files.items():
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(data.replace(b'version: "1"', b'version: "2"'))
    return folder


def test_policies_are_activated_and_rolled_back_in_one_command_each(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, other = state / "policies/agents-1", second(state, tmp_path)
    at = ("--state", state)
    do("issuer", "policy", "rollback", "--reason", "x", *at, code=2)
    do("issuer", "policy", "activate", first, *at)
    do("issuer", "policy", "activate", first, *at, code=2)  # it is active
    do("issuer", "policy", "activate", other, *at, code=2)  # nobody has reviewed it
    assert "Nobody but its author" in capsys.readouterr().err
    do("issuer", "policy", "review", other, "--reviewer", "user:dan", *at)
    do("issuer", "policy", "activate", other, "--reason", "tighter", *at)
    do("issuer", "policy", "rollback", "--reason", "denies refunds", "--approval-id", "CHG-7", *at)
    do("issuer", "policy", "rollback", "--to", "9", "--reason", "x", *at, code=2)
    do("issuer", "policy", "rollback", "--to", "2", "--reason", "again", *at)
    capsys.readouterr()
    do("issuer", "policy", "history", *at, "--json")
    lines = json.loads(capsys.readouterr().out)
    assert [(line["version"], line["outcome"]) for line in lines] == [
        ("1", "activated"), ("2", "activated"), ("1", "rolled_back"), ("2", "rolled_back"),
    ]  # fmt: skip
    assert lines[2]["approval_id"] == "CHG-7"
    do("issuer", "policy", "history", *at)
    assert "denies refunds" in capsys.readouterr().out
    told = events(state)
    assert [event["kind"] for event in told] == ["policy"] * 4
    assert [event.get("previous_policy_version") for event in told] == [None, "1", "2", "1"]


def test_a_bundle_whose_tests_fail_is_not_activated(state: Path, tmp_path: Path) -> None:
    folder = second(state, tmp_path)
    path = folder / "scenarios/work.yml"
    path.write_bytes(path.read_bytes().replace(b"expect: allow", b"expect: deny", 1))
    do("issuer", "policy", "review", folder, "--reviewer", "user:dan", "--state", state)
    do("issuer", "policy", "activate", folder, "--state", state, code=2)
    assert events(state) == []


def test_an_exception_is_opened_extended_closed_and_reviewed(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    record = {
        "id": "exc-1", "reason": "provider down", "owner": "user:carol", "approved_by": "user:dan",
        "principal": "agent:production/refund-runner", "scopes": ["payment:refund"],
        "resource": "payment:8842", "environment": "production", "impact": "high",
        "opened_at": now.isoformat(), "expires_at": (now + timedelta(hours=2)).isoformat(),
        "review_due_at": (now + timedelta(days=1)).isoformat(), "ticket": "INC-1",
    }  # fmt: skip
    file = tmp_path / "exceptions.yml"
    file.write_text(json.dumps({"exceptions": [record, {**record, "id": "exc-2", "owner": "user:dan"}]}))
    at = ("--state", state)
    do("issuer", "exception", "open", file, "exc-1", *at)
    do("issuer", "exception", "open", file, "exc-1", *at, code=2)
    do("issuer", "exception", "open", file, "exc-2", *at, code=2)  # its owner approved it
    do("issuer", "exception", "open", file, "none", *at, code=2)
    do("issuer", "exception", "extend", "exc-1", "--hours", "1", "--approved-by", "user:dan", *at)
    do("issuer", "exception", "extend", "exc-1", "--hours", "99", "--approved-by", "user:dan", *at, code=2)
    do("issuer", "exception", "extend", "exc-1", "--hours", "1", "--approved-by", "user:carol", *at, code=2)
    do("issuer", "exception", "close", "exc-1", *at)
    do("issuer", "exception", "close", "exc-1", *at, code=2)
    do("issuer", "exception", "extend", "exc-1", "--hours", "1", "--approved-by", "user:dan", *at, code=2)
    agent = "agent:production/refund-runner"
    do("issuer", "exception", "review", "exc-1", "--reviewer", agent, "--comment", "fine", *at, code=2)
    do("issuer", "exception", "review", "exc-1", "--reviewer", "user:grace", "--comment", "two refunds", *at)
    do("issuer", "exception", "review", "none", "--reviewer", "user:grace", "--comment", "x", *at, code=2)
    told = events(state)
    assert [(event["kind"], event["outcome"]) for event in told] == [
        ("exception", "opened"), ("exception", "extended"), ("exception", "closed"),
        ("exception", "reviewed"), ("review", "reviewed"),
    ]  # fmt: skip
    assert told[1]["expires_at"] > told[0]["expires_at"]
    assert told[3]["comment"] == "two refunds"
    assert all(event["owner"] == "user:carol" for event in told)


def test_revocation_and_rotation_reach_the_stream(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--state", state)
    do("issuer", "revoke", "agent:production/payment-runner", "--reason", "key lost", *at)
    for target in ("session:none", "credential:none", "x", ":"):
        do("issuer", "revoke", target, "--reason", "x", *at, code=2)
    do("issuer", "rotate", *at)
    do("issuer", "rotate", "--compromised", *at)
    do("issuer", "rotate", "--purpose", "x", *at, code=2)
    do("issuer", "revoke", "user:x", "--reason", "x", "--state", state / "none", code=2)
    db = Database(state / FILE)
    signals = signals_after(db, 0, 10)
    db.close()
    assert [(one.target, one.cause) for one in signals] == [
        ("agent:production/payment-runner", "revocation"), ("key:broker", "key_replaced"),
    ]  # fmt: skip
    told = events(state)
    assert [event["kind"] for event in told] == ["signal", "revocation", "revocation"]
    assert len(told[2]["attributes"]["dropped"]) == 2
    capsys.readouterr()


def test_the_model_serves_this_machine_alone(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    do("issuer", "serve", "--state", state, "--host", "0.0.0.0", code=2)  # noqa: S104 - it must be refused
    assert "0.0.0.0 can be reached by others" in capsys.readouterr().err
