"""Kubernetes audit events: each stage one event, the end of a request the decision."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.decoded import Decoded, Limits
from tests.foreign_shapes import KUBERNETES

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SAMPLE = Path(__file__).parents[3] / "shared/samples/k8s_audit2rbac_demo.jsonl"
REASON = 'RBAC: allowed by RoleBinding "shop/readers" of Role "reader" to ServiceAccount "web/shop"'
DECISION, WHY = "authorization.k8s.io/decision", "authorization.k8s.io/reason"


def event(**more: Any) -> dict[str, Any]:
    return {**KUBERNETES, **more}


def decoded(*messages: Any, **options: Any) -> Decoded:
    values = [json.dumps(one).encode() if isinstance(one, dict) else one for one in messages]
    return adapter("kubernetes", options).decode(pa.array(values, pa.large_binary()), Limits(), NOW)


def only(message: dict[str, Any], **options: Any) -> dict[str, Any]:
    found = decoded(message, **options)
    assert not found.rejected, found.rejected
    (one,) = found.events.to_pylist()
    return dict(one)


def test_the_end_of_a_request_is_the_decision_with_the_binding_that_allowed_it() -> None:
    one = only(event(), cluster="shop-eu")
    assert (one["event_id"], one["kind"], one["source"]) == (
        "aa-1/ResponseComplete", "decision", "kubernetes/shop-eu",
    )  # fmt: skip
    assert (one["decision"], one["outcome"], one["policy_id"]) == (
        "allow", "succeeded", "RoleBinding:shop/readers",
    )  # fmt: skip
    assert (one["action"], one["resource"]) == ("deployments/scale:update", "deployments.apps:shop/web")
    assert (one["actor"], one["credential_id"]) == ("system:serviceaccount:shop:web", "f00d")
    assert one["time"] == datetime(2026, 11, 23, 10, 0, 1, 500000, tzinfo=UTC)
    assert json.loads(one["attributes"])["annotations"][WHY] == REASON


def test_an_earlier_stage_is_an_action_that_started() -> None:
    one = only(event(stage="RequestReceived", responseStatus={}, annotations={}))
    assert (one["kind"], one["outcome"], one["decision"]) == ("action", "started", None)


@pytest.mark.parametrize(("more", "decision", "reason", "outcome"), [
    ({"annotations": {DECISION: "forbid", WHY: "no rule"}, "responseStatus": {"code": 403}},
     "deny", "no rule", "failed"),
    ({"annotations": {DECISION: "allow"}, "responseStatus": {"code": 403}}, "allow", None, "failed"),
    ({"annotations": {}, "responseStatus": {"code": 403, "reason": "Forbidden"}},
     "deny", "forbidden-unattributed", "failed"),
    ({"annotations": {}, "responseStatus": {"code": 404}}, "error", "unattributed", "failed"),
    ({"annotations": {}, "responseStatus": {"code": 201}}, "allow", None, "succeeded"),
    ({"stage": "Panic"}, "error", "panic", "succeeded"),
    ({"annotations": {DECISION: "perhaps"}}, "error", "unmapped", "succeeded"),
])  # fmt: skip
def test_what_was_decided(more: dict[str, Any], decision: str, reason: str | None, outcome: str) -> None:
    one = only(event(**more))
    assert (one["decision"], one["reason"], one["outcome"]) == (decision, reason, outcome)


def test_an_impersonated_request_is_that_persons_through_who_sent_it() -> None:
    sent = event(user={"username": "controller"}, impersonatedUser={"username": "alice", "groups": ["dev"]})
    one = only(sent)
    assert (one["actor"], one["delegated_actor"], one["roles"]) == ("user:alice", "user:controller", ["dev"])
    one = only(sent, impersonator_first=True)
    assert (one["actor"], one["delegated_actor"]) == ("user:controller", "user:alice")


def test_a_path_without_an_object_is_told_without_its_query() -> None:
    one = only(event(objectRef=None, requestURI="/healthz?verbose&token=abc", verb="get"))
    assert (one["action"], one["resource"]) == ("url:get", "url:/healthz")


def test_a_secrets_contents_and_commands_are_masked() -> None:
    body = {"kind": "Secret", "data": {"db": "aHVudGVyMg=="}, "stringData": {"x": "hunter2"}}
    one = only(event(requestObject=body, responseObject=body))
    assert "hunter2" not in repr(one)
    assert "aHVudGVyMg" not in repr(one)
    assert {"/requestObject/data", "/responseObject/stringData"} <= {*one["masked"]}
    ref = {"resource": "pods", "subresource": "exec", "namespace": "a", "name": "b"}
    uri = "/api/v1/namespaces/a/pods/b/exec?command=mysql&command=-phunter2&stdin=true"
    one = only(event(objectRef=ref, requestURI=uri))
    assert "hunter2" not in repr(one)
    assert "stdin=true" in one["raw"]


def test_a_list_of_events_is_read_and_an_empty_one_is_not_needed() -> None:
    found = decoded({"kind": "EventList", "items": [event(), event(auditID="aa-2")]},
                    {"kind": "EventList", "items": []})  # fmt: skip
    assert [(one["event_id"], one["part"]) for one in found.events.to_pylist()] == [
        ("aa-1/ResponseComplete", 0), ("aa-2/ResponseComplete", 1),
    ]  # fmt: skip
    assert [one.reason for one in found.ignored] == ["an empty list of events"]
    assert decoded({"kind": "EventList", "items": [event(), 7]}).rejected


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the real logs are not at hand")
def test_a_real_log_goes_through_whole() -> None:
    found = decoded(*SAMPLE.read_bytes().splitlines())
    rows = found.events.to_pylist()
    assert not found.rejected
    assert (len(rows), sum(one["decision"] == "deny" for one in rows)) == (37, 11)
    assert {one["reason"] for one in rows if one["decision"] == "deny"} == {"forbidden-unattributed"}
    assert {one["delegated_actor"] for one in rows} == {"system:admin"}
