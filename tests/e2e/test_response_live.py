"""An alert that answers, against the started stack: probing, alert, revocation, first block, in one trace."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from issuer.scenarios.live import Live
from ledger.query.trace import render
from ledger.reader import Ledger
from tests.e2e.test_identity_stack import REPLY, company, sealed
from tests.services import identity_stack, process, run
from tests.unit.test_response import RULE

TICKETS = "tool:production/tickets"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    folder = tmp_path / "ledger"
    run("init", "--origin", "test.example/stack", "--ledger", folder)
    rule = tmp_path / "rules.yml"
    rule.write_text(RULE.replace("suppress: 10m", "suppress: 10m\nsettle: 0s"))
    sources = tmp_path / "sources.yml"
    sources.write_text("sources:\n  issuer: {trusted: true}\n")
    run("config", "load", "rules", rule, "--ledger", folder)
    run("config", "load", "sources", sources, "--ledger", folder)
    return folder


def response_file(folder: Path, signals: str) -> Path:
    file = folder / "response.yml"
    file.write_text(
        f"response:\n  signals: {signals}/events\n  audience: {signals}\n  key_file: response.jwk\n"
        "  issuer: https://detections.example\n  stop_file: STOP\n"
    )
    return file


def test_a_probing_session_loses_its_authority_by_itself(tmp_path: Path, ledger: Path) -> None:
    folder = company(tmp_path / "company")
    said = run("detect", "response", response_file(tmp_path, "http://127.0.0.1:1"), "--json")
    (folder / "transmitters.json").write_text(json.dumps(json.loads(said)["transmitters"]))
    with process(
        "ingest", "http", "--listen", "127.0.0.1:0", "--ledger", ledger, "--batch-seconds", "0.05",
        ready="Listening on",
    ) as printed, identity_stack(folder, printed.split("Listening on ")[1].split()[0]) as urls:  # fmt: skip
        response = response_file(tmp_path, urls["signals"])
        with (
            process("detect", "run", "--ledger", ledger, "--respond", response),
            Live.at(urls["authority"], folder) as live,
        ):
            session = live.session("user:alice", [REPLY], "support", ["ticket:read", "ticket:notify"])
            root = live.exchange(REPLY, session.token)
            token = live.exchange(REPLY, root, audience=TICKETS, scope="ticket:read")
            assert live.call(REPLY, token, "ticket:read", "ticket:4711").status_code == 200
            for _ in range(3):
                assert live.call(REPLY, token, "ticket:notify", "ticket:4711", text="x").status_code == 403
            end = time.monotonic() + 60
            while live.call(REPLY, token, "ticket:read", "ticket:4711").status_code == 200:
                assert time.monotonic() < end
                time.sleep(0.1)
            rows = sealed(
                ledger,
                "SELECT kind, outcome, decision, reason, alert_id, target, session_id FROM events"
                " WHERE trace_id = ? AND (kind IN ('alert', 'signal', 'revocation') OR decision = 'deny')"
                " ORDER BY time, event_id",
                session.trace_id, at_least=7,
            )  # fmt: skip
    target = f"session:{session.sid}"
    kinds = [row["kind"] for row in rows]
    assert kinds[:3] == ["decision"] * 3
    (alert,) = [row for row in rows if row["kind"] == "alert"]
    answers = [row for row in rows if row["kind"] in ("signal", "revocation") and row["target"] == target]
    assert {row["alert_id"] for row in answers} == {alert["alert_id"]}
    assert {row["kind"] for row in answers} == {"signal", "revocation"}
    block = rows[-1]
    assert (block["kind"], block["decision"]) == ("decision", "deny")
    assert kinds.index("alert") < kinds.index("signal") < len(kinds) - 1
    with Ledger.open(str(ledger)) as opened:
        tree = render(opened.trace(session.trace_id))
    for word in ("alert", "signal", "revocation"):
        assert word in tree
    run("verify", "--ledger", ledger)
