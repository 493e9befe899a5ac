"""AuthZEN decision logs: one evaluation, several, and what the answer was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.adapting import attributes, decoded, events
from tests.foreign_shapes import AUTHZEN

ONE: dict[str, Any] = {
    "id": "d-2", "timestamp": "2026-11-23T10:00:00Z", "type": "evaluation",
    "request": {"subject": {"type": "user", "id": "beth"}, "action": {"name": "read"},
                "resource": {"type": "invoice", "id": "7"},
                "context": {"agent": {"type": "agent", "id": "p"}}},
    "response": {"decision": True},
    "policies": {"b": "2", "a": "1"},
    "traceparent": "00-45d06438e93c4a26bfc645eeddb2ffbf-6ac4d6acdded49d8-01",
}  # fmt: skip


def test_each_evaluation_of_a_record_is_a_decision_about_what_it_shares() -> None:
    read, pay = events("authzen", AUTHZEN, source="authzen/gateway")
    assert [one["event_id"] for one in (read, pay)] == ["d-1/0", "d-1/1"]
    assert (read["decision"], pay["decision"], pay["reason"]) == ("allow", "deny", "limit")
    assert {one["actor"] for one in (read, pay)} == {"user:beth"}
    assert {one["delegated_actor"] for one in (read, pay)} == {"agent:planner"}
    assert (pay["action"], pay["resource"], pay["roles"]) == ("pay", "invoice:7", ["clerk"])
    assert (pay["policy_id"], pay["policy_version"], pay["approval_id"]) == ("invoices", "v7", "a-1")
    assert (pay["request_id"], pay["source"]) == ("x-1", "authzen/gateway")
    assert attributes(pay)["action_properties"] == {"amount": 12}
    raw = json.loads(pay["raw"])
    assert raw["request"]["action"]["name"] == "pay"
    assert "evaluations" not in raw["request"]


def test_one_evaluation_has_the_id_of_its_record_and_the_trace_of_its_header() -> None:
    (one,) = events("authzen", ONE)
    assert (one["event_id"], one["decision"], one["delegated_actor"]) == ("d-2", "allow", "agent:p")
    assert (one["policy_id"], one["policy_version"]) == ("a,b", "a=1,b=2")
    assert (one["trace_id"], one["parent_span_id"]) == (AUTHZEN["trace_id"], "6ac4d6acdded49d8")
    (bare,) = events("authzen", {name: value for name, value in ONE.items() if name != "id"})
    assert bare["event_id"].startswith("sha256:")


@pytest.mark.parametrize(
    ("response", "decision", "reason"),
    [
        ({"decision": False, "context": {"reason": "no"}}, "deny", "no"),
        ({"decision": "yes"}, "error", "unmapped"),
        ({}, "error", "unanswered"),
        ({"error": {"code": "timeout"}}, "error", "timeout"),
        (None, "error", "unanswered"),
    ],
)
def test_what_the_answer_was(response: Any, decision: str, reason: str) -> None:
    (one,) = events("authzen", {**ONE, "response": response})
    assert (one["decision"], one["reason"]) == (decision, reason)


def test_what_was_needless_to_ask_is_no_decision_and_what_should_have_been_is_an_error() -> None:
    request = {**AUTHZEN["request"], "options": {"evaluations_semantic": "deny_on_first_deny"}}
    answers = {"evaluations": [{"decision": False}]}
    (only,) = events("authzen", {**AUTHZEN, "request": request, "response": answers})
    assert only["decision"] == "deny"
    first, second = events("authzen", {**AUTHZEN, "response": answers})
    assert (first["decision"], second["decision"], second["reason"]) == ("deny", "error", "unanswered")


def test_searches_are_ignored_and_what_has_no_request_is_refused() -> None:
    found = decoded(
        "authzen", {**ONE, "type": "search_subject"}, {"id": "x"}, {**ONE, "request": {"evaluations": []}}
    )
    assert [one.message for one in found.ignored] == [0, 2]
    assert [(one.message, one.reason, one.field) for one in found.rejected] == [(1, "missing", "request")]
