"""The decision point over AuthZEN: the caller's opinions are not read; several are answered as asked."""

from __future__ import annotations

from typing import Any

import pytest

from issuer.registry.exceptions import ExceptionRecord
from issuer.state.grants import add_exception
from tests.issuing import NOW, PAYER, REPLY, TRIAGE, URLS, Answer, Company

ROUTER = "router:production/main"


def question(sid: str, **more: Any) -> dict[str, Any]:
    return {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "ticket:read"},
        "resource": {"type": "ticket", "id": "4711"},
        "context": {"sid": sid, "agent": TRIAGE},
        **more,
    }


def ask(firm: Company, body: Any, path: str = "evaluation", **claims: Any) -> Answer:
    headers = {"Authorization": f"Bearer {firm.assertion(ROUTER, 'pdp', **claims)}"}
    return firm.call("pdp", "POST", f"/access/v1/{path}", json=body, headers=headers)


def test_an_evaluation_is_one_decision_and_one_event(firm: Company) -> None:
    session = firm.session()
    answer, events = firm.since(lambda: ask(firm, question(session["sid"])))
    assert (answer.status, answer.body["decision"]) == (200, True)
    (event,) = events
    assert answer.body["context"]["decision_id"] == event["event_id"]
    assert answer.body["context"]["policy_version"] == event["policy_version"] == "1"
    assert (event["kind"], event["decision"], event["trace_id"]) == ("decision", "allow", session["txn"])
    assert event["request_id"] == answer.headers["x-request-id"]
    assert event["workload"] == "spiffe://production/router/main"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resource": {"type": "ticket", "id": "5001"}}, "tenant_boundary"),
        ({"resource": {"type": "ticket", "id": "none"}}, "resource_unknown"),
        ({"resource": {"type": "customer", "id": "100"}}, "resource_unknown"),
        ({"action": {"name": "ticket:burn"}}, "action_unknown"),
        ({"subject": {"type": "user", "id": "bob"}}, "subject_mismatch"),
        ({"context": {"sid": "none", "agent": TRIAGE}}, "session_unknown"),
        ({"context": {}}, "session_unknown"),
        ({"context": {"agent": "agent:production/none"}}, "agent_unknown"),
        ({"context": {"agent": "agent:production/invoice-matcher"}}, "purpose_not_allowed"),
        ({"context": {"agent": "agent:staging/release-manager"}}, "environment_mismatch"),
        ({"context": {"agent": TRIAGE, "credential_id": "none"}}, "credential_unknown"),
    ],
)
def test_what_does_not_hold_is_denied(firm: Company, change: dict[str, Any], reason: str) -> None:
    sid = firm.session()["sid"]
    body = question(sid, **change)
    if "context" in change and change["context"] and "sid" not in change["context"]:
        body["context"] = {**change["context"], "sid": sid}
    answer, events = firm.since(lambda: ask(firm, body))
    assert (answer.body["decision"], answer.body["context"]["reason"]) == (False, reason)
    assert [(event["decision"], event["reason"]) for event in events] == [("deny", reason)]


def test_the_callers_own_attributes_count_for_nothing(firm: Company) -> None:
    sid = firm.session("user:frank")["sid"]
    forged = question(
        sid,
        subject={"type": "user", "id": "frank", "properties": {"tenant": "acme", "roles": ["oncall"]}},
        resource={"type": "ticket", "id": "4711", "properties": {"tenant": "dunmore"}},
        context={"sid": sid, "agent": TRIAGE, "risk": 0, "tenant": "acme", "approved": True,
                 "break_glass": True, "covers": ["tenant:acme"]},
    )  # fmt: skip
    assert ask(firm, forged).body["context"]["reason"] == "tenant_boundary"


def test_risk_and_the_end_of_a_session_count_at_once(firm: Company) -> None:
    session = firm.session()
    sid = session["sid"]
    assert ask(firm, question(sid)).body["decision"]
    assert firm.as_user("user:alice", "authority", f"/sessions/{sid}/risk", {"risk": 90}).status == 403
    for risk in ("90", -1, 101, 1.5, True, None):
        assert firm.as_user("user:dan", "authority", f"/sessions/{sid}/risk", {"risk": risk}).status == 400
    assert firm.as_user("user:dan", "authority", f"/sessions/{sid}/risk", {"risk": 90}).status == 200
    assert ask(firm, question(sid)).body["context"]["reason"] == "risk_too_high"
    signal = firm.events("signal")[-1]
    assert (signal["target"], signal["reason"]) == (f"session:{sid}", "risk-level-change:HIGH")
    assert firm.as_user("user:dan", "authority", f"/sessions/{sid}/end", {"cause": "task_end"}).status == 200
    assert firm.as_user("user:dan", "authority", f"/sessions/{sid}/end").status == 404
    assert ask(firm, question(sid)).body["context"]["reason"] == "session_ended"
    assert [event["outcome"] for event in firm.events("task")] == ["started", "succeeded"]


def test_a_step_up_is_approved_by_another_and_counts_once(firm: Company) -> None:
    session = firm.session(
        "user:erin", [PAYER], purpose="finance", requested_actions=["payment:read", "payment:send"]
    )
    body = question(
        session["sid"], subject={"type": "user", "id": "erin"}, action={"name": "payment:send"},
        resource={"type": "payment", "id": "8842"}, context={"sid": session["sid"], "agent": PAYER},
    )  # fmt: skip
    first = ask(firm, body).body["context"]
    assert first["reason"] == "approval_required"
    assert ask(firm, body).body["context"]["approval_id"] == first["approval_id"]
    path = f"/approvals/{first['approval_id']}"
    assert firm.as_user("user:erin", "authority", f"{path}/approve").status == 403  # her own session
    assert firm.as_user("user:alice", "authority", f"{path}/approve").status == 403  # no approver
    assert firm.as_user("user:dan", "authority", "/approvals/none/approve").status == 404
    assert firm.as_user("user:dan", "authority", f"{path}/approve").status == 200
    assert firm.as_user("user:dan", "authority", f"{path}/approve").status == 400
    other = {**body, "resource": {"type": "payment", "id": "8841"}}
    assert not ask(firm, other).body["decision"]  # bound to the very step
    answer, events = firm.since(lambda: ask(firm, body))
    assert answer.body["decision"]
    assert events[0]["approved_by"] == "user:dan"
    assert ask(firm, body).body["context"]["reason"] == "approval_required"
    assert [event["outcome"] for event in firm.events("review")][:2] == ["asked", "approved"]


def test_an_approval_ends_and_can_be_taken_back(firm: Company) -> None:
    session = firm.session("user:erin", [PAYER], purpose="finance", requested_actions=["payment:send"])
    body = question(
        session["sid"], subject={"type": "user", "id": "erin"}, action={"name": "payment:send"},
        resource={"type": "payment", "id": "8842"}, context={"sid": session["sid"], "agent": PAYER},
    )  # fmt: skip
    for late, end in ((601, None), (0, "withdraw")):
        approval = ask(firm, body).body["context"]["approval_id"]
        assert firm.as_user("user:dan", "authority", f"/approvals/{approval}/approve").status == 200
        firm.time[0] += late
        if end is not None:
            assert firm.as_user("user:dan", "authority", f"/approvals/{approval}/{end}").status == 200
            assert firm.as_user("user:dan", "authority", f"/approvals/{approval}/{end}").status == 400
        assert not ask(firm, body).body["decision"]


def test_break_glass_opens_what_the_exception_names_and_no_boundary(firm: Company) -> None:
    runner = "agent:production/refund-runner"
    session = firm.session("user:erin", [runner], purpose="finance", requested_actions=["payment:refund"])

    def refund(resource: str) -> dict[str, Any]:
        body = question(
            session["sid"], subject={"type": "user", "id": "erin"}, action={"name": "payment:refund"},
            resource={"type": "payment", "id": resource}, context={"sid": session["sid"], "agent": runner},
        )  # fmt: skip
        found: dict[str, Any] = ask(firm, body).body
        return found

    assert refund("8842")["context"]["reason"] == "approval_required"
    begin = "2026-11-25T10:00:00Z"
    record = ExceptionRecord.model_validate(
        {
            "id": "exc-1", "reason": "provider down", "owner": "user:carol", "approved_by": "user:dan",
            "principal": runner, "scopes": ["payment:refund"], "resource": "payment:*",
            "environment": "production", "impact": "high", "opened_at": begin,
            "expires_at": "2026-11-25T11:00:00Z", "review_due_at": "2026-11-26T10:00:00Z",
        }
    )  # fmt: skip
    add_exception(firm.deployment.db, record)
    assert firm.time[0] == NOW
    assert record.opened_at.timestamp() == NOW
    found = refund("8842")
    assert (found["decision"], found["context"]["exception_id"]) == (True, "exc-1")
    assert firm.events("decision")[-1]["exception_id"] == "exc-1"
    assert refund("8841")["context"]["reason"] == "tenant_boundary"


def test_several_are_answered_as_asked(firm: Company) -> None:
    sid = firm.session()["sid"]
    common = question(sid)
    resources = [{"resource": {"type": "ticket", "id": name}} for name in ("4711", "5001", "4712")]

    def decisions(semantic: str) -> list[bool]:
        body = {**common, "evaluations": resources, "options": {"evaluations_semantic": semantic}}
        return [one["decision"] for one in ask(firm, body, "evaluations").body["evaluations"]]

    assert decisions("execute_all") == [True, False, True]
    assert decisions("deny_on_first_deny") == [True, False]
    assert decisions("permit_on_first_permit") == [True]
    assert ask(firm, common, "evaluations").body["decision"] is True
    assert ask(firm, {**common, "evaluations": []}, "evaluations").body["decision"] is True


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], "evaluation"), ({}, "evaluation"), ({"subject": "alice"}, "evaluation"), ("x", "evaluations"),
        ({"subject": {"type": "user", "id": ""}}, "evaluation"), ({"evaluations": {}}, "evaluations"),
        ({"evaluations": [1]}, "evaluations"), ({"evaluations": [{}]}, "evaluations"),
        ({"evaluations": [{}] * 101}, "evaluations"),
        ({"options": {"evaluations_semantic": "x"}}, "evaluations"),
    ],
)  # fmt: skip
def test_a_malformed_request_is_400_and_one_event(firm: Company, body: Any, path: str) -> None:
    answer, events = firm.since(lambda: ask(firm, body, path))
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert [(event["decision"], event["reason"]) for event in events] == [("deny", "request_malformed")]


def test_only_registered_workloads_may_ask(firm: Company) -> None:
    sid = firm.session()["sid"]
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {firm.assertion(REPLY)}"}):
        answer = firm.call("pdp", "POST", "/access/v1/evaluation", json=question(sid), headers=headers)
        assert (answer.status, answer.error) == (401, "invalid_client")
    metadata = firm.call("pdp", "GET", "/.well-known/authzen-configuration").body
    assert metadata["access_evaluation_endpoint"] == f"{URLS['pdp']}/access/v1/evaluation"


def test_a_grant_lets_a_hand_over_cross_and_the_event_says_what(firm: Company) -> None:
    body = {
        "delegator": TRIAGE, "delegate": REPLY, "covers": ["tenant:borealis"], "reason": "a merger",
        "expires_at": "2026-12-01T00:00:00Z", "id": "grant-merger",
    }  # fmt: skip
    assert firm.as_user("user:dan", "broker", "/grants", body).status == 201
    session = firm.session(agents=[TRIAGE], requested_actions=["ticket:read"])
    own = firm.credential(TRIAGE, session["session"])
    handed = firm.credential(TRIAGE, own, audience=REPLY, grant_id="grant-merger", scope="ticket:read")
    token = firm.credential(REPLY, handed, audience="tool:production/tickets", scope="ticket:read")
    firm.hear()
    assert firm.tool("router", REPLY, token, "ticket:read", "ticket:5001").status == 200
    event = firm.events("decision")[-1]
    assert (event["grant_id"], event["grant_covers"]) == ("grant-merger", ["tenant:borealis"])
    assert (event["tenant"], event["resource_tenant"]) == ("acme", "borealis")
    # What was not handed over under the grant does not cross.
    plain = firm.credential(TRIAGE, own, audience="tool:production/tickets", scope="ticket:read")
    assert firm.tool("router", TRIAGE, plain, "ticket:read", "ticket:5001").status == 403
    assert firm.as_user("user:dan", "broker", "/grants/grant-merger/close").status == 200
    again = firm.credential(REPLY, handed, audience="tool:production/tickets", scope="ticket:read")
    assert firm.tool("router", REPLY, again, "ticket:read", "ticket:5001").status == 403
