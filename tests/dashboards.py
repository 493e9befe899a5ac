"""A real dashboard for tests: the command as a process on an ephemeral port, over a made ledger."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 90


def made_demo(place: Path) -> Path:
    """The demo's ledger in a folder: a day with three incidents, looked at by the rules."""
    subprocess.run(
        [sys.executable, "-m", "decision_ledger", "demo", "--no-dashboard", "--dir", str(place / "d")],
        check=True, capture_output=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return place / "d" / "ledger"


@contextmanager
def serving(ledger: Path | str, *arguments: str, home: Path) -> Iterator[str]:
    """The address of a dashboard; it is ended, and its last words looked at, afterwards."""
    log = home / "dashboard.log"
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "decision_ledger", "--json", "--ledger", str(ledger), "dashboard",
             "--listen", "127.0.0.1:0", *arguments],
            stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=Path(__file__).parents[1],
        )  # fmt: skip
    try:
        yield _address(process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    said = log.read_text()
    assert "Traceback" not in said, said[-6_000:]


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    import httpx

    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        found = re.search(r"^\{.*\}$", log.read_text(), flags=re.MULTILINE)
        if process.poll() is not None:
            raise AssertionError(log.read_text())
        if found:
            url: str = json.loads(found[0])["url"]
            try:
                if httpx.get(f"{url}/_stcore/health", timeout=2).status_code == 200:
                    return url
            except httpx.TransportError:
                pass
        time.sleep(0.1)  # the process opens its port when it is ready; there is nothing to wait on
    raise AssertionError(f"no dashboard after {START_SECONDS} s: {log.read_text()}")


@contextmanager
def taking(ledger: Path, home: Path) -> Iterator[list[str]]:
    """An intake of what people do, over a ledger; the dashboard's arguments to hand over to it."""
    token = home / "token"
    token.write_text("t" * 40)
    log = home / "intake.log"
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "decision_ledger", "--ledger", str(ledger), "ingest", "http", "--people",
             "--listen", "127.0.0.1:0", "--token-file", str(token), "--batch-seconds", "0.2"],
            stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=Path(__file__).parents[1],
        )  # fmt: skip
    try:
        until = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://[0-9.:]+(?=/events)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)  # as above
        yield ["--intake", found[0], "--intake-token-file", str(token)]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
