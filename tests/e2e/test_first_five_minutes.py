from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("DECISION_LEDGER_SAMPLES", CHECKOUT.parent / "shared" / "samples"))
OPA = SAMPLES / "opa_decision_log_asreceived.jsonl"


def _run(place: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "decision_ledger.py"), *arguments],
        cwd=place, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_the_demo_tells_its_story_and_ends(tmp_path: Path) -> None:
    out = json.loads(_run(tmp_path, "--json", "demo", "--dir", str(tmp_path / "demo")))
    assert out["events"] > 1_000
    assert out["planted"] == ["shared-identity", "credential-theft", "delegated-abuse"]
    assert {"shared-identity", "credential-replay", "cross-tenant-attempts"} <= {*out["alerts"]}
    assert any("changed" in line for line in out["tampering_found"])
    vkey = out["vkey"]
    assert "proved" in _run(tmp_path, "evidence", "verify", out["bundle"], "--vkey", vkey)
    assert "verified" in _run(tmp_path, "--ledger", out["ledger"], "verify", "--vkey", vkey)
    assert "DAMAGED" in _run(
        tmp_path, "--ledger", str(tmp_path / "demo" / "tampered-copy"), "verify", "--vkey", vkey, code=1
    )
    tree = _run(tmp_path, "--ledger", out["ledger"], "trace", out["denied_trace"])
    assert "deny" in tree
    shutil.rmtree(tmp_path / "demo")
    # A new demo in the old one's place is no ledger that was swapped.
    again = json.loads(_run(tmp_path, "--json", "demo", "--dir", str(tmp_path / "demo")))
    assert again["vkey"] != vkey


@pytest.mark.skipif(not OPA.is_file(), reason="the sample logs are not here")
def test_a_real_opa_log_with_resent_chunks(tmp_path: Path) -> None:
    _run(tmp_path, "init", "--origin", "test.example/opa")
    totals = json.loads(_run(tmp_path, "ingest", "file", str(OPA), "--format", "opa", "--json"))
    assert (totals["events"], totals["duplicate"], totals["rejected"], totals["lost"]) == (87, 15, 0, 0)
    again = json.loads(_run(tmp_path, "ingest", "file", str(OPA), "--format", "opa", "--json"))
    assert again["events"] == again["commits"] == 0
    rows = json.loads(
        _run(
            tmp_path,
            "sql",
            "SELECT decision, reason, count(trace_id) AS traced FROM decisions GROUP BY ALL",
            "--json",
        )
    )
    assert {"decision": "deny", "reason": "undefined", "traced": 0} in rows
    assert {"decision": "error", "reason": "eval_conflict_error", "traced": 0} in rows
    assert sum(row["traced"] for row in rows) > 75
    numbers = _run(tmp_path, "sql", "SELECT raw FROM events WHERE raw LIKE '%1795458159299392%'", "--json")
    assert "1795458159299392600" in numbers or "17954581592993926" in numbers
    assert "verified" in _run(tmp_path, "verify")


def test_wrong_usage_is_said_plainly(tmp_path: Path) -> None:
    for arguments, code in (
        (["status"], 2),
        (["verify"], 2),
        (["ingest", "file", "missing.jsonl"], 2),
        (["no-such-command"], 2),
        (["evidence", "verify", "missing.json", "--vkey", "x"], 2),
    ):
        assert _run(tmp_path, *arguments, code=code).strip()
    _run(tmp_path, "init", "--origin", "test.example/usage")
    _run(tmp_path, "init", "--origin", "test.example/usage", code=2)
    _run(tmp_path, "sql", "COPY events TO 'x.csv'", code=2)
    _run(tmp_path, "ingest", "kafka", "--bootstrap", "127.0.0.1:1", "--topic", "t", code=3)


def test_in_a_terminal_the_demo_ends_with_the_dashboard_open(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path / "c"),
        "XDG_CACHE_HOME": str(tmp_path / "k"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "decision_ledger", "demo", "--dir", str(tmp_path / "demo")],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=CHECKOUT, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    try:
        while (found := re.search(rb"The dashboard is at (http://127\.0\.0\.1:\d+) until", said)) is None:
            said += os.read(ours, 65_536)
        health = f"{found[1].decode()}/_stcore/health"
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(health, timeout=5).status_code == 200:
                    break
            time.sleep(0.1)  # the port opens when streamlit is ready
        else:
            raise AssertionError(said.decode())
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        os.close(ours)
    assert process.returncode == 0
