"""Scenarios: the same seed gives the same bytes, the truth names what is there, healthy is healthy."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import decision_ledger
from ingest.adapters.native import NativeAdapter
from ingest.decoded import Limits
from issuer.defaults import SCENARIOS
from issuer.scenarios.catalogue import DESCRIPTIONS, Played, play, write
from ledger.console import run

LATER = datetime(2027, 1, 1, tzinfo=UTC)
PLANTS = [name for name in SCENARIOS if name not in ("healthy-day", "company-week")]


@pytest.fixture(scope="module")
def week() -> Played:
    return play("company-week", 7, rate=8)


def planted(played: Played) -> dict[str, list[dict[str, Any]]]:
    by_id = {event["event_id"]: event for event in played.events}
    return {
        one["kind"]: [by_id[event_id] for event_id in one["event_ids"]] for one in played.truth["incidents"]
    }


def decoded(events: list[dict[str, Any]]) -> Any:
    values = pa.array([json.dumps(event).encode() for event in events], pa.large_binary())
    return NativeAdapter().decode(values, Limits(), LATER)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    for file in ("a", "b"):
        write(play(name, 3, rate=3, hours=30 if name == "company-week" else 5), tmp_path / file)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a.truth.json").read_bytes() == (tmp_path / "b.truth.json").read_bytes()
    other = play(name, 4, rate=3, hours=5)
    assert [event["event_id"] for event in other.events] != [
        json.loads(line)["event_id"] for line in (tmp_path / "a").read_text().splitlines()
    ]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_event_is_accepted_by_the_ledgers_intake(name: str) -> None:
    played = play(name, 5, rate=5, hours=24)
    found = decoded(played.events)
    assert (found.rejected, found.ignored) == ([], [])
    assert len(found.events) == len(played.events) == played.truth["events"]
    ids = [event["event_id"] for event in played.events]
    assert len(set(ids)) == len(ids)
    times = [event["time"] for event in played.events]
    assert times == sorted(times)


@pytest.mark.parametrize("name", PLANTS)
def test_the_truth_names_events_that_are_there(name: str) -> None:
    played = play(name, 7, rate=2)
    (incident,) = played.truth["incidents"]
    assert incident["kind"] == name
    events = planted(played)[name]
    assert events
    assert incident["trace_ids"] == sorted({event["trace_id"] for event in events if "trace_id" in event})
    assert incident["from"] == events[0]["time"]
    assert incident["to"] == events[-1]["time"]
    assert (incident["failure_mode"] is None) == (incident["kind"] not in PLANTS[:6])


def test_emitters_count_without_gaps(week: Played) -> None:
    emitters: dict[tuple[str, str], list[int]] = {}
    for event in week.events:
        emitters.setdefault((event["source"], event["instance"]), []).append(event["sequence"])
    for numbers in emitters.values():
        assert numbers == list(range(1, len(numbers) + 1))
    for event in week.events:
        if event["kind"] == "heartbeat":
            assert event["sent"] == event["sequence"] - 1


def test_healthy_traffic_is_healthy_and_holds_what_fools_naive_rules() -> None:
    played = play("healthy-day", 7)
    assert played.truth["incidents"] == []
    events = played.events
    decisions = [event for event in events if event["kind"] == "decision"]
    reasons = Counter(event.get("reason") for event in decisions if event["decision"] == "deny")
    assert set(reasons) == {"approval_required", "scope_missing", "tenant_boundary"}
    assert sum(reasons.values()) < len(decisions) / 10
    for event in events:
        if event["kind"] in ("decision", "issuance", "action"):
            assert event["session_id"]
            assert event["trace_id"]
            assert event["policy_version"] == "1"
            assert event["request_id"]
            assert event["delegation"][0] == event["actor"]
            assert event["delegation"][-1] == event["delegated_actor"]
            assert event["expires_at"] > event["time"], event
            assert "exercise" not in event
    by_id = {event["event_id"]: event for event in events}
    for event in events:
        if event["kind"] == "action":
            ref = by_id[event["decision_ref"]]
            assert (ref["decision"], ref["action"], ref["trace_id"]) == (
                "allow", event["action"], event["trace_id"],
            )  # fmt: skip
            if event.get("destination") and event["pep"] != "egress":
                assert any(
                    one["pep"] == "egress"
                    and one["decision"] == "allow"
                    and one["trace_id"] == event["trace_id"]
                    for one in decisions
                )
            if event["impact"] == "high" and event["pep"] != "egress":
                assert ref.get("approved_by") or ref.get("exception_id")
    outcomes = Counter(event["outcome"] for event in events if event["kind"] == "task")
    assert outcomes["started"] == outcomes["succeeded"]


def test_a_week_holds_one_of_each(week: Played) -> None:
    found = planted(week)
    assert sorted(found) == sorted(PLANTS)
    assert {one["failure_mode"] for one in week.truth["incidents"]} == {1, 2, 3, 4, 5, 6, None}
    healthy = [event for event in week.events if event["source"] == "issuer"]
    assert len({event["tenant"] for event in healthy if "tenant" in event}) == 5
    agents = {
        event["delegated_actor"] for event in healthy if event.get("delegated_actor", "").startswith("agent:")
    }
    assert len(agents) >= 10
    assert len({event["environment"] for event in week.events if "environment" in event}) == 3


def test_what_is_planted_is_what_it_says(week: Played) -> None:
    found = planted(week)
    (agent,) = {event["delegated_actor"] for event in found["shared-identity"]}
    assert {event["environment"] for event in found["shared-identity"]} == {"staging", "production"}
    assert agent == "agent:staging/release-manager"
    assert all(event["session_verified"] is False for event in found["context-lost"])
    assert any("session_id" not in event for event in found["context-lost"])
    stale = found["stale-cache"]
    assert any(event["time"] > event["expires_at"] for event in stale)
    assert {event["outcome"] for event in stale if event["kind"] == "action"} == {"succeeded"}
    assert all("*:*" in event["scopes"] for event in found["copied-role"])
    opened = found["break-glass"][0]
    assert not {"owner", "expires_at", "review_due_at"} & set(opened)
    assert all("policy_version" not in event and "trace_id" not in event for event in found["no-context"])
    theft = found["credential-theft"]
    assert (
        len({event.get("client_ip", "").rpartition(".")[0] for event in theft if event["kind"] == "decision"})
        == 2
    )
    kinds = [event["kind"] for event in theft]
    after = theft[kinds.index("signal") + 1 :]
    assert [event.get("decision") for event in after if event["kind"] == "decision"] == ["allow", "deny"]
    abuse = found["delegated-abuse"]
    assert any(
        event["kind"] == "action" and event["resource_tenant"] != event["tenant"] and "grant_id" not in event
        for event in abuse
    )
    for drill in ("revocation-drill", "rollback-drill"):
        assert len({event["exercise"] for event in found[drill]}) == 1
    versions = [
        event["policy_version"]
        for event in found["rollback-drill"]
        if event["kind"] in ("decision", "action")
    ]
    assert versions == ["2", "2", "2", "1"]
    assert {event["reason"] for event in found["rollback-drill"] if event.get("decision") == "deny"} == {
        "risk_too_high"
    }


def test_the_command_writes_events_and_truth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "e.jsonl"
    words = ["issuer", "scenario", "run", "stale-cache", "--out", str(out), "--rate", "1", "--hours", "2"]
    assert run(decision_ledger.app, [*words, "--start", "2026-11-09", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["incidents"] == ["stale-cache-1"]
    assert len(out.read_text().splitlines()) == said["events"]
    assert json.loads((tmp_path / "e.jsonl.truth.json").read_text())["scenario"] == "stale-cache"
    assert json.loads(out.read_text().splitlines()[0])["time"].startswith("2026-11-09")
    assert run(decision_ledger.app, [*words, "--start", "x"]) == 2
    assert run(decision_ledger.app, ["issuer", "scenario", "run", "none", "--out", str(out)]) == 2
    assert run(decision_ledger.app, ["issuer", "scenario", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown for name in DESCRIPTIONS)
    assert set(DESCRIPTIONS) == set(SCENARIOS)
