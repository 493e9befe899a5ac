"""OpenFGA request logs: a line is question and answer; what decides nothing is no event."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.adapting import attributes, decoded, events
from tests.foreign_shapes import OPENFGA

CHECK: dict[str, Any] = {
    **OPENFGA,
    "grpc_method": "Check",
    "raw_request": {
        "store_id": "01STORE", "authorization_model_id": "01OTHER", "trace": False, "context": None,
        "tuple_key": {"user": "user:anne", "relation": "reader", "object": "document:1"},
    },
    "raw_response": {"allowed": True, "resolution": ""},
}  # fmt: skip


def test_a_check_is_a_decision_under_the_model_that_was_used() -> None:
    line = json.dumps(CHECK).encode()
    (one,) = events("openfga", line)
    assert one["event_id"] == f"r-1/{hashlib.sha256(line).hexdigest()[:16]}"
    assert (one["kind"], one["decision"], one["policy_engine"]) == ("decision", "allow", "openfga/v1.22.1")
    assert (one["actor"], one["action"], one["resource"]) == ("user:anne", "reader", "document:1")
    assert (one["policy_id"], one["policy_version"]) == ("01STORE", "01MODEL")
    assert one["trace_id"] == OPENFGA["trace_id"]
    assert one["time"].isoformat() == "2026-11-24T10:00:00.250000+00:00"
    assert one["source"] == "openfga"


def test_requests_of_one_trace_and_the_same_request_again_are_told_apart() -> None:
    later = {**CHECK, "timestamp": CHECK["timestamp"] + 1}
    ids = {one["event_id"] for one in events("openfga", CHECK, later, CHECK)}
    assert len(ids) == 2


def test_each_check_of_a_batch_has_its_own_answer_and_its_own_part_of_the_line() -> None:
    first, second = events("openfga", OPENFGA, source="openfga/docs")
    assert first["event_id"].endswith("/c1")
    assert second["event_id"].endswith("/c2")
    assert (first["decision"], first["actor"]) == ("allow", "user:anne")
    assert (second["decision"], second["reason"], second["actor"]) == (
        "error",
        "validation_error",
        "agent:bot",
    )
    assert {first["source"], second["source"]} == {"openfga/docs"}
    assert (first["part"], second["part"]) == (0, 1)
    assert attributes(first)["context"] == {"ip": "10.0.0.1"}
    raw = json.loads(second["raw"])
    assert [one["correlation_id"] for one in raw["raw_request"]["checks"]] == ["c2"]
    assert [*raw["raw_response"]["result"]] == ["c2"]


@pytest.mark.parametrize(
    ("changed", "decision", "reason"),
    [
        ({"raw_response": {"allowed": False}}, "deny", None),
        ({"raw_response": {}}, "error", "unanswered"),
        ({"raw_response": {"allowed": "yes"}}, "error", "unanswered"),
        ({"grpc_code": 2000, "raw_response": {"code": "validation_error"}, "error": "x"}, "error",
         "validation_error"),
        ({"internal_error": "down", "msg": "Internal Server Error", "level": "error"}, "error", "error"),
    ],
)  # fmt: skip
def test_what_the_answer_was(changed: dict[str, Any], decision: str, reason: str | None) -> None:
    (one,) = events("openfga", {**CHECK, **changed})
    assert (one["decision"], one.get("reason")) == (decision, reason)


def test_tuples_and_models_that_are_written_are_actions_of_an_administrator() -> None:
    tuples = {"tuple_keys": [{"user": "user:bob", "relation": "owner", "object": "document:1"}]}
    write = {**CHECK, "grpc_method": "Write", "raw_request": {"store_id": "01STORE", "writes": tuples},
             "raw_response": {}}  # fmt: skip
    refused = {**write, "grpc_code": 2000, "raw_response": {"code": "cannot_allow_duplicate"}, "error": "x"}
    done, failed = events("openfga", write, refused)
    assert (done["kind"], done["action"], done["action_type"]) == ("action", "tuples:write", "admin")
    assert (done["resource"], done["outcome"], "decision" in done) == ("store:01STORE", "succeeded", False)
    assert attributes(done)["writes"] == tuples["tuple_keys"]
    (made,) = events("openfga", {**write, "grpc_method": "CreateStore", "raw_request": {"name": "docs"},
                                 "raw_response": {"id": "01NEW"}})  # fmt: skip
    assert (made["action"], made["resource"]) == ("store:create", "store:01NEW")
    assert (failed["outcome"], failed["reason"]) == ("failed", "cannot_allow_duplicate")


def test_what_decides_nothing_is_ignored_and_what_is_no_line_of_it_is_refused() -> None:
    found = decoded(
        "openfga",
        {"level": "info", "timestamp": 1.5, "msg": "starting openfga service..."},
        {**CHECK, "grpc_method": "StreamedListObjects", "grpc_type": "server_stream"},
        {**CHECK, "grpc_service": "grpc.health.v1.Health"},
        {**OPENFGA, "raw_request": {"checks": []}},
        {"callId": "of another system"},
        {name: value for name, value in CHECK.items() if name != "timestamp"},
    )
    assert [one.message for one in found.ignored] == [0, 1, 2, 3]
    assert [(one.message, one.reason, one.field) for one in found.rejected] == [
        (4, "missing", "grpc_service"),
        (5, "missing", "time"),
    ]


def test_times_come_as_seconds_and_in_iso_8601_without_a_colon() -> None:
    (one,) = events("openfga", {**CHECK, "timestamp": "2026-11-23T12:00:00.250+0200"})
    assert one["time"].isoformat() == "2026-11-23T10:00:00.250000+00:00"
