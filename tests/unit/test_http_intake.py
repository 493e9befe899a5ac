"""Events over HTTP: answered with 2xx when they are on the disk, sealed once, without their secrets."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import ssl
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
from ingest.decoded import Adapter
from ingest.http_cli import _default_spool, _tls
from ingest.pipeline import Pace, Pipeline
from ingest.sources.http import listener as http_listener
from ingest.sources.http.admission import Pace as Rate
from ingest.sources.http.admission import Room
from ingest.sources.http.listener import Listener, Tls
from ingest.sources.http.messages import (
    MAX_BODY_BYTES,
    MAX_OPENED_BYTES,
    Unusable,
    masked,
    messages_of,
)
from ingest.sources.http.source import SpoolSource, key_of
from ingest.sources.http.spool import Message, Spool, SpoolFull
from ledger.errors import OutsideError, UsageError
from ledger.reader import Ledger
from ledger.settings.listening import address, read_tokens
from tests.certificates import CertificateAuthority
from tests.foreign_shapes import CLOUDEVENTS, OPA
from tests.making import Made, make_ledger

TOKEN = "t" * 32
JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln"


def event(n: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{n}", "kind": "decision", "time": "2026-11-25T10:00:00Z", "source": "shop", **more,
    }  # fmt: skip


class Running:
    """A listener with its pipeline, until it is stopped."""

    def __init__(
        self, made: Made, folder: Path, tokens: tuple[str, ...] = (TOKEN,), reader: Adapter | None = None,
        **more: Any,
    ) -> None:  # fmt: skip
        self.spool = Spool(folder)
        self.listener = Listener(self.spool, "127.0.0.1", 0, tokens, **more)
        self.listener.start()
        writer = made.writer()
        found = writer.position(key_of(self.spool))
        self.source = SpoolSource(self.spool, 0 if found is None else found.to)
        self.pipeline = Pipeline(
            self.source,
            reader or adapter("native"),
            writer,
            intake=Intake(name="http"),
            pace=Pace(seconds=0.01),
        )
        self._thread = threading.Thread(target=self.pipeline.run)
        self._thread.start()
        headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.listener.port}", headers=headers, trust_env=False
        )

    def sealed_all(self) -> None:
        """Wait until what was answered for is handed over, and end."""
        until = time.monotonic() + 60
        while self.source.lag()[self.source.key] and time.monotonic() < until:
            time.sleep(0.01)  # another thread takes it
        self.stop()

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
    assert running.post([event(2), event(3)]).json() == {"messages": 2}
    lines = b"\n".join(json.dumps(event(n)).encode() for n in (4, 5)) + b"\n\n"
    assert running.post(lines, "application/x-ndjson").json() == {"messages": 2}
    assert running.post(
        gzip.compress(lines), "application/x-ndjson", **{"content-encoding": "gzip"}
    ).is_success
    assert running.post(event(1)).status_code == 202  # sent again
    assert running.post({"event_id": "bad"}).status_code == 202  # kept as a dead letter
    assert running.client.get("/health").json()["next"] == 9
    running.sealed_all()
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
    spool.append([*messages_of(json.dumps(body).encode(), "application/json")])
    spool.append([*messages_of(json.dumps(batch).encode(), "application/json")])
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
        (b"{}", {"content-type": "application/json", "content-encoding": "gzip, gzip"}, 415),
        (b"{", {"content-type": "application/json"}, 400),
        (b"[{},", {"content-type": "application/json"}, 400),
        (b"[{}] 1", {"content-type": "application/json"}, 400),
        (b"[{} {}]", {"content-type": "application/json"}, 400),
        (b"[" * 100_000, {"content-type": "application/json"}, 400),
        (b'["\xff"]', {"content-type": "application/json"}, 400),
        (b"[" + b"1," * 100_000 + b"1]", {"content-type": "application/json"}, 413),
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
            gzip.compress(b" " * (MAX_OPENED_BYTES + 1), mtime=0),
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
    assert address("[::1]:80") == ("::1", 80)
    for wrong in ("x", ":1", "a:b", "a:70000"):
        with pytest.raises(UsageError):
            address(wrong)
    path = tmp_path / "tokens"
    for text in ("", "short", "# only a comment"):
        path.write_text(text)
        with pytest.raises(UsageError):
            read_tokens(path)
    path.write_text(f"# ours\n{TOKEN}\n")
    assert read_tokens(path) == [TOKEN]
    with pytest.raises(UsageError):
        read_tokens(tmp_path / "none")
    with pytest.raises(UsageError):
        _default_spool("s3://bucket/x", ".spool")
    assert _default_spool(str(tmp_path / "l"), ".spool").name == "l.spool"
    with pytest.raises(Unusable):
        messages_of(b"", "text/html")


def test_opa_posts_its_chunks_and_a_bad_decision_does_not_take_its_neighbours_along(
    made: Made, tmp_path: Path
) -> None:
    running = Running(made, tmp_path / "spool", reader=adapter("opa"))
    good = [{**OPA, "decision_id": f"d{n}"} for n in range(3)]
    chunk = gzip.compress(json.dumps([*good, {**OPA, "timestamp": "yesterday"}, 7]).encode(), mtime=0)
    for path in ("/logs", "/logs/eu-west"):
        headers = {"content-type": "application/json", "content-encoding": "gzip"}
        answer = running.client.post(path, content=chunk, headers=headers)
        assert (answer.status_code, answer.json()) == (202, {"messages": 5})
    assert running.client.post("/logs/a/b", content=chunk).status_code == 404
    running.sealed_all()
    assert [row["event_id"] for row in sealed(made)] == ["d0", "d1", "d2"]
    letters = sealed(made, "SELECT status, count(*) AS n FROM dead_letters GROUP BY 1 ORDER BY 1")
    assert letters == [{"status": "duplicate", "n": 3}, {"status": "rejected", "n": 4}]


def test_cloudevents_come_one_by_one_in_batches_and_in_headers(made: Made, tmp_path: Path) -> None:
    reader = adapter("cloudevents")
    running = Running(made, tmp_path / "spool", reader=reader, binary_events=True)
    one, two = ({**CLOUDEVENTS, "id": name} for name in ("one", "two"))
    three = {**CLOUDEVENTS, "id": "three"}
    assert running.post(one, "application/cloudevents+json; charset=utf-8").json() == {"messages": 1}
    assert running.post([two, three], "application/cloudevents-batch+json").json() == {"messages": 2}
    data = three.pop("data")
    told = {f"ce-{name}": value for name, value in three.items() if name != "datacontenttype"}
    told |= {"ce-id": "four%20", "ce-token": "hunter2"}
    assert running.post(data, **told).json() == {"messages": 1}
    assert running.post(b"{", **told).status_code == 400
    held = b"".join(path.read_bytes() for path in running.spool.folder.iterdir())
    running.sealed_all()
    assert b"hunter2" not in held
    rows = sealed(made, "SELECT event_id, source, decision FROM events ORDER BY 1")
    assert [row["event_id"] for row in rows] == ["four ", "one", "three", "two"]
    assert {(row["source"], row["decision"]) for row in rows} == {("gateway/eu", "deny")}


def test_a_dead_letter_tells_the_digest_of_what_was_received(made: Made, tmp_path: Path) -> None:
    running = Running(made, tmp_path / "spool")
    plain, secret = b'{"a": 1}', b'{"a": "x", "password": "hunter2"}'
    assert running.post(b"[" + plain + b" , " + secret + b"]").is_success
    running.sealed_all()
    letters = sealed(made, "SELECT digest, payload FROM dead_letters ORDER BY record_offset")
    assert [row["digest"] for row in letters] == [hashlib.sha256(one).hexdigest() for one in (plain, secret)]
    assert "hunter2" not in str(letters)


def test_a_sender_that_is_too_fast_is_told_when_to_come_again(made: Made, tmp_path: Path) -> None:
    other = "u" * 32
    running = Running(made, tmp_path / "spool", (TOKEN, other), max_rate=2)
    assert running.post([event(n) for n in range(20)]).is_success
    refused = running.post(event(21))
    assert refused.status_code == 429
    assert 5 <= int(refused.headers["retry-after"]) <= 9
    assert running.post(event(22), authorization=f"Bearer {other}").is_success
    running.stop()


def test_the_pace_of_a_sender_by_the_clock() -> None:
    now = [100.0]
    pace = Rate(10, lambda: now[0])
    pace.count("a", 10)
    assert pace.wait_seconds("a") == 0
    pace.count("a", 25)
    assert pace.wait_seconds("a") == 3
    now[0] += 2.6
    assert pace.wait_seconds("a") == 0
    assert Rate(None).wait_seconds("a") == 0


def test_what_is_held_at_once_is_bounded_and_given_back(made: Made, tmp_path: Path) -> None:
    running = Running(made, tmp_path / "spool")
    running.listener._room = Room(5_000)
    small, large = [event(1)], gzip.compress(json.dumps([event(1)] * 200).encode(), mtime=0)
    assert running.post(small).is_success
    refused = running.post(large, **{"content-encoding": "gzip"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert running.listener._room.held == 0
    assert running.post(small).is_success
    running.stop()


def test_a_connection_that_does_not_say_what_it_wants_is_let_go(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_listener, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(http_listener, "BODY_SECONDS", 0.2)
    running = Running(made, tmp_path / "spool", ())
    head = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    whole = head.replace(b": 9", b": 2") + b"\r\n{}"
    for sent, answers in ((b"", 0), (head, 0), (head + b"\r\n{", 1), (whole + head, 1)):
        with socket.create_connection(("127.0.0.1", running.listener.port), timeout=20) as one:
            one.sendall(sent)
            said = b""
            while piece := one.recv(4_096):
                said += piece
            assert said.count(b"HTTP/1.1") == answers, (sent, said)
    assert running.post(event(1)).is_success
    running.stop()


def test_senders_show_certificates(made: Made, tmp_path: Path) -> None:
    authority = CertificateAuthority("senders", tmp_path)
    cert, key = authority.issue("localhost", tmp_path)
    stranger = CertificateAuthority("strangers", tmp_path / "other")
    tls = Tls(cert, key, authority.certificate)
    running = Running(made, tmp_path / "spool", (), tls=tls)
    url = f"https://localhost:{running.listener.port}"

    def sending(shown: tuple[Path, Path] | None) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(authority.certificate))
        if shown is not None:
            context.load_cert_chain(shown[0], shown[1])
        return httpx.Client(base_url=url, verify=context, trust_env=False)

    with sending(authority.issue("sender", tmp_path)) as known:
        assert known.post("/events", json=event(1)).status_code == 202
    for shown in (None, stranger.issue("sender", tmp_path / "other")):
        with sending(shown) as unknown, pytest.raises(httpx.TransportError):
            unknown.post("/events", json=event(2))
    running.sealed_all()
    assert [row["event_id"] for row in sealed(made)] == ["e1"]


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path, made: Made) -> None:
    with pytest.raises(UsageError, match="need a certificate"):
        _tls(None, tmp_path / "key", None)
    with pytest.raises(UsageError, match="There is no file"):
        _tls(tmp_path / "cert", None, None)
    wrong = tmp_path / "cert"
    wrong.write_text("no certificate")
    spool = Spool(tmp_path / "spool")
    with pytest.raises(OutsideError, match="certificate"):
        Listener(spool, "127.0.0.1", 0, (), tls=Tls(wrong))
    spool.close()
