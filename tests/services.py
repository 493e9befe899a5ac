"""The real processes of an end-to-end test: the identity stack, an intake, a destination outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]


def command(*arguments: str | Path) -> list[str]:
    """The program's own command line."""
    return [sys.executable, str(CHECKOUT / "decision_ledger.py"), *map(str, arguments)]


def run(*arguments: str | Path, code: int = 0) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def started_intake(ledger: Path, log: Path, *more: str) -> tuple[subprocess.Popen[bytes], str]:
    """`ingest http` as a process that the test ends, and where it listens."""
    with log.open("wb") as out:
        started = subprocess.Popen(
            command("ingest", "http", "--listen", "127.0.0.1:0", "--ledger", ledger, *more),
            stdout=out, stderr=out,
        )  # fmt: skip
    end = time.monotonic() + 60
    while b"Listening on " not in log.read_bytes():
        assert started.poll() is None, log.read_text()
        assert time.monotonic() < end
        time.sleep(0.02)
    return started, log.read_text().split("Listening on ")[1].split()[0]


@contextlib.contextmanager
def process(
    *arguments: str | Path, ready: str | None = None, environment: dict[str, str] | None = None
) -> Iterator[str]:
    """A command that runs until the block ends; what it printed up to the line with `ready`."""
    import os

    started = subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert started.stdout is not None
    said = ""
    try:
        if ready is not None:
            for line in started.stdout:
                said += line
                if ready in line:
                    break
            assert ready in said, said
        drain = Thread(target=started.stdout.read, daemon=True)
        drain.start()
        yield said
        assert started.poll() is None, "it ended by itself"
    finally:
        started.terminate()
        started.wait(30)
        started.stdout.close()


@contextlib.contextmanager
def identity_stack(folder: Path, events: str, **environment: str) -> Iterator[dict[str, str]]:
    """`issuer serve` over a folder of `issuer init`; where each service is."""
    with process(
        "issuer", "serve", "--state", folder, "--base-port", "0", "--events", events, "--json",
        "--allow-test-destinations", ready='"services"', environment=environment,
    ) as said:  # fmt: skip
        line = next(line for line in said.splitlines() if '"services"' in line)
        yield json.loads(line)["services"]


@contextlib.contextmanager
def outside() -> Iterator[tuple[list[dict[str, Any]], int]]:
    """A destination on loopback: what it was sent, and its port."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            kept = {name.lower(): value for name, value in self.headers.items()}
            seen.append({"path": self.path, "headers": kept, "body": body})
            self.send_response(201)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield seen, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
