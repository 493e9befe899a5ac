"""A user's request through the whole stack and a real Kafka into the ledger, and the drills against it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from issuer.example.founding import write_example
from issuer.scenarios.live import Live
from ledger.query.evidence import verify_bundle
from ledger.query.trace import render
from ledger.reader import Ledger
from ledger.settings.yaml_file import read_yaml
from tests.broker.topics import Topics
from tests.services import identity_stack, outside, process, run

REPLY = "agent:production/support-reply"
SECRET = "the-mail-service's-own-secret"


def company(folder: Path, mail_port: int | None = None) -> Path:
    write_example(folder, now=time.time())
    if mail_port is not None:
        document = read_yaml(folder / "destinations.yml").value
        document["destinations"][0]["test_address"] = f"127.0.0.1:{mail_port}"
        (folder / "destinations.yml").write_text(json.dumps(document))
    return folder


def sealed(ledger: Path, query: str, *values: str, at_least: int = 1) -> list[dict[str, Any]]:
    """The rows of a query, once there are enough."""
    end = time.monotonic() + 60
    while True:
        with Ledger.open(str(ledger)) as opened:
            rows: list[dict[str, Any]] = opened.sql(query, list(values)).to_pylist()
        if len(rows) >= at_least or time.monotonic() > end:
            return rows
        time.sleep(0.2)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    run("init", "--origin", "test.example/stack", "--ledger", folder)
    return folder


def test_a_request_goes_through_all_of_it_over_kafka(
    tmp_path: Path, ledger: Path, kafka_bootstrap: str, topics: Topics
) -> None:
    topic = topics.create(1)
    with outside() as (seen, port):
        folder = company(tmp_path / "company", port)
        with (
            process(
                "ingest", "kafka", "--bootstrap", kafka_bootstrap, "--topic", topic, "--group", topic,
                "--ledger", ledger, "--batch-seconds", "0.1",
            ),
            identity_stack(folder, f"kafka:{kafka_bootstrap}/{topic}", MAIL_TOKEN=SECRET) as urls,
            Live.at(urls["authority"], folder) as live,
        ):  # fmt: skip
            session = live.session("user:alice", [REPLY], "support", ["ticket:read", "ticket:notify"])
            root = live.exchange(REPLY, session.token)
            token = live.exchange(REPLY, root, audience="tool:production/tickets", scope="ticket:notify")
            answer = live.call(REPLY, token, "ticket:notify", "ticket:4711", text="It is on its way.")
            assert answer.status_code == 200, answer.text
            live.end(session)
            rows = sealed(
                ledger, "SELECT * FROM events WHERE trace_id = ? ORDER BY time, sequence", session.trace_id,
                at_least=11,
            )  # fmt: skip
    assert seen[0]["headers"]["authorization"] == f"Bearer {SECRET}"
    assert seen[0]["headers"]["traceparent"].split("-")[1] == session.trace_id
    kinds = [(row["kind"], row["pep"], row["decision"] or row["outcome"]) for row in rows]
    assert kinds == [
        ("session", None, "started"), ("task", None, "started"),
        ("issuance", "broker", "allow"), ("issuance", "broker", "allow"),
        ("decision", "tool_router", "allow"), ("issuance", "broker", "allow"),
        ("decision", "egress", "allow"), ("action", "egress", "succeeded"),
        ("action", "tool_router", "succeeded"), ("session", None, "ended"), ("task", None, "succeeded"),
    ]  # fmt: skip
    for row in rows:
        assert row["request_id"]
        if row["kind"] in ("issuance", "decision", "action"):
            assert row["policy_version"] == "1"
            assert row["actor"] == "user:alice"
    assert rows[6]["delegation"] == ["user:alice", REPLY, "router:production/main"]
    assert {row["sequence"] for row in rows} <= set(range(1, 100))
    with Ledger.open(str(ledger)) as opened:
        tree = render(opened.trace(session.trace_id))
        assert "user:alice" in tree
        assert "router:production/main" in tree
        bundle = opened.evidence(f"issuer#{rows[8]['event_id']}")
        assert verify_bundle(bundle, opened.state.key.text).checkpoints
    everything = b"".join(path.read_bytes() for path in ledger.rglob("*") if path.is_file())
    for text in (token, root, session.token, SECRET):
        assert text.encode() not in everything
    run("verify", "--ledger", ledger)


@pytest.fixture
def running(tmp_path: Path, ledger: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The stack with an HTTP intake behind it."""
    folder = company(tmp_path / "company")
    with process(
        "ingest", "http", "--listen", "127.0.0.1:0", "--ledger", ledger, "--batch-seconds", "0.05",
        ready="Listening on",
    ) as said:  # fmt: skip
        url = said.split("Listening on ")[1].split()[0]
        with identity_stack(folder, url) as urls:
            yield folder, urls


def test_drills_are_timed_from_the_ledger(
    tmp_path: Path, ledger: Path, running: tuple[Path, dict[str, str]]
) -> None:
    folder, urls = running
    at = ("--live", urls["authority"], "--state", folder, "--ledger", ledger, "--json")
    found = json.loads(run("issuer", "drill", "revocation", *at))
    assert found["ok"]
    points = ["data_adapter", "egress", "gateway", "tool_router", "worker"]
    assert sorted(row["pep"] for row in found["blocks"]) == points
    assert all(0 <= row["seconds"] <= found["bound"] for row in found["blocks"])
    assert {row["exercise"] for row in sealed(
        ledger, "SELECT DISTINCT exercise FROM events WHERE trace_id = ?", found["trace_id"]
    )} == {found["drill"]}  # fmt: skip
    second = tmp_path / "agents-2"
    shutil.copytree(folder / "policies/agents-1", second)
    about = second / "bundle.yml"
    about.write_text(about.read_text().replace('version: "1"', 'version: "2"'))
    run("issuer", "policy", "review", second, "--reviewer", "user:dan", "--state", folder)
    run("issuer", "policy", "activate", second, "--state", folder)
    found = json.loads(run("issuer", "drill", "rollback", *at))
    assert (found["ok"], found["unanswered"]) == (True, 0)
    assert [row["policy_version"] for row in found["versions"]][:2] == ["2", "1"]
    history = json.loads(run("issuer", "policy", "history", "--state", folder, "--json"))
    assert [line["version"] for line in history] == ["1", "2", "1", "2"]


def test_a_scenario_runs_against_the_services(
    tmp_path: Path, ledger: Path, running: tuple[Path, dict[str, str]]
) -> None:
    folder, urls = running
    out = tmp_path / "live.jsonl"
    run(
        "issuer", "scenario", "run", "healthy-day", "--live", urls["authority"], "--state", folder,
        "--out", out, "--rate", "8",
    )  # fmt: skip
    truth = json.loads((tmp_path / "live.jsonl.truth.json").read_text())
    assert len(truth["trace_ids"]) == 8
    calls = [json.loads(line) for line in out.read_text().splitlines()]
    assert {call["status"] for call in calls} == {200, 403}
    rows = sealed(
        ledger, "SELECT trace_id FROM events WHERE kind = 'task' AND outcome = 'succeeded'", at_least=8
    )
    assert {row["trace_id"] for row in rows} == set(truth["trace_ids"])
    refunds = sealed(
        ledger, "SELECT approved_by FROM events WHERE kind = 'decision' AND action = 'payment:refund' "
        "AND decision = 'allow'",
    )  # fmt: skip
    assert {row["approved_by"] for row in refunds} == {"user:dan"}
    reports = sum(call["call"] == "report:run" for call in calls)
    query = "SELECT 1 FROM events WHERE kind = 'action' AND pep = 'worker' AND outcome = 'succeeded'"
    assert len(sealed(ledger, query, at_least=reports)) == reports
    run(
        "issuer", "scenario", "run", "stale-cache", "--live", urls["authority"], "--state", folder,
        "--out", out, code=2,
    )  # fmt: skip
