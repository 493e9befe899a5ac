"""Whole processes, timed: what a user would start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import workload
from tests.services import command

TIMEOUT_SECONDS = 3_600
SEED = 7


def environment(folder: Path) -> dict[str, str]:
    """Settings and caches of the benchmark's own."""
    return {
        **os.environ, "XDG_CONFIG_HOME": str(folder / "config"), "XDG_CACHE_HOME": str(folder / "cache"),
    }  # fmt: skip


def seconds(arguments: list[str], folder: Path) -> float:
    """How long a process takes, its start included. Raises CalledProcessError where it fails."""
    begun = time.perf_counter()
    subprocess.run(
        arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(folder),
        timeout=TIMEOUT_SECONDS, cwd=folder,
    )  # fmt: skip
    return time.perf_counter() - begun


def script(text: str, *arguments: str | Path) -> list[str]:
    """A Python program given as text."""
    return [sys.executable, "-c", text, *map(str, arguments)]


def new_ledger(folder: Path) -> Path:
    """An empty ledger in the place of any that was there; every round has one of its own."""
    for name in ("ledger", "config", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "ledger.key").unlink(missing_ok=True)
    ledger = folder / "ledger"
    seconds(command("init", "--origin", "bench.example/x", "--ledger", str(ledger)), folder)
    return ledger


def lines_file(count: int, folder: Path) -> Path:
    """`count` events of the reference workload, one JSON object a line."""
    path = folder / f"{count}.jsonl"
    with path.open("wb") as file:
        for line in workload.each_line(count, SEED):
            file.write(line + b"\n")
    return path
