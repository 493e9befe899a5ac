"""The identity map over rows whose flags were worked out by hand."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run, shared
from tests.making import NOON, Made, make_ledger, row, stretch

OWNERSHIP = """\
ownership:
  - {id: "agent:a", owner: "user:o", system: s, purposes: [p], environment: production, credential_type: jwt}
  - {id: "agent:gone", owner: "user:o", system: s, purposes: [p], environment: production, credential_type: x}
  - {id: "agent:b", owner: "user:o", system: s, purposes: [p], environment: staging, credential_type: jwt}
"""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    held = {
        "scopes": ["ticket:*", "payment:send"],
        "required_scopes": ["ticket:read"],
        "environment": "production",
    }
    rows = [
        row(0, kind="action", delegated_actor="agent:a", **held),
        row(1, kind="action", delegated_actor="agent:b", environment="production", credential_type="session"),
        row(2, kind="action", delegated_actor="agent:x", environment="production", credential_type="static"),
        row(3, kind="action", delegated_actor="agent:x", environment="staging"),
        row(4, kind="action", actor="user:u", environment="staging"),
        row(5, kind="action", actor="user:u", environment="production"),
        row(6, kind="action", delegated_actor="agent:old", time=NOON - timedelta(days=40)),
        row(7, kind="issuance", delegated_actor="agent:a", audience="tool:t", source="broker",
            delegation=["user:u", "agent:a"], credential_type="capability"),
        row(8, kind="issuance", decision="deny", audience="tool:t", actor="user:u"),
    ]  # fmt: skip
    made.writer().commit([stretch(rows)])
    file = tmp_path / "ownership.yml"
    file.write_text(OWNERSHIP)
    line = [
        "config",
        "load",
        "ownership",
        str(file),
        "--ledger",
        str(made.folder),
        "--key",
        str(made.key.path),
    ]
    assert run(decision_ledger.app, line) == 0
    return made


def _listed(made: Made, capsys: pytest.CaptureFixture[str], *more: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    shared.json = False
    line = ["identities", "list", "--json", "--ledger", str(made.folder), "--at", "2", *more]
    assert run(decision_ledger.app, line) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_what_needs_a_look_comes_first_and_says_why(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    shared.json = False
    capsys.readouterr()
    assert run(decision_ledger.app, ["identities", "list", "--json", "--ledger", str(made.folder),
                                     "--days", "3650"]) == 0  # fmt: skip
    found = {one["principal"]: one for one in json.loads(capsys.readouterr().out)}
    assert [*found] == ["agent:x", "agent:old", "agent:gone", "agent:b", "agent:a", "user:u"]
    assert found["agent:x"]["flags"] == ["unowned", "shared", "static"]
    assert found["agent:gone"]["flags"] == ["dormant"]
    assert found["agent:b"]["flags"] == ["elsewhere"]
    assert found["agent:a"]["flags"] == ["unused-scopes"]
    assert found["agent:a"]["unused_scopes"] == ["payment:send"]
    assert found["agent:a"]["acts_for"] == ["user:u"]
    assert (found["agent:a"]["owner"], found["user:u"]["flags"]) == ("user:o", [])


def test_as_of_a_size_nothing_later_counts(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    found = {one["principal"]: one for one in _listed(made, capsys)}
    assert found["agent:old"]["flags"] == ["unowned", "dormant"]
    assert "unowned" in found["agent:a"]["flags"]  # the ownership was sealed after that


def test_the_paths_of_credentials(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.writer().commit(
        [stretch([row(9, kind="issuance", decision="deny", audience="tool:t", actor="user:u")], 8)]
    )
    (path,) = _listed(made, capsys, "--paths")
    assert (path["issuer"], path["principal"], path["tool"], path["issued"]) == (
        "broker",
        "agent:a",
        "tool:t",
        1,
    )
