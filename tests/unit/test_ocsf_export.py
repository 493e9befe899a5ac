"""Events in the classes of OCSF: what each class asks for is there, and nothing empty."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from decision_ledger import app
from detections.delivery.ocsf_events import CLASS_OF, activity
from ledger.errors import UsageError
from ledger.events import KINDS
from tests.making import NOON, make_ledger, row, stretch

ALWAYS = {"class_uid", "category_uid", "activity_id", "type_uid", "time", "severity_id", "metadata"}


def made(kind: str, **more: Any) -> dict[str, Any]:
    event = {"event_id": "e1", "kind": kind, "time": NOON, "source": "opa/todo", **more}
    found = activity(event)
    assert found is not None
    assert set(found) >= ALWAYS
    assert found["type_uid"] == found["class_uid"] * 100 + found["activity_id"]
    assert found["time"] == int(NOON.timestamp() * 1_000)
    assert None not in found.values()
    return found


def test_a_decision_is_an_api_activity_by_an_agent_for_somebody() -> None:
    found = made(
        "decision", actor="user:beth", delegated_actor="agent:planner", action="invoice:update",
        resource="invoice:7", decision="deny", reason="limit", policy_id="p", policy_version="3",
        client_ip="192.0.2.1", user_agent="sdk/1", trace_id="ab" * 16, tenant="acme", request_id="r1",
        session_id="s1", session_expires_at=NOON,
    )  # fmt: skip
    assert (found["class_uid"], found["activity_id"], found["severity_id"]) == (6003, 3, 2)
    assert (found["action_id"], found["status_id"], found["status_detail"]) == (2, 2, "limit")
    assert found["actor"]["user"] == {"uid": "agent:planner", "name": "planner"}
    assert found["actor"]["invoked_by"] == "user:beth"
    assert found["actor"]["authorizations"] == [{"decision": "deny", "policy": {"uid": "p", "version": "3"}}]
    assert found["actor"]["session"] == {"uid": "s1", "expiration_time": found["time"]}
    assert found["api"]["operation"] == "invoice:update"
    assert found["api"]["request"] == {"uid": "r1"}
    assert found["resources"] == [{"uid": "invoice:7", "type": "invoice"}]
    assert found["src_endpoint"] == {"ip": "192.0.2.1"}
    assert found["http_request"] == {"user_agent": "sdk/1"}
    assert (found["metadata"]["tenant_uid"], found["metadata"]["correlation_uid"]) == ("acme", "ab" * 16)


def test_an_action_without_much_has_what_its_class_asks_for() -> None:
    found = made("action", outcome="succeeded")
    assert (found["activity_id"], found["status_id"], found["src_endpoint"]) == (99, 1, {})
    assert found["api"] == {"operation": "unknown", "service": {}, "request": {"uid": "e1"}}
    assert "action_id" not in found


def test_an_issuance_is_a_ticket_and_a_session_begins_and_ends() -> None:
    found = made(
        "issuance", actor="user:beth", decision="allow", credential_id="c1", credential_type="session",
        issued_at=NOON, expires_at=NOON + timedelta(minutes=5), audience="payments",
    )  # fmt: skip
    assert (found["class_uid"], found["activity_id"], found["status_id"]) == (3002, 3, 1)
    assert found["authentication_token"]["expiration_time"] - found["time"] == 300_000
    assert found["service"] == {"name": "payments"}
    assert "src_endpoint" not in found
    for outcome, number, status in (("started", 1, 1), ("failed", 1, 2), ("ended", 2, 1), ("odd", 99, 1)):
        session = made("session", outcome=outcome, session_id="s1")
        assert (session["activity_id"], session["status_id"]) == (number, status)


def test_a_grant_assigns_privileges() -> None:
    found = made("delegation", outcome="opened", grant_id="g1", grant_covers=["tenant:b"], roles=["dba"])
    assert (found["class_uid"], found["activity_id"], found["privileges"]) == (3003, 1, ["tenant:b"])
    assert found["iam_roles"] == [{"name": "dba"}]
    assert made("delegation", outcome="closed")["activity_id"] == 99


def test_other_kinds_have_no_class() -> None:
    for kind in set(KINDS) - set(CLASS_OF):
        assert activity({"event_id": "e", "kind": kind, "time": NOON, "source": "s"}) is None


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    one = make_ledger(tmp_path)
    kinds = ("decision", "issuance", "delegation", "policy", "heartbeat", "action")
    rows = [row(n, kind=kind, time=NOON - timedelta(minutes=n)) for n, kind in enumerate(kinds)]
    one.writer().commit([stretch(rows)])
    return one.folder


def test_the_command_writes_lines_in_order_and_counts_the_rest(ledger: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["export", "ocsf", "--ledger", str(ledger)])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [one["class_uid"] for one in lines] == [6003, 3003, 3002, 6003]
    assert [one["time"] for one in lines] == sorted(one["time"] for one in lines)
    assert "No class says what these say: 1 heartbeat, 1 policy" in result.stderr
    file = tmp_path / "grants.jsonl"
    result = runner.invoke(
        app,
        ["export", "ocsf", "--ledger", str(ledger), "--class", "3003", "--class", "2004", "-o", str(file)],
    )
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["class_uid"] for line in file.read_text().splitlines()] == [3003]
    refused = runner.invoke(app, ["export", "ocsf", "--ledger", str(ledger), "--class", "1"])
    assert isinstance(refused.exception, UsageError)
