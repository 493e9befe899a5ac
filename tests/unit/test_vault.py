"""Vault audit entries: request and response are two events, and no device's hashes tell them apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.format.canonical import content_column
from tests.adapting import attributes, decoded, events
from tests.foreign_shapes import VAULT

REQUEST: dict[str, Any] = {name: value for name, value in VAULT.items() if name != "response"} | {
    "type": "request"
}


def test_a_request_is_a_decision_and_names_the_policies_that_allowed_it() -> None:
    (one,) = events("vault", REQUEST)
    assert (one["event_id"], one["kind"], one["decision"]) == ("q-1/request", "decision", "allow")
    assert (one["actor"], one["roles"]) == ("user:approle-planner", ["default", "planner"])
    assert (one["action"], one["action_type"], one["resource"]) == (
        "vault:update", "write", "vault:team/auth/token/create",
    )  # fmt: skip
    assert (one["policy_id"], one["policy_engine"]) == ("planner", "vault")
    assert (one["credential_id"], one["credential_type"]) == ("acc-1", "session")
    assert one["expires_at"].isoformat() == "2026-11-23T10:00:00+00:00"
    assert attributes(one)["data"] == {"num_uses": 1}


def test_a_response_with_a_token_is_its_issuance_below_the_one_that_was_shown() -> None:
    (one,) = events("vault", VAULT)
    assert (one["event_id"], one["kind"], one["decision"]) == ("q-1/response", "issuance", "allow")
    assert (one["credential_id"], one["parent_credential_id"]) == ("acc-2", "acc-1")
    assert (one["roles"], one["outcome"]) == (["default"], "succeeded")
    assert one["expires_at"].isoformat() == "2026-11-23T10:10:00.292517+00:00"
    assert "hmac-sha256" in one["raw"]


def test_what_a_login_made_has_no_parent() -> None:
    login = {**VAULT, "auth": VAULT["response"]["auth"]}
    (one,) = events("vault", login)
    assert (one["kind"], one["credential_id"], "parent_credential_id" in one) == ("issuance", "acc-2", False)


def test_a_wrapped_answer_is_a_credential_of_one_use() -> None:
    wrapped = {
        **VAULT,
        "response": {
            "wrap_info": {
                "accessor": "wrap-1",
                "ttl": 60,
                "creation_time": "2026-11-23T10:00:00Z",
                "token": "hvs.aaaa",
            }
        },
    }
    (one,) = events("vault", wrapped)
    assert (one["kind"], one["credential_id"], one["credential_type"]) == ("issuance", "wrap-1", "capability")
    assert one["expires_at"].isoformat() == "2026-11-23T10:01:00+00:00"
    assert "hvs." not in repr(one)


def test_any_other_response_is_an_action_without_a_decision() -> None:
    read = {**VAULT, "response": {"mount_type": "kv", "data": {"value": "hmac-sha256:dd"}}}
    failed = {**VAULT, "response": {}, "error": "1 error occurred:\n\t* permission denied\n\n"}
    done, refused = events("vault", read, failed)
    assert (done["kind"], "decision" in done, done["outcome"]) == ("action", False, "succeeded")
    assert (refused["kind"], "decision" in refused, refused["outcome"], refused["reason"]) == (
        "action", False, "failed", "permission-denied",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "decision", "reason"),
    [
        ({"error": "1 error occurred:\n\t* permission denied\n\n"}, "deny", "permission-denied"),
        ({"auth": {"policy_results": {"allowed": False}}}, "deny", "permission-denied"),
        ({"error": "no handler for route"}, "error", "error"),
    ],
)
def test_what_was_refused(changed: dict[str, Any], decision: str, reason: str) -> None:
    (one,) = events("vault", {**REQUEST, **changed})
    assert (one["decision"], one["reason"]) == (decision, reason)


def test_the_same_entry_by_another_device_is_the_same_event() -> None:
    salted = json.loads(json.dumps(VAULT).replace("hmac-sha256:", "hmac-sha256:other"))
    hidden = json.loads(json.dumps(VAULT).replace('"acc-', '"hmac-sha256:acc-'))
    other = json.loads(json.dumps(hidden).replace("hmac-sha256:", "hmac-sha256:other"))
    for first, second in ((VAULT, salted), (hidden, other)):
        one, two = content_column(decoded("vault", first, second).events)
        assert one == two


def test_a_device_that_hashes_nothing_gives_no_secret_away() -> None:
    plain = {
        **REQUEST,
        "auth": {"display_name": "root", "client_token": "hvs.CAESIJT2KM9n2KJqg"},
        "request": {
            **REQUEST["request"], "client_token": "hvs.CAESIJT2KM9n2KJqg", "path": "kv/data/db",
            "data": {"data": {"user": "app", "note": ["hunter2"], "port": 5432}},
        },
    }  # fmt: skip
    (one,) = events("vault", plain)
    assert "hunter2" not in repr(one)
    assert "hvs." not in repr(one)
    assert "/request/data/data/note/0" in one["masked"]
    assert "/request/data/data/port" not in one["masked"]
    assert "/auth/client_token" in one["masked"]


def test_what_is_no_entry_is_refused() -> None:
    found = decoded(
        "vault", {"time": "2026-11-23T10:00:00Z"}, {**VAULT, "type": "other"}, {**REQUEST, "request": {}}
    )
    assert [(one.reason, one.field) for one in found.rejected] == [
        ("missing", "type"), ("not one of the known words", "type"), ("missing", "event_id"),
    ]  # fmt: skip
