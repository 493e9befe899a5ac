"""Teleport audit events: certificates, requests for roles, locks, sessions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adapting import attributes, decoded, events
from tests.foreign_shapes import TELEPORT

REQUEST: dict[str, Any] = {
    "event": "access_request.create", "code": "T5000I", "uid": "u-1", "time": "2026-11-23T10:00:00Z",
    "cluster_name": "prod.example", "id": "req-1", "user": "alice", "roles": ["dba"], "state": "PENDING",
    "reason": "ticket 4711", "ei": 0,
}  # fmt: skip


def test_a_certificate_of_a_bot_is_an_issuance_to_an_agent_that_acts_for_nobody() -> None:
    (one,) = events("teleport", TELEPORT)
    assert (one["event_id"], one["source"]) == ("6c40-1", "teleport/prod.example")
    assert (one["kind"], one["decision"], one["credential_type"]) == ("issuance", "allow", "session")
    assert (one.get("actor"), one["delegated_actor"], one["roles"]) == (None, "agent:ci", ["deployer"])
    assert one["expires_at"].isoformat() == "2026-11-23T11:00:00+00:00"
    assert (one["client_ip"], "sequence" in one) == ("10.0.0.3", False)
    assert attributes(one)["ei"] == 0


def test_whom_somebody_impersonates_is_the_initiator() -> None:
    identity = {"user": "alice", "impersonator": "bob", "roles": ["dba"]}
    (one,) = events("teleport", {**TELEPORT, "user": None, "identity": identity})
    assert (one["actor"], one["delegated_actor"]) == ("user:alice", "user:bob")


def test_a_certificate_without_an_id_is_named_by_its_digest() -> None:
    (one,) = events("teleport", {name: value for name, value in TELEPORT.items() if name != "uid"})
    assert one["event_id"].startswith("sha256:")


@pytest.mark.parametrize(
    ("changed", "kind", "outcome"),
    [
        ({}, "action", "started"),
        ({"event": "access_request.review", "proposed_state": "APPROVED", "reviewer": "eve"}, "action",
         "started"),
        ({"event": "access_request.review", "state": "APPROVED", "reviewer": "eve"}, "delegation", "opened"),
        ({"event": "access_request.update", "state": "APPROVED"}, "delegation", "opened"),
        ({"event": "access_request.review", "state": "DENIED"}, "decision", "failed"),
        ({"event": "access_request.delete"}, "delegation", "closed"),
        ({"event": "access_request.expire", "state": None}, "delegation", "closed"),
    ],
)  # fmt: skip
def test_a_request_for_roles_is_a_grant_once_it_is_approved(
    changed: dict[str, Any], kind: str, outcome: str
) -> None:
    (one,) = events("teleport", {**REQUEST, **changed})
    assert (one["kind"], one["outcome"], one["target"]) == (kind, outcome, "grant:req-1")
    assert one.get("grant_id") == ("req-1" if kind == "delegation" else None)
    assert one.get("decision") == ("deny" if kind == "decision" else None)
    if changed.get("state") == "APPROVED" and "reviewer" in changed:
        assert one["approved_by"] == "user:eve"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"event": "user.login", "code": "T1000I", "success": True}, ("session", "started", None)),
        ({"event": "user.login", "code": "T1000W", "success": False, "error": "no"},
         ("session", "failed", "no")),
        ({"event": "session.end", "code": "T2004I"}, ("session", "ended", None)),
        ({"event": "db.session.start", "code": "TDB00W"}, ("session", "failed", None)),
        ({"event": "auth", "code": "T3007W", "error": "principal"}, ("decision", "failed", "principal")),
        ({"event": "role.created", "code": "T9000I", "name": "dba"}, ("action", "succeeded", None)),
        ({"event": "exec", "code": "T3002E"}, ("action", "failed", None)),
    ],
)  # fmt: skip
def test_what_other_events_are(changed: dict[str, Any], expected: tuple[str, str, str | None]) -> None:
    plain = {name: REQUEST[name] for name in ("uid", "time", "user", "cluster_name")}
    (one,) = events("teleport", {**plain, **changed})
    assert (one["kind"], one["outcome"], one.get("reason")) == expected
    assert one["action"] == f"teleport:{changed['event']}"
    assert one.get("decision") == ("deny" if changed["event"] == "auth" else None)


def test_a_lock_revokes_what_it_names() -> None:
    lock = {"event": "lock.created", "uid": "u-2", "time": "2026-11-23T10:00:00Z", "name": "l-1",
            "target": {"bot_name": "ci"}, "message": "stolen", "user": "eve",
            "expires": "0001-01-01T00:00:00Z"}  # fmt: skip
    (one,) = events("teleport", lock)
    assert (one["kind"], one["target"], one["reason"], one["actor"]) == (
        "revocation", "agent:ci", "stolen", "user:eve",
    )  # fmt: skip
    assert "expires_at" not in one


def test_what_is_no_event_is_refused() -> None:
    found = decoded("teleport", {"uid": "u-1"}, {"event": "user.login", "uid": "u-1"})
    assert [(one.reason, one.field) for one in found.rejected] == [("missing", "event"), ("missing", "time")]
