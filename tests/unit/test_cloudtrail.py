"""CloudTrail records: who called, what was refused in which spelling, and which key came of which."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ingest.adapters import adapter
from ingest.decoded import Decoded, Limits
from ingest.masking import mask_text
from tests.foreign_shapes import CLOUDTRAIL

NOW = datetime(2026, 11, 24, tzinfo=UTC)
SAMPLE = Path(__file__).parents[3] / "shared/samples/stratus_detonation_cloudtrail.jsonl"
CALL = {"eventSource": "ec2.amazonaws.com", "eventName": "GetPasswordData", "responseElements": None,
        "requestParameters": None, "resources": None}  # fmt: skip


def record(**more: Any) -> dict[str, Any]:
    return {**CLOUDTRAIL, **more}


def decoded(*messages: Any) -> Decoded:
    values = [json.dumps(one).encode() if isinstance(one, dict) else one for one in messages]
    return adapter("cloudtrail").decode(pa.array(values, pa.large_binary()), Limits(), NOW)


def only(message: dict[str, Any]) -> dict[str, Any]:
    found = decoded(message)
    assert not found.rejected, found.rejected
    (one,) = found.events.to_pylist()
    return dict(one)


def test_a_role_that_is_assumed_is_a_credential_below_the_callers() -> None:
    one = only(record())
    assert (one["kind"], one["decision"], one["outcome"]) == ("issuance", "allow", "succeeded")
    assert (one["event_id"], one["source"], one["action"]) == (
        "e-1", "cloudtrail/111122223333", "sts:AssumeRole",
    )  # fmt: skip
    assert (one["credential_id"], one["parent_credential_id"], one["credential_type"]) == (
        "ASIA2", "ASIA1", "session",
    )  # fmt: skip
    assert (one["actor"], one["delegated_actor"]) == (
        "user:alice",
        "role:arn:aws:iam::111122223333:role/planner",
    )
    assert one["expires_at"] == datetime(2026, 11, 23, 11, tzinfo=UTC)
    assert one["resource"] == "arn:aws:iam::111122223333:role/poster"
    assert "hidden-by-its-name" not in repr(one)


def test_a_key_of_a_user_keeps_its_id_and_loses_its_secret() -> None:
    made = {"accessKey": {"accessKeyId": "AKIA9", "status": "Active", "secretAccessKey": "hunter2-key"}}
    one = only(record(eventSource="iam.amazonaws.com", eventName="CreateAccessKey", responseElements=made))
    assert (one["kind"], one["credential_id"], one["credential_type"]) == ("issuance", "AKIA9", "static")
    assert "hunter2" not in repr(one)


@pytest.mark.parametrize(("code", "decision", "kind"), [
    ("Client.UnauthorizedOperation", "deny", "action"), ("UnauthorizedOperation", "deny", "action"),
    ("AccessDenied", "deny", "action"), ("AccessDeniedException", "deny", "action"),
    ("AuthorizationError", "deny", "action"), ("VpceAccessDenied", "deny", "action"),
    ("ThrottlingException", None, "action"), ("Client.DryRunOperation", "allow", "decision"),
])  # fmt: skip
def test_refusals_in_all_their_spellings(code: str, decision: str | None, kind: str) -> None:
    one = only(record(**CALL, errorCode=code))
    assert (one["kind"], one["decision"]) == (kind, decision)
    assert kind == "decision" or one["outcome"] == "failed"


def test_a_refused_role_is_read_from_the_message_for_want_of_parameters() -> None:
    said = ("User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: sts:AssumeRole on resource: "
            "arn:aws:iam::111122223333:role/admin because no policy allows it")  # fmt: skip
    one = only(record(requestParameters=None, responseElements=None, resources=None,
                      errorCode="AccessDenied", errorMessage=said))  # fmt: skip
    assert (one["kind"], one["decision"]) == ("issuance", "deny")
    assert (one["resource"], one["credential_id"]) == ("arn:aws:iam::111122223333:role/admin", None)


def test_verified_permissions_say_their_decision_beside_the_answer() -> None:
    asked = {"principal": {"entityType": "User", "entityId": "mary"},
             "action": {"actionType": "Action", "actionId": "pay"},
             "resource": {"entityType": "Invoice", "entityId": "7"}}  # fmt: skip
    one = only(record(eventSource="verifiedpermissions.amazonaws.com", eventName="IsAuthorized",
                      requestParameters={"policyStoreId": "ps-1", **asked},
                      additionalEventData={"decision": "DENY"}))  # fmt: skip
    assert (one["kind"], one["decision"], one["policy_id"]) == ("decision", "deny", "ps-1")
    assert (one["actor"], one["action"], one["resource"]) == ("User:mary", "Action:pay", "Invoice:7")
    results = [{"request": asked, "decision": "ALLOW"}, {"request": asked, "decision": "DENY"}]
    found = decoded(record(eventSource="verifiedpermissions.amazonaws.com", eventName="BatchIsAuthorized",
                           requestParameters={"policyStoreId": "ps-1"},
                           additionalEventData={"results": results})).events.to_pylist()  # fmt: skip
    assert [(one["event_id"], one["decision"]) for one in found] == [("e-1/0", "allow"), ("e-1/1", "deny")]


def test_a_delivered_file_is_its_records_and_an_insight_is_ignored() -> None:
    insight = record(eventCategory="Insight")
    found = decoded({"Records": [record(), insight, record(eventID="e-2")]}, insight, {"Records": []})
    assert [(one["event_id"], one["part"]) for one in found.events.to_pylist()] == [("e-1", 0), ("e-2", 1)]
    assert [one.reason for one in found.ignored] == ["an insight, which is no event", "no records"]


def test_secrets_of_this_format_are_masked_and_a_secrets_name_is_kept() -> None:
    name = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:prod/db-AbCdEf"
    said = f"not authorized to perform: secretsmanager:GetSecretValue on resource: {name} because"
    url = "https://b.example/k?X-Amz-Signature=deadbeef0123&x=1"
    one = only(record(**{**CALL, "requestParameters": {"userData": "hunter2", "url": url}},
                      errorCode="AccessDenied", errorMessage=said))  # fmt: skip
    assert one["resource"] == name
    assert "hunter2" not in repr(one)
    assert "deadbeef0123" not in repr(one)
    assert mask_text("login secret:hunter22") == "login secret:[masked]"


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the real logs are not at hand")
def test_a_real_log_goes_through_whole() -> None:
    found = decoded(*SAMPLE.read_bytes().splitlines())
    rows = found.events.to_pylist()
    assert not found.rejected
    assert len(rows) == 310
    assert sum(one["decision"] == "deny" for one in rows) == 51
    assert sum(one["kind"] == "issuance" for one in rows) == 15
