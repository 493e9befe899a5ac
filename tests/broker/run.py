"""One broker per run, whoever asks first: a keeper process holds it and ends it with its owner."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.broker.broker import START_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS, open_broker
from tests.broker.jars import FETCH_TIMEOUT_SECONDS, BrokerUnavailable

OWNER_CHECK_SECONDS = 1.0
ANSWER_TIMEOUT_SECONDS = START_TIMEOUT_SECONDS + FETCH_TIMEOUT_SECONDS
CHECKOUT = Path(__file__).resolve().parents[2]
_KEEPERS: dict[Path, subprocess.Popen[bytes]] = {}
"""Those that this process started: a handle that is dropped while its process runs is a warning."""


def ask(folder: Path, owner: int) -> dict[str, str]:
    """The broker of the run in `folder`: its `bootstrap` and `label`, or `unavailable` with the reason.

    The first caller starts the keeper; callers in other processes wait for its answer. The broker
    ends when the process `owner` does (0: only on `end`).
    """
    answer = folder / "broker.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if answer.exists():
            return dict(json.loads(answer.read_text()))
        with (folder / "keeper.log").open("ab") as log:
            keeper = subprocess.Popen(
                [sys.executable, "-m", "tests.broker", "keep", str(folder), str(owner)],
                cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        _KEEPERS[folder] = keeper
        deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
        while not answer.exists():
            if keeper.poll() is not None or time.monotonic() > deadline:
                return {"unavailable": (folder / "keeper.log").read_text()[-500:] or "no answer"}
            time.sleep(0.05)
        return dict(json.loads(answer.read_text()))


def end(folder: Path) -> None:
    """Stop the run's broker, if there is one, and remove `folder`."""
    pid = folder / "keeper.pid"
    if pid.exists():
        keeper = int(pid.read_text())
        with suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        while pid.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
    started = _KEEPERS.pop(folder, None)
    if started is not None:
        started.wait(STOP_TIMEOUT_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path, owner: int) -> None:
    """Open a broker, say so in `folder`, hold it until SIGTERM or the owner's end."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pid = folder / "keeper.pid"
    pid.write_text(str(os.getpid()))
    try:
        broker = open_broker(folder)
    except BrokerUnavailable as reason:
        _say(folder, {"unavailable": str(reason)})
        pid.unlink()
        return
    _say(folder, {"bootstrap": broker.bootstrap, "label": broker.label})
    try:
        while not stopping.wait(OWNER_CHECK_SECONDS) and _lives(owner):
            pass
    finally:
        broker.stop()
        pid.unlink(missing_ok=True)
        if not stopping.is_set():
            shutil.rmtree(folder, ignore_errors=True)


def _lives(owner: int) -> bool:
    if owner == 0:
        return True
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        return False
    return True


def _say(folder: Path, what: dict[str, str]) -> None:
    partial = folder / "broker.json.partial"
    partial.write_text(json.dumps(what))
    partial.rename(folder / "broker.json")
