"""Cerbos audit entries: every resource and action of a check is one decision."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.decoded import Decoded, HeaderAdapter, Limits
from ledger.errors import UsageError

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SAMPLE = Path(__file__).parents[3] / "shared/samples/cerbos_audit.jsonl"


def check(**more: Any) -> dict[str, Any]:
    return {
        "log.logger": "cerbos.audit", "log.kind": "decision", "callId": "01ABC",
        "timestamp": "2026-11-23T18:20:20.288346034Z",
        "peer": {"address": "10.0.0.7:51436", "userAgent": "gateway/1", "forwardedFor": "192.0.2.1"},
        "checkResources": {
            "inputs": [
                {"requestId": "r1", "resource": {"kind": "invoice", "id": "7", "attr": {"owner": "mary"}},
                 "principal": {"id": "mary", "roles": ["clerk"], "attr": {"team": "ap"}},
                 "actions": ["pay", "approve"],
                 "auxData": {"jwt": {"iss": "https://idp.example", "email": "mary@example"}}},
                {"requestId": "r1", "resource": {"kind": "vault", "id": "1"},
                 "principal": {"id": "agent:bot", "roles": ["clerk"]}, "actions": ["open"]},
            ],
            "outputs": [
                {"requestId": "r1", "resourceId": "7", "effectiveDerivedRoles": ["owner"], "actions": {
                    "approve": {"effect": "EFFECT_ALLOW", "policy": "resource.invoice.v3/acme"},
                    "pay": {"effect": "EFFECT_DENY", "policy": "resource.invoice.v3/acme"}}},
                {"requestId": "r1", "resourceId": "1",
                 "actions": {"open": {"effect": "EFFECT_DENY", "policy": "NO_MATCH"}}},
            ],
        },
        "metadata": {"traceparent": {"values": ["00-2810108e895a48d69ac3fc3f9c58b5eb-cecb7d27897a426d-01"]}},
        "auditTrail": {"effectivePolicies": {"resource.invoice.v3/acme": {"attributes": {"driver": "git"}}}},
        **more,
    }  # fmt: skip


def decoded(*messages: Any, **options: Any) -> Decoded:
    values = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
    return adapter("cerbos", options).decode(pa.array(values, pa.large_binary()), Limits(), NOW)


def test_each_resource_and_action_is_a_decision_in_the_order_of_inputs_and_sorted_actions() -> None:
    found = decoded(check())
    assert not found.rejected
    approve, pay, opened = found.events.to_pylist()
    assert [one["event_id"] for one in (approve, pay, opened)] == [
        "01ABC/0/approve", "01ABC/0/pay", "01ABC/1/open",
    ]  # fmt: skip
    assert [one["part"] for one in (approve, pay, opened)] == [0, 1, 2]
    assert (approve["decision"], pay["decision"], opened["decision"]) == ("allow", "deny", "deny")
    assert (opened["reason"], opened["policy_id"], opened["policy_version"]) == ("default-deny", None, None)
    assert (approve["policy_id"], approve["policy_version"]) == ("resource.invoice.v3/acme", "3")
    assert (approve["actor"], opened["actor"]) == ("user:mary", "agent:bot")
    assert (approve["resource"], approve["action"], approve["client_ip"]) == (
        "invoice:7",
        "approve",
        "10.0.0.7",
    )
    assert approve["trace_id"] == "2810108e895a48d69ac3fc3f9c58b5eb"
    assert json.loads(approve["attributes"])["derived_roles"] == ["owner"]
    assert {one["source"] for one in found.events.to_pylist()} == {"cerbos"}


def test_raw_is_the_envelope_with_its_own_element_and_gives_the_same_decision_again() -> None:
    for one in decoded(check()).events.to_pylist():
        raw = json.loads(one["raw"])
        (own,) = raw["checkResources"]["inputs"]
        assert own["actions"] == [one["action"]]
        (again,) = decoded(raw).events.to_pylist()
        assert (again["decision"], again["resource"], again["policy_id"]) == (
            one["decision"], one["resource"], one["policy_id"],
        )  # fmt: skip


def test_the_commit_of_the_policies_is_their_version() -> None:
    sent = check(policySource={"git": {"repositoryUrl": "https://git.example/p", "hash": "deadbeef"}})
    assert {one["policy_version"] for one in decoded(sent).events.to_pylist()} == {"deadbeef"}


def test_the_header_of_kafka_says_what_an_entry_is_whatever_it_holds() -> None:
    found = adapter("cerbos")
    assert isinstance(found, HeaderAdapter)
    kinds = [{"cerbos.audit.kind": "access"}, {"cerbos.audit.kind": "decision"}, {}]
    values = pa.array([b"\x0aprotobuf", json.dumps(check()).encode(), b"\x0a"], pa.large_binary())
    decoded = found.decode_with(values, kinds, Limits(), NOW)
    assert [(one.message, one.reason) for one in decoded.ignored] == [(0, "an access entry")]
    assert sorted({*decoded.message.tolist()}) == [1]
    assert [one.message for one in decoded.rejected] == [2]


def test_an_empty_trail_is_no_fault() -> None:
    assert len(decoded(check(auditTrail={}, peer={})).events) == 3


def test_what_decides_nothing_is_ignored_and_what_failed_is_an_error() -> None:
    access = {"log.kind": "access", "callId": "01A", "timestamp": "2026-11-23T18:20:20Z", "method": "/x"}
    plan = {"callId": "01B", "timestamp": "2026-11-23T18:20:20Z", "planResources": {"input": {}}}
    failed = check()
    failed["checkResources"] |= {"outputs": [], "error": "engine on fire"}
    found = decoded(access, plan, failed)
    assert [(one.message, one.reason) for one in found.ignored] == [
        (0, "an access entry"), (1, "a plan of resources decides nothing"),
    ]  # fmt: skip
    assert {(one["decision"], one["reason"]) for one in found.events.to_pylist()} == {("error", "error")}


def test_an_answer_of_an_unknown_word_and_one_that_is_missing_are_errors() -> None:
    sent = check()
    actions = sent["checkResources"]["outputs"][0]["actions"]
    actions["approve"]["effect"] = "EFFECT_MAYBE"
    del actions["pay"]
    approve, pay, _ = decoded(sent).events.to_pylist()
    assert (approve["decision"], approve["reason"]) == ("error", "unmapped")
    assert (pay["decision"], pay["reason"]) == ("error", "unanswered")


def test_a_mapping_fills_what_this_installation_knows() -> None:
    found = decoded(
        check(), source="cerbos/pay", fields={
            "tenant": {"const": "acme"},
            "delegated_actor": {"first": ["/nothing", "/peer/userAgent"], "prefix": "agent:"},
            "environment": {
                "pointer": "/checkResources/inputs/0/principal/attr/team", "map": {"ap": "production"},
            },
        },
    ).events.to_pylist()  # fmt: skip
    assert found[0]["source"] == "cerbos/pay"
    assert (found[0]["tenant"], found[0]["delegated_actor"]) == ("acme", "agent:gateway/1")
    assert found[0]["environment"] == "production"


@pytest.mark.parametrize("wrong", [
    {"fields": {"raw": "/x"}}, {"fields": {"tenant": {}}},
    {"fields": {"tenant": {"const": "a", "pointer": "/b"}}},
    {"source": ""}, {"unknown": 1}, {"fields": {"event_id": "/callId"}},
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="The options of format cerbos are unusable"):
        adapter("cerbos", wrong)


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the real logs are not at hand")
def test_a_real_log_goes_through_whole() -> None:
    found = decoded(*SAMPLE.read_bytes().splitlines())
    words = [one["decision"] for one in found.events.to_pylist()]
    assert (len(words), words.count("allow"), words.count("deny")) == (154, 68, 86)
    assert len(set(found.message.tolist())) == 27
    assert not found.rejected
    assert len(found.ignored) == 13 + 43
    assert len({one["event_id"] for one in found.events.to_pylist()}) == 154
