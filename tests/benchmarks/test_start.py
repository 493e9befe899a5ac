"""How long a command takes to start: whole processes, as a person waits for them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.conftest import Record
from tests.making import make_ledger, row, stretch

RUNS = 9
PROGRAM = str(Path(sys.executable).with_name("decision-ledger"))


def _seconds(*arguments: str) -> list[float]:
    taken = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run([PROGRAM, *arguments], check=True, capture_output=True)
        taken.append(time.perf_counter() - start)
    return taken[1:]  # the first one warms the caches


def test_starting(tmp_path: Path, record: Record) -> None:
    made = make_ledger(tmp_path)
    made.writer().commit([stretch([row(n) for n in range(1_000)])])
    url, bundle = ["--ledger", str(made.folder)], str(tmp_path / "bundle.json")
    subprocess.run([PROGRAM, "evidence", "export", "e7", "-o", bundle, *url], check=True, capture_output=True)
    record("start_help", _seconds("--help"), "s", 0.3)
    record("start_status", _seconds("status", *url), "s", 0.6)
    verify = _seconds("evidence", "verify", bundle, "--vkey", made.key.signer.vkey)
    record("start_evidence_verify", verify, "s", 0.6)
