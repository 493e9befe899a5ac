"""A bucket behind a line that is slow and fails: refusals, cut connections, answers that never come.

The service is a real S3 API. Before it stands a proxy that, by chance, answers 500 or 503 itself, closes the
connection before or after the request was carried out, answers 500 after it was carried out, or keeps a
write's answer back until the client has given up and carries it out later. It hands requests on one by one,
since the service does not make conditional writes atomic.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

from ledger.errors import LedgerError
from ledger.log.signing import SigningKey, create_key
from ledger.storage.object_store import ObjectStore
from ledger.upkeep.compaction import Compaction
from ledger.writer import Writer, create_ledger
from tests.buckets import KEYS, REGION, Bucket, s3_service
from tests.faults.ledger_maker import ORIGIN, Clock
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import CLASSES
from tests.reliability.sending import Partition, check, copied, finish

EVENTS = 16
TIMEOUT_SECONDS = 0.5
LATE_SECONDS = 0.8
PATIENT_SECONDS = 60.0
"""For what is not under test: making the ledger, and looking at it at the end."""
WRITERS = (1, 2, 4)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
    "NO_PROXY": "*",
}  # fmt: skip


class Line(ThreadingHTTPServer):
    """The proxy. `share` of the requests fail; none while it is 0."""

    daemon_threads = True

    def __init__(self, service: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = urlsplit(service).netloc
        self.one_at_a_time = threading.Lock()
        self.late: list[threading.Thread] = []
        self.share = 0.0
        self.chance = random.Random(0)
        self.tally = Tally()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Line

    def _handed_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        way = self._way()
        if way is not None:
            self.server.tally.counts[way] += 1
        match way:
            case "503 before" | "500 before":
                self._send(int(way[:3]), b"<Error><Code>SlowDown</Code></Error>", {})
            case "cut before":
                self.close_connection = True
            case "cut after" | "500 after":
                self._carried_out(body)
                if way == "cut after":
                    self.close_connection = True
                else:
                    self._send(500, b"<Error><Code>InternalError</Code></Error>", {})
            case "carried out late":
                later = threading.Timer(LATE_SECONDS, self._carried_out, (body,))
                self.server.late.append(later)
                later.start()
                self.close_connection = True
                time.sleep(TIMEOUT_SECONDS + 0.1)
            case _:
                self._send(*self._carried_out(body))

    def _way(self) -> str | None:
        line = self.server
        with line.one_at_a_time:
            if line.chance.random() >= line.share:
                return None
            ways = ["503 before", "500 before", "cut before", "cut after", "500 after"]
            if self.command == "PUT" and line.chance.random() < 0.15:
                return "carried out late"
            return line.chance.choice(ways)

    def _carried_out(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        line = self.server
        with line.one_at_a_time:
            connection = http.client.HTTPConnection(line.service, timeout=30)
            try:
                connection.request(self.command, self.path, body or None, dict(self.headers))
                answer = connection.getresponse()
                return answer.status, answer.read(), dict(answer.getheaders())
            finally:
                connection.close()

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if self.command == "HEAD":
            self.send_header("Content-Length", headers.get("Content-Length", "0"))
        elif status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _handed_on  # noqa: N815 - the base class looks for these

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing is logged."""


@contextlib.contextmanager
def failing_line() -> Iterator[Line]:
    """A proxy before an S3 API of its own."""
    with s3_service() as service:
        line = Line(service)
        thread = threading.Thread(target=line.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield line
        finally:
            line.shutdown()
            thread.join()
            line.server_close()


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    with (
        mock.patch.dict(os.environ, ENVIRONMENT),
        mock.patch("ledger.storage.object_store.BACKOFF_SECONDS", 0.005),
        mock.patch("ledger.storage.s3_client.READ_RETRIES", 1),
        failing_line() as line,
    ):
        for number in cases:
            begun = time.monotonic()
            tally = Tally(cases=1)
            with tempfile.TemporaryDirectory(dir=folder) as place:
                _case(number, line, Path(place), tally)
            tally.seconds = time.monotonic() - begun
            yield tally


def _case(number: int, line: Line, folder: Path, tally: Tally) -> None:
    line.chance, line.tally, line.share = random.Random(f"line {number}"), tally, 0.0
    clock, url = Clock(), f"s3://{Bucket(line.endpoint).name}/ledger"
    count = WRITERS[number % len(WRITERS)]
    tally.counts[f"{count} writers"] += 1

    def store(seconds: float = TIMEOUT_SECONDS) -> ObjectStore:
        return ObjectStore(url, endpoint=line.endpoint, region=REGION, request_timeout_seconds=seconds)

    create_key(folder / "ledger.key", ORIGIN)
    key = SigningKey(folder / "ledger.key")
    create_ledger(store(PATIENT_SECONDS), key, retention=CLASSES, clock=clock)
    partitions = [Partition.of(n, EVENTS, clock.now, random.Random(f"{number} {n}")) for n in range(count)]
    line.share = random.Random(f"share {number}").choice((0.02, 0.05, 0.15))

    def work(which: int) -> None:
        chance = random.Random(f"worker {number} {which}")
        writer: Writer | None = None
        for _ in range(14):
            try:
                writer = writer or Writer(store(), SigningKey(key.path), name=f"w{which}", clock=clock)
                if chance.random() < 0.1:
                    Compaction(writer).run(fan_in=2, most=1)
                elif not partitions[which].send(writer, chance.randint(1, 4)):
                    return
            except LedgerError as error:
                tally.counts[f"told: {type(error).__name__}"] += 1
                writer = None if chance.random() < 0.4 else writer

    workers = [threading.Thread(target=work, args=(which,)) for which in range(count)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    line.share = 0.0
    for late in line.late:
        late.join()
    line.late.clear()
    finish(partitions, Writer(store(PATIENT_SECONDS), key, name="last", clock=clock))
    held = store(PATIENT_SECONDS)
    objects = {file.path: held.read(file.path) or b"" for file in held.list()}
    check(tally, f"case {number}", held, key.verifier, partitions, copied(objects, folder / "copy"))


CAMPAIGN = Campaign(
    "object-store", "A bucket of a real S3 API over a line that refuses, cuts, delays and loses answers; "
    "one, two and four writers.", 60, 2, ("lost", "doubled", "forks", "damaged"), run,
)  # fmt: skip
