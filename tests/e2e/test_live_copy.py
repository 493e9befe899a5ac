"""A ledger is copied file by file while a worker writes it, as docs/guide/operations.md says."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ledger.log.commit_log import open_log
from ledger.log.signing import SigningKey
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from ledger.writer import Writer
from tests.services import command, run

LEFT_OUT = ("cache", ".lock", ".tmp")


def synced(ledger: Path, copy: Path) -> None:
    """One pass as `rsync -a --delete` makes it: by name, what is new or changed, and what is gone goes."""
    there = set()
    for path in sorted(ledger.rglob("*")):
        name = path.relative_to(ledger)
        if name.parts[0] == "cache" or path.suffix in LEFT_OUT or path.is_dir():
            continue
        there.add(name)
        target = copy / name
        try:
            status = path.stat()
            if target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (
                status.st_size, status.st_mtime_ns,
            ):  # fmt: skip
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        except FileNotFoundError:
            there.discard(name)  # it went meanwhile, as rsync would see it too
    for path in [one for one in copy.rglob("*") if one.is_file()]:
        if path.relative_to(copy) not in there:
            path.unlink()


@pytest.mark.timeout(280)
def test_copies_of_a_ledger_at_work_are_ledgers_at_one_of_its_heads(tmp_path: Path) -> None:
    ledger, copy = tmp_path / "ledger", tmp_path / "copy"
    run("init", "--origin", "test.example/copied", "--ledger", ledger)
    events = tmp_path / "events.jsonl"
    told = {"kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s", "decision": "deny"}
    events.write_text("")
    worker = subprocess.Popen(
        command("ingest", "file", events, "--follow", "--ledger", ledger, "--batch-seconds", "0.05"),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        whole = passes = written = 0
        deadline = time.monotonic() + 200
        copied = 0
        while whole < 5 and time.monotonic() < deadline:
            with events.open("a") as out:
                for number in range(written, written + 40):
                    out.write(json.dumps({"event_id": f"e{number}", **told}) + "\n")
                written += 40
            synced(ledger, copy)
            passes += 1
            if not (copy / "checkpoint").exists():
                continue
            report = verify(LocalStore(copy), workers=1)
            size = open_log(LocalStore(copy)).head.size if report.ok else 0
            if report.ok and size > copied:
                whole, copied = whole + 1, size
                # It is one of the ledger's own heads.
                log = open_log(LocalStore(ledger))
                assert log.tree.root(size) == open_log(LocalStore(copy)).head.root
        assert whole == 5, f"{whole} of {passes} passes gave a whole ledger"
    finally:
        worker.terminate()
        worker.wait(60)
    # Moved to another place, the copy goes on with the key, whose head it has to reach.
    synced(ledger, copy)
    assert verify(LocalStore(copy)).ok
    writer = Writer(LocalStore(copy), SigningKey(tmp_path / "ledger.key"), name="moved")
    writer.tick()
    assert verify(LocalStore(copy)).ok
