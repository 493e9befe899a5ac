"""An HTTP intake that is killed while senders post: what was answered with 2xx is sealed, and sealed once."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import httpx
import pytest

from ledger.reader import Ledger
from tests.services import run, started_intake

KILLS = {False: 3, True: 20}
BATCH = 20
PACE = ("--batch-seconds", "0.05")


@pytest.mark.timeout(0)
def test_what_was_answered_for_survives_every_kill(tmp_path: Path, full_scale: bool) -> None:
    ledger = tmp_path / "ledger"
    run("init", "--origin", "test.example/kill", "--ledger", ledger)
    chance = random.Random(11)
    answered: set[str] = set()
    number = 0
    for kill in range(KILLS[full_scale]):
        intake, url = started_intake(ledger, tmp_path / f"log-{kill}", *PACE)
        until = time.monotonic() + chance.uniform(0.2, 1.5)
        with httpx.Client(trust_env=False, timeout=10) as client:
            killed = False
            while not killed:
                ids = [f"e{number + n}" for n in range(BATCH)]
                number += BATCH
                lines = [
                    json.dumps({"event_id": name, "kind": "decision", "time": "2026-11-25T10:00:00Z",
                                "source": "shop"})
                    for name in ids
                ]  # fmt: skip
                if time.monotonic() > until:
                    intake.kill()
                    killed = True
                try:
                    answer = client.post(
                        url, content="\n".join(lines), headers={"content-type": "application/x-ndjson"}
                    )
                except httpx.HTTPError:
                    continue
                if answer.status_code == 202:
                    answered |= {*ids}
        intake.wait()
    intake, _ = started_intake(ledger, tmp_path / "log-last", *PACE)
    end = time.monotonic() + 60
    sealed: set[str] = set()
    while not answered <= sealed and time.monotonic() < end:
        with Ledger.open(str(ledger)) as opened:
            rows = opened.sql("SELECT event_id, count(*) AS n FROM events GROUP BY 1").to_pylist()
        sealed = {row["event_id"] for row in rows}
        assert all(row["n"] == 1 for row in rows)
        time.sleep(0.1)
    intake.terminate()
    assert intake.wait(30) == 0
    assert answered
    assert answered <= sealed
    run("verify", "--ledger", ledger)
