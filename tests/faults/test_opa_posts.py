"""A real OPA posts its decision log while the intake is killed and started again: every decision once."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import secrets
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dashboard.serving import free_port
from ledger.reader import Ledger
from tests.opa import OpaUnavailable, opa
from tests.services import command, run

KILLS = {False: 4, True: 30}
ASKERS = 4
PAUSE_SECONDS = 0.004
"""Between two questions of one asker: a load, and no flood that starves the two cores."""
POLICY = """package authz
import rego.v1
default allow := false
allow if input.subject.id != "mallory"
"""


def _wait_for(url: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, trust_env=False, timeout=1).is_success:
                return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


class Intake:
    """`ingest http --format opa` at one address, killed and started as often as asked."""

    def __init__(self, ledger: Path, token: Path) -> None:
        self.port = free_port("127.0.0.1", 0)
        self._arguments = (
            "ingest", "http", "--listen", f"127.0.0.1:{self.port}", "--ledger", str(ledger),
            "--format", "opa", "--token-file", str(token), "--batch-seconds", "0.05",
        )  # fmt: skip
        self._log = ledger.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(command(*self._arguments), stdout=out, stderr=out)
        _wait_for(f"http://127.0.0.1:{self.port}/health")

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(60) == 0, self._log.read_text()


@contextlib.contextmanager
def _serving(program: Path, folder: Path, intake: int, token: str) -> Iterator[str]:
    """OPA with one policy, posting to the intake; its address."""
    config = {
        "services": {
            "ledger": {"url": f"http://127.0.0.1:{intake}", "credentials": {"bearer": {"token": token}}}
        },
        "decision_logs": {
            "service": "ledger", "partition_name": "eu",
            "reporting": {"min_delay_seconds": 1, "max_delay_seconds": 1},
            "request_context": {"http": {"headers": ["Traceparent"]}},
        },
        "labels": {"app": "kill"},
    }  # fmt: skip
    (folder / "opa.json").write_text(json.dumps(config))
    (folder / "authz.rego").write_text(POLICY)
    port = free_port("127.0.0.1", 0)
    with (folder / "opa.log").open("wb") as out:
        started = subprocess.Popen(
            [program, "run", "--server", "--addr", f"127.0.0.1:{port}", "--config-file", folder / "opa.json",
             "--disable-telemetry", folder / "authz.rego"], stdout=out, stderr=out,
        )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(60)


def _ask(url: str, name: int, ended: threading.Event, answered: dict[str, bool]) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for number in itertools.count():
            if ended.is_set():
                return
            subject = "mallory" if number % 3 == 0 else f"u{name}"
            given = {"subject": {"type": "user", "id": subject}, "action": {"name": "read"}}
            trace = {"traceparent": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"}
            answer = client.post("/v1/data/authz/allow", json={"input": given}, headers=trace).json()
            answered[answer["decision_id"]] = answer["result"]
            time.sleep(PAUSE_SECONDS)  # the load, not a wait


@pytest.mark.timeout(0)
def test_every_decision_of_a_real_opa_is_sealed_once(tmp_path: Path, full_scale: bool) -> None:
    try:
        program = opa()
    except OpaUnavailable as why:
        pytest.skip(str(why))
    ledger, token = tmp_path / "ledger", tmp_path / "token"
    run("init", "--origin", "test.example/opa", "--ledger", ledger)
    token.write_text(secrets.token_hex(16))
    intake = Intake(ledger, token)
    intake.start()
    answered: dict[str, bool] = {}
    ended = threading.Event()
    chance = random.Random(5)
    with _serving(program, tmp_path, intake.port, token.read_text()) as url:
        askers = [threading.Thread(target=_ask, args=(url, n, ended, answered)) for n in range(ASKERS)]
        for one in askers:
            one.start()
        for _ in range(KILLS[full_scale]):
            time.sleep(chance.uniform(0.5, 2.0))  # the load goes on meanwhile
            intake.kill()
            time.sleep(chance.uniform(0.0, 1.0))  # an outage
            intake.start()
        ended.set()
        for one in askers:
            one.join()
        assert len(answered) > 200
        end = time.monotonic() + 120
        sealed: dict[str, bool] = {}
        while len(sealed) < len(answered) and time.monotonic() < end:
            time.sleep(0.2)  # OPA posts once a second
            with Ledger.open(str(ledger)) as opened:
                rows = opened.sql(
                    "SELECT event_id, decision, trace_id IS NOT NULL AS traced FROM events"
                ).to_pylist()
            assert len(rows) == len({row["event_id"] for row in rows})
            assert all(row["traced"] for row in rows)
            sealed = {row["event_id"]: row["decision"] == "allow" for row in rows}
    intake.end()
    assert sealed == answered
