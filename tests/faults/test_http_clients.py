"""An intake under a thousand clients, silent and slow ones among them, and under bodies of gigabytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import ssl
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ledger.reader import Ledger
from tests.services import run, started_intake

CONTEXT = ssl.create_default_context()
"""Made once: a thousand would take longer than what they send."""
CLIENTS = 1_000
REQUESTS = 2
SILENT = 200
SLOW = 50
BOMB_BYTES = 1 << 30
BOMBS = 16
MORE_MIB = 600
"""What an intake may take beyond its rest: what two bombs open to at once, and what they came as."""


@contextlib.contextmanager
def _intake(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    ledger, log = folder / "ledger", folder / "log"
    run("init", "--origin", "test.example/clients", "--ledger", ledger)
    started, url = started_intake(ledger, log)
    try:
        yield started, url, ledger
        started.terminate()
        assert started.wait(60) == 0, log.read_text()
    finally:
        started.kill()
        started.wait()


def _peak_mib(process: subprocess.Popen[bytes]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1_024


def _sealed(ledger: Path, count: int) -> list[dict[str, Any]]:
    """Ids and how often each is sealed, once so many are: what is spooled is sealed in a moment."""
    end = time.monotonic() + 60
    while True:
        with Ledger.open(str(ledger)) as opened:
            rows: list[dict[str, Any]] = opened.sql(
                "SELECT event_id, count(*) AS n FROM events GROUP BY 1"
            ).to_pylist()
        if len(rows) >= count or time.monotonic() > end:
            return rows
        time.sleep(0.2)


def _events(client: int, request: int) -> list[dict[str, str]]:
    return [
        {"event_id": f"e{client}-{request}-{n}", "kind": "decision", "time": "2026-11-25T10:00:00Z",
         "source": "shop"}
        for n in range(3)
    ]  # fmt: skip


async def _send(url: str, client: int, answered: set[str], statuses: Counter[int]) -> None:
    """One client with a connection of its own, which sends again what was not taken."""
    async with httpx.AsyncClient(trust_env=False, timeout=90, verify=CONTEXT) as one:
        for request in range(REQUESTS):
            sent = _events(client, request)
            for _ in range(50):
                answer = await one.post(url, json=sent)
                statuses[answer.status_code] += 1
                if answer.status_code == 202:
                    answered |= {event["event_id"] for event in sent}
                    break
                assert answer.status_code == 503
                await asyncio.sleep(float(answer.headers.get("retry-after", 1)))


async def _dribble(host: str, port: int) -> bytes:
    """A body that comes a byte at a time and never ends; what it is answered."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /events HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 999\r\n\r\n".encode())
    said = b""
    for _ in range(200):
        with contextlib.suppress(TimeoutError):
            said = await asyncio.wait_for(reader.read(4_096), 0.5)
            break
        writer.write(b" ")
    writer.close()
    return said


@pytest.mark.timeout(0)
def test_a_thousand_clients_are_served_while_others_are_silent_or_slow(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192) if hard > 0 else 8_192, hard))
    answered: set[str] = set()
    statuses: Counter[int] = Counter()
    with _intake(tmp_path) as (process, url, ledger), contextlib.ExitStack() as held:
        host, port = url.removeprefix("http://").removesuffix("/events").split(":")
        silent = [held.enter_context(socket.create_connection((host, int(port)))) for _ in range(SILENT)]
        silent[0].sendall(b"POST /events HTTP/1.1\r\nHost: x\r\n")

        async def everybody() -> list[bytes]:
            slow = [asyncio.create_task(_dribble(host, int(port))) for _ in range(SLOW)]
            await asyncio.gather(*(_send(url, client, answered, statuses) for client in range(CLIENTS)))
            return await asyncio.gather(*slow)

        said = asyncio.run(everybody())
        assert all(b" 408 " in one for one in said), Counter(one[:20] for one in said)
        for one in silent:
            one.settimeout(60)
            assert one.recv(1) == b""
        assert len(answered) == CLIENTS * REQUESTS * 3, statuses
        rows = _sealed(ledger, len(answered))
        peak = _peak_mib(process)
    assert {row["event_id"] for row in rows} == answered
    assert all(row["n"] == 1 for row in rows)
    assert peak < MORE_MIB + 200, f"{peak} MiB"
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_bodies_that_open_to_gigabytes_cost_bounded_memory(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    piece = b" " * (1 << 20)
    bomb = b"".join(packer.compress(piece) for _ in range(BOMB_BYTES >> 20)) + packer.flush()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    with _intake(tmp_path) as (process, url, ledger):
        with httpx.Client(trust_env=False, timeout=60) as one:
            assert one.post(url, content=json.dumps(_events(0, 0))).status_code == 415
            assert one.post(url, json=_events(0, 0)).status_code == 202
        before = _peak_mib(process)

        async def all_at_once() -> list[int]:
            async with httpx.AsyncClient(trust_env=False, timeout=90) as many:
                sent = (many.post(url, content=bomb, headers=headers) for _ in range(BOMBS))
                return [answer.status_code for answer in await asyncio.gather(*sent)]

        statuses = Counter(asyncio.run(all_at_once()))
        assert set(statuses) <= {413, 503}
        assert statuses[413]
        assert _peak_mib(process) - before < MORE_MIB
        assert len(_sealed(ledger, 3)) == 3
