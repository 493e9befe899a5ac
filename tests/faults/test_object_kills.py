"""An intake of objects that is killed again and again: every record of a folder or bucket is sealed once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from tests.buckets import Bucket, trail_file
from tests.foreign_shapes import CLOUDTRAIL
from tests.making import Made, make_ledger
from tests.services import command, run

OBJECTS = {False: 24, True: 60}
RECORDS = {False: 300, True: 400}
KILLS = {False: 2, True: 20}


@pytest.fixture(params=["folder", "s3"])
def arguments(request: pytest.FixtureRequest, tmp_path: Path, full_scale: bool) -> list[str]:
    """What names a place with objects; half of them are large enough to be cut."""
    files = {
        f"AWSLogs/1/CloudTrail/eu/2026/11/23/{number:03}.json.gz": trail_file(
            [
                {**CLOUDTRAIL, "eventID": f"{number}-{one}"}
                for one in range(RECORDS[full_scale] if number % 2 else 3)
            ]
        )
        for number in range(OBJECTS[full_scale])
    }
    if request.param == "folder":
        for name, data in files.items():
            (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "logs" / name).write_bytes(data)
        return [str(tmp_path / "logs")]
    bucket = Bucket(request.getfixturevalue("s3_endpoint"))
    for name, data in files.items():
        bucket.put(name, data)
    client = tmp_path / "client.toml"
    client.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in bucket.settings.items()))
    return [f"s3://{bucket.name}/AWSLogs", "--client-config", str(client)]


def entries(made: Made) -> int:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        return ledger.size


@pytest.mark.timeout(0)
def test_every_record_is_sealed_once_whenever_it_is_killed(
    tmp_path: Path, arguments: list[str], full_scale: bool
) -> None:
    made = make_ledger(tmp_path)
    chance = random.Random(7)
    intake = [
        "ingest", "objects", *arguments, "--as", "trail", "--ledger", str(made.folder),
        "--key", str(made.key.path), "--batch-rows", "150",
    ]  # fmt: skip
    for _ in range(KILLS[full_scale]):
        begun = entries(made)
        started = subprocess.Popen(command(*intake), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        more = chance.randrange(1, 12)
        while entries(made) < begun + more and started.poll() is None and time.monotonic() < until:
            time.sleep(0.01)  # another process commits
        if started.poll() is None:
            os.kill(started.pid, signal.SIGKILL)
        started.wait(30)
    run(*intake)
    wanted = OBJECTS[full_scale] // 2 * (RECORDS[full_scale] + 3)
    with Ledger.open(str(made.folder)) as ledger:
        found = ledger.sql("SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events").to_pylist()
        assert found == [{"n": wanted, "ids": wanted}]
        letters = ledger.sql("SELECT count(*) AS n FROM dead_letters").to_pylist()
        assert letters == [{"n": 0}]  # what was sealed was not even read again
    assert verify(LocalStore(made.folder)).ok
    size = entries(made)
    run(*intake)
    assert entries(made) == size
