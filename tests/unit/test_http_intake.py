"""Events over HTTP: answered with 2xx when they are on the disk, sealed once, without their secrets."""

from __future__ import annotations

import gzip
import json
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.http_cli import _address, _default_spool, _tokens
from ingest.pipeline import Pace, Pipeline
from ingest.sources.http.listener import Listener
from ingest.sources.http.messages import MAX_BODY_BYTES, Unusable, masked, messages_of
from ingest.sources.http.source import SpoolSource, key_of
from ingest.sources.http.spool import Message, Spool, SpoolFull
from ledger.errors import OutsideError, UsageError
from ledger.reader import Ledger
from tests.making import Made, make_ledger

TOKEN = "t" * 32
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln"


def event(n: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{n}", "kind": "decision", "time": "2026-11-25T10:00:00Z", "source": "shop", **more,
    }  # fmt: skip


class Running:
    """A listener with its pipeline, until it is stopped."""

    def __init__(self, made: Made, folder: Path, tokens: tuple[str, ...] = (TOKEN,)) -> None:
        self.spool = Spool(folder)
        self.listener = Listener(self.spool, "127.0.0.1", 0, tokens)
        self.listener.start()
        writer = made.writer()
        found = writer.position(key_of(self.spool))
        self.source = SpoolSource(self.spool, 0 if found is None else found.to)
        self.pipeline = Pipeline(
            self.source, adapter("native"), writer, intake=Intake(name="http"), pace=Pace(seconds=0.01)
        )
        self._thread = threading.Thread(target=self.pipeline.run)
        self._thread.start()
        headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.listener.port}", headers=headers, trust_env=False
        )

    def post(self, body: Any, kind: str = "application/json", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post("/events", content=content, headers={"content-type": kind, **headers})

    def stop(self) -> None:
        self.client.close()
        self.listener.stop()
        self.pipeline.stop()
        self._thread.join()
        self.spool.close()


def sealed(made: Made, query: str = "SELECT event_id FROM events ORDER BY event_id") -> list[dict[str, Any]]:
    with Ledger.open(str(made.folder)) as ledger:
        rows: list[dict[str, Any]] = ledger.sql(query).to_pylist()
    return rows


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path / "made")


@pytest.fixture
def running(made: Made, tmp_path: Path) -> Iterator[Running]:
    running = Running(made, tmp_path / "spool")
    yield running
    if running._thread.is_alive():
        running.stop()


def test_what_was_answered_with_2xx_is_sealed_once(made: Made, running: Running) -> None:
    assert running.post(event(1)).status_code == 202
    assert running.post([event(2), event(3)]).json() == {"messages": 1}
    lines = b"\n".join(json.dumps(event(n)).encode() for n in (4, 5)) + b"\n\n"
    assert running.post(lines, "application/x-ndjson").json() == {"messages": 2}
    assert running.post(
        gzip.compress(lines), "application/x-ndjson", **{"content-encoding": "gzip"}
    ).is_success
    assert running.post(event(1)).status_code == 202  # sent again
    assert running.post({"event_id": "bad"}).status_code == 202  # kept as a dead letter
    assert running.client.get("/health").json()["next"] == 8
    until = time.monotonic() + 60
    while running.source.lag()[running.source.key] and time.monotonic() < until:
        time.sleep(0.01)  # another thread takes it
    running.stop()
    assert [row["event_id"] for row in sealed(made)] == ["e1", "e2", "e3", "e4", "e5"]
    letters = sealed(made, "SELECT status, count(*) AS n FROM dead_letters GROUP BY 1 ORDER BY 1")
    assert letters == [{"status": "duplicate", "n": 3}, {"status": "rejected", "n": 1}]
    # Nothing is left to wait for.
    assert sum(path.stat().st_size for path in running.spool.folder.glob("*.spool")) == 0


def test_a_secret_reaches_no_disk_and_its_place_is_told(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    body = event(1, attributes={"token": "hunter2", "note": f"sent {JWT}"}, password="hunter2")
    batch = [event(2), event(3, attributes={"token": "hunter2"})]
    spool.append([*messages_of(json.dumps(body).encode(), "application/json", "")])
    spool.append([*messages_of(json.dumps(batch).encode(), "application/json", "")])
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"hunter2" not in held
    assert JWT.encode() not in held
    spool.close()
    Running(made, folder).stop()
    rows = sealed(made, "SELECT event_id, masked FROM events ORDER BY event_id")
    assert rows == [
        {"event_id": "e1", "masked": ["/attributes/note", "/attributes/password", "/attributes/token"]},
        {"event_id": "e2", "masked": None},
        {"event_id": "e3", "masked": ["/attributes/token"]},
    ]
    everything = b"".join(path.read_bytes() for path in made.folder.rglob("*") if path.is_file())
    assert b"hunter2" not in everything


def test_the_same_places_are_told_as_without_a_spool(made: Made) -> None:
    from datetime import UTC, datetime

    from ingest import rows
    from ingest.adapters.native import native_row
    from ingest.decoded import Limits

    for more in (
        {"attributes": {"a": {"token": "x"}}}, {"secret": "x", "attributes": {"secret": "kept"}},
        {"reason": f"Bearer {JWT}"}, {"weird/key~": {"password": "x"}}, {"scopes": [f"a {JWT}"]},
    ):  # fmt: skip
        one = event(1, **more)
        limits, now = Limits(), datetime(2026, 11, 25, 11, tzinfo=UTC)
        direct = native_row(one, 0, limits, now)
        message = masked(json.dumps(one).encode())
        again = native_row(json.loads(message.payload), 0, limits, now)
        places = rows.places_of_part(message.places, 0, again.get("attributes"))
        assert sorted(places) == direct["masked"], more


def test_what_was_spooled_survives_a_kill(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.append([Message(json.dumps(event(n)).encode()) for n in range(3)])
    spool._lock.close()  # as a killed process leaves it
    spool._writer.close()
    with (folder / f"{0:020d}.spool").open("ab") as file:
        file.write(struct.pack(">III", 100, 0, 0) + b"half")
    running = Running(made, folder)
    assert running.post(event(3)).is_success
    running.stop()
    assert [row["event_id"] for row in sealed(made)] == ["e0", "e1", "e2", "e3"]
    assert len(list(folder.glob("*.torn-*"))) == 1


def test_a_restart_goes_on_behind_what_is_sealed(made: Made, tmp_path: Path) -> None:
    for n in range(3):
        running = Running(made, tmp_path / "spool")
        assert running.post(event(n)).is_success
        running.stop()
    assert [row["event_id"] for row in sealed(made)] == ["e0", "e1", "e2"]
    offsets = sealed(made, "SELECT record_offset AS n, topic FROM events ORDER BY 1")
    assert [row["n"] for row in offsets] == [0, 1, 2]
    assert len({row["topic"] for row in offsets}) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"{}", {"content-type": "application/json", "content-encoding": "br"}, 415),
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip"}, 400),
        (
            gzip.compress(b"{}", mtime=0)[:-4],
            {"content-type": "application/json", "content-encoding": "gzip"},
            400,
        ),
        (
            gzip.compress(b"{}", mtime=0) * 2,
            {"content-type": "application/json", "content-encoding": "gzip"},
            400,
        ),
        (
            gzip.compress(b" " * (MAX_BODY_BYTES + 1), mtime=0),
            {"content-type": "application/json", "content-encoding": "gzip"},
            413,
        ),
        (b" " * (MAX_BODY_BYTES + 1), {"content-type": "application/json"}, 413),
        (b"x\n" * 100_001, {"content-type": "application/x-ndjson"}, 413),
    ],
)
def test_a_body_that_cannot_be_taken_is_refused(
    running: Running, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = running.client.post("/events", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert running.spool.end == 0


def test_only_who_has_a_token_may_send(running: Running) -> None:
    for authorization in (
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN[:-1]}",
        "Bearer ä",
    ):
        headers = [(b"authorization", authorization.encode())]
        answer = running.client.post("/events", json=event(1), headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert running.client.get("/nowhere").status_code == 404
    assert running.client.get("/events").status_code == 405


def test_a_full_spool_makes_senders_wait(tmp_path: Path, made: Made) -> None:
    spool = Spool(tmp_path / "spool", limit=1_000)
    listener = Listener(spool, "127.0.0.1", 0, ())
    listener.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.port}", trust_env=False) as client:
        statuses = [client.post("/events", json=event(n)).status_code for n in range(20)]
        assert statuses[0] == 202
        assert statuses[-1] == 503
        assert client.post("/events", json=event(99)).headers["retry-after"] == "1"
    listener.stop()
    kept = spool.read(0, limit_bytes=1 << 20, timeout=0)
    assert len(kept.messages) == statuses.count(202)
    spool.close()


def test_the_spool_is_one_processs_and_says_what_is_damaged(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", file_bytes=100)
    with pytest.raises(UsageError, match="Another process"):
        Spool(tmp_path / "s")
    for n in range(9):
        spool.append([Message(f"{n}".encode() * 40, ("/a",))])
    assert spool.read(4, limit_bytes=1, timeout=0).messages == [Message(b"4" * 40, ("/a",))]
    assert [spool.read(n, limit_bytes=1, timeout=0).start for n in range(10)] == [*range(9), 9]
    spool.drop_below(5)
    assert spool.begin == 5
    assert spool.read(0, limit_bytes=1, timeout=0).start == 5
    files = sorted((tmp_path / "s").glob("*.spool"))
    data = bytearray(files[0].read_bytes())
    data[20] ^= 1
    spool.close()
    files[0].write_bytes(data)
    with pytest.raises(OutsideError, match="damaged"):
        Spool(tmp_path / "s")
    (tmp_path / "s/id").write_text("x")
    with pytest.raises(UsageError, match="id"):
        Spool(tmp_path / "s")


def test_a_disk_that_fails_takes_nothing_and_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path / "s")
    spool.append([Message(b"one")])

    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OutsideError):
            spool.append([Message(b"two")])
    spool.append([Message(b"three")])
    spool.close()
    again = Spool(tmp_path / "s")
    assert [one.payload for one in again.read(0, limit_bytes=99, timeout=0).messages] == [b"one", b"three"]
    small = Spool(tmp_path / "other", limit=1)
    with pytest.raises(SpoolFull):
        small.append([Message(b"x")])
    small.close()
    again.close()


def test_options_are_judged(tmp_path: Path) -> None:
    assert _address("[::1]:80") == ("::1", 80)
    for wrong in ("x", ":1", "a:b", "a:70000"):
        with pytest.raises(UsageError):
            _address(wrong)
    path = tmp_path / "tokens"
    for text in ("", "short", "# only a comment"):
        path.write_text(text)
        with pytest.raises(UsageError):
            _tokens(path)
    path.write_text(f"# ours\n{TOKEN}\n")
    assert _tokens(path) == [TOKEN]
    with pytest.raises(UsageError):
        _tokens(tmp_path / "none")
    with pytest.raises(UsageError):
        _default_spool("s3://bucket/x", ".spool")
    assert _default_spool(str(tmp_path / "l"), ".spool").name == "l.spool"
    with pytest.raises(Unusable):
        messages_of(b"", "text/html", "")
