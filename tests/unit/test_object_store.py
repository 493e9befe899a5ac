"""What is particular to a bucket: unclear answers, conflicts, lost races, endpoints, plain errors.

A scripted server on the loopback stands for the service, since no real one fails on request.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from ledger.errors import DamageError, OutcomeUnknown, OutsideError, UsageError
from ledger.log.signing import SigningKey, create_key
from ledger.reader import Ledger
from ledger.storage.copied_files import IN_USE_SECONDS, LocalFiles
from ledger.storage.object_store import CREATE_ATTEMPTS, REPLACE_ATTEMPTS, ObjectStore
from ledger.writer import Writer, create_ledger
from tests.making import NOON, Clock, row, stretch

Script = Callable[["Service", str, str], int | None]


class Service(ThreadingHTTPServer):
    """One bucket. `script` may answer a request first: a status, 0 to hang up, or None to let it pass."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.script: Script | None = None
        self.code = "Scripted"
        self.ignores_conditions = False
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def writes(self) -> int:
        return sum(request.startswith("PUT") for request in self.requests)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is no news."""


def _etag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Service
    part = (0, 0, 0)

    def _answer(self) -> None:
        service = self.server
        path = unquote(self.path.removeprefix("/bucket/"))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = self.headers.get("Range", "")
        service.requests.append(f"{self.command} {path} {asked}".rstrip())
        status = service.script(service, self.command, path) if service.script else None
        if status == 0:
            self.close_connection = True
            return
        if status == -1:  # it happens, but the answer is an error
            self._apply(path, body)
            status = 500
        if status is not None:
            self._send(status, f"<Error><Code>{service.code}</Code></Error>".encode())
            return
        with service.lock:
            self._send(*self._apply(path, body))

    def _apply(self, path: str, body: bytes) -> tuple[int, bytes, str | None]:
        objects = self.server.objects
        present = objects.get(path)
        tag = None if present is None else _etag(present)
        if self.command == "PUT":
            if not self.server.ignores_conditions:
                if self.headers.get("If-None-Match") == "*" and present is not None:
                    return 412, b"", None
                if self.headers.get("If-Match") not in (None, tag):
                    return 412, b"", None
            objects[path] = body
            return 200, b"", _etag(body)
        if self.command == "DELETE":
            objects.pop(path, None)
            return 204, b"", None
        if present is None:
            return 404, b"<Error><Code>NoSuchKey</Code></Error>", None
        if (asked := self.headers.get("Range")) is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            if int(first) >= len(present):
                return 416, b"<Error><Code>InvalidRange</Code></Error>", None
            self.part = (int(first), min(int(last) + 1, len(present)), len(present))
            return 206, present[self.part[0] : self.part[1]], tag
        return 200, present, tag

    def _send(self, status: int, body: bytes, tag: str | None = None) -> None:
        self.send_response(status)
        if tag is not None:
            self.send_header("ETag", tag)
        self.send_header("Last-Modified", "Mon, 23 Nov 2026 10:00:00 GMT")
        if status == 206:
            first, end, size = self.part
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_DELETE = _answer  # noqa: N815 - the base class looks for these names

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing is logged."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # No test waits for the jitter between attempts.
    monkeypatch.setattr("ledger.storage.object_store.BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr("ledger.storage.s3_client.READ_RETRIES", 0)
    server = Service()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def store(service: Service) -> ObjectStore:
    return ObjectStore("s3://bucket", endpoint=service.endpoint, request_timeout_seconds=2)


def fail_writes(status: int, times: int = 1_000) -> Script:
    left = [times]

    def script(service: Service, method: str, path: str) -> int | None:
        if method != "PUT" or left[0] == 0:
            return None
        left[0] -= 1
        return status

    return script


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 0])
def test_a_create_without_a_clear_answer_is_unknown_and_is_sent_once(
    store: ObjectStore, service: Service, status: int
) -> None:
    service.script = fail_writes(status)
    with pytest.raises(OutcomeUnknown) as caught:
        store.create("a", b"x")
    assert caught.value.remedy
    assert service.writes() == 1


def test_a_create_that_happened_but_was_answered_with_an_error_is_unknown(
    store: ObjectStore, service: Service
) -> None:
    service.script = fail_writes(-1, times=1)
    with pytest.raises(OutcomeUnknown):
        store.create("a", b"x")
    assert store.read("a") == b"x"


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (400, "BadRequest", "HTTP 400"),
        (401, "No", "access is denied"),
        (403, "AccessDenied", "access is denied"),
        (404, "NoSuchBucket", "the bucket does not exist"),
        (405, "MethodNotAllowed", "does not support"),
        (413, "TooLarge", "HTTP 413"),
        (429, "SlowDown", "overloaded"),
    ],
)
def test_a_refused_create_certainly_did_not_happen(
    store: ObjectStore, service: Service, status: int, code: str, sentence: str
) -> None:
    service.script, service.code = fail_writes(status), code
    with pytest.raises(OutsideError, match=sentence) as caught:
        store.create("a", b"x")
    assert not isinstance(caught.value, OutcomeUnknown)
    assert caught.value.remedy
    assert service.writes() == 1


def test_no_error_repeats_what_the_service_said_or_a_secret(store: ObjectStore, service: Service) -> None:
    service.script, service.code = fail_writes(403), "\x1b[31m test-secret"
    with pytest.raises(OutsideError) as caught:
        store.create("a", b"x")
    assert "test-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_service_that_hangs_ends_in_an_unknown_outcome(service: Service) -> None:
    release = threading.Event()

    def hang(service: Service, method: str, path: str) -> int:
        release.wait(60)
        return 0

    service.script = hang
    store = ObjectStore("s3://bucket", endpoint=service.endpoint, request_timeout_seconds=0.2)
    try:
        with pytest.raises(OutcomeUnknown, match="no answer came in time"):
            store.create("a", b"x")
    finally:
        release.set()


def test_a_service_that_is_not_there_means_that_nothing_was_written(service: Service) -> None:
    with Service() as gone:
        endpoint = gone.endpoint
    store = ObjectStore("s3://bucket", endpoint=endpoint)
    with pytest.raises(OutsideError, match="cannot be reached") as caught:
        store.create("a", b"x")
    assert not isinstance(caught.value, OutcomeUnknown)
    for action in (lambda: store.read("a"), lambda: store.delete("a"), lambda: list(store.list())):
        with pytest.raises(OutsideError, match="cannot be reached"):
            action()


def test_a_conflict_that_leaves_no_object_is_tried_again(store: ObjectStore, service: Service) -> None:
    service.script = fail_writes(409, times=2)
    assert store.create("a", b"x")
    assert store.read("a") == b"x"


def test_a_conflict_with_an_object_is_lost(store: ObjectStore, service: Service) -> None:
    service.objects["a"] = b"theirs"
    service.script = fail_writes(409)
    assert not store.create("a", b"x")
    assert service.writes() == 1


def test_endless_conflicts_end(store: ObjectStore, service: Service) -> None:
    service.script = fail_writes(409)
    with pytest.raises(OutsideError, match="in conflict"):
        store.create("a", b"x")
    assert service.writes() == CREATE_ATTEMPTS


def test_a_service_that_overwrites_in_spite_of_the_condition_is_refused(
    store: ObjectStore, service: Service
) -> None:
    service.ignores_conditions = True
    with pytest.raises(OutsideError, match="overwrites"):
        store.create("a", b"x")


def test_the_condition_is_proved_once_and_only_with_a_small_object(
    store: ObjectStore, service: Service
) -> None:
    assert store.create("large", b"x" * 70_000)
    assert service.writes() == 1
    assert store.create("a", b"x")
    assert service.writes() == 3
    assert store.create("b", b"x")
    assert service.writes() == 4


def test_an_unclear_answer_to_the_proof_does_not_spoil_the_create(
    store: ObjectStore, service: Service
) -> None:
    def second(service: Service, method: str, path: str) -> int | None:
        return 500 if service.writes() == 2 else None

    service.script = second
    assert store.create("a", b"x")
    assert store.create("b", b"x")
    assert service.requests == ["PUT a", "PUT a", "PUT b", "PUT b"]


def test_replace_decides_again_after_a_lost_race(store: ObjectStore, service: Service) -> None:
    seen: list[bytes | None] = []

    def decide(present: bytes | None) -> bytes:
        seen.append(present)
        if len(seen) < 3:
            service.objects["checkpoint"] = b"theirs %d" % len(seen)
        return b"ours"

    assert store.replace("checkpoint", decide)
    assert seen == [None, b"theirs 1", b"theirs 2"]
    assert service.objects["checkpoint"] == b"ours"


def test_replace_never_goes_backwards_when_it_loses(store: ObjectStore, service: Service) -> None:
    def decide(present: bytes | None) -> bytes | None:
        if present is None:
            service.objects["checkpoint"] = b"9"
            return b"5"
        return b"5" if int(present) < 5 else None

    assert not store.replace("checkpoint", decide)
    assert service.objects["checkpoint"] == b"9"


def test_replace_gives_up_after_many_lost_races(store: ObjectStore, service: Service) -> None:
    turn = [0]

    def decide(present: bytes | None) -> bytes:
        turn[0] += 1
        service.objects["checkpoint"] = b"%d" % turn[0]
        return b"ours"

    with pytest.raises(OutsideError, match="Other writers") as caught:
        store.replace("checkpoint", decide)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert turn[0] == REPLACE_ATTEMPTS


@pytest.mark.parametrize("before", [None, b"1"])
@pytest.mark.parametrize("status", [-1, 500], ids=["took effect", "did not"])
def test_replace_resolves_an_unclear_answer_by_reading_back(
    store: ObjectStore, service: Service, before: bytes | None, status: int
) -> None:
    if before is not None:
        service.objects["checkpoint"] = before
    service.script = fail_writes(status, times=1)
    assert store.replace("checkpoint", lambda present: b"2" if present in (None, b"1") else None)
    assert service.objects["checkpoint"] == b"2"
    assert service.writes() == (1 if status == -1 else 2)


def test_replace_that_never_gets_a_clear_answer_is_unknown(store: ObjectStore, service: Service) -> None:
    service.script = fail_writes(500)
    with pytest.raises(OutcomeUnknown):
        store.replace("checkpoint", lambda present: b"2")
    assert service.writes() == REPLACE_ATTEMPTS


def test_a_missing_bucket_is_not_an_empty_ledger(store: ObjectStore, service: Service) -> None:
    service.script, service.code = (lambda service, method, path: 404), "NoSuchBucket"
    for action in (
        lambda: store.read("checkpoint"),
        lambda: store.replace("checkpoint", lambda present: b"x"),
        lambda: store.delete("checkpoint"),
        lambda: list(store.list()),
    ):
        with pytest.raises(OutsideError, match="the bucket does not exist"):
            action()


def test_a_failed_read_is_tried_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.storage.s3_client.READ_RETRIES", 1)
    store = ObjectStore("s3://bucket", endpoint=service.endpoint)
    service.objects["a"] = b"x"
    service.script = lambda service, method, path: 503 if len(service.requests) == 1 else None
    assert store.read("a") == b"x"


def test_an_object_that_is_too_large_is_not_fetched(
    store: ObjectStore, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.storage.limits.OBJECT_LIMIT_BYTES", 10)
    service.objects["a"] = b"x" * 11
    with pytest.raises(OutsideError, match="holds 11 bytes"):
        store.read("a")
    with pytest.raises(UsageError, match="11 bytes"):
        store.create("b", b"x" * 11)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://storage.example:9000",
        "http://192.0.2.1",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
        "storage",
    ],
)
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", None])
def test_unencrypted_endpoints_elsewhere_are_refused(
    service: Service, monkeypatch: pytest.MonkeyPatch, endpoint: str, variable: str | None
) -> None:
    if variable is not None:
        monkeypatch.setenv(variable, endpoint)
    with pytest.raises(UsageError, match="Use https"):
        ObjectStore("s3://bucket", endpoint=None if variable else endpoint)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://s.example"]
)
def test_encrypted_or_local_endpoints_are_accepted(service: Service, endpoint: str) -> None:
    assert ObjectStore("s3://bucket/a/b/", endpoint=endpoint).url == "s3://bucket/a/b"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_the_endpoint_of_the_environment_is_used(
    service: Service, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, service.endpoint)
    assert ObjectStore("s3://bucket").create("a", b"x")
    assert service.objects == {"a": b"x"}


def test_the_endpoint_that_was_checked_wins_over_the_environment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(variable, "http://storage.example")
    assert ObjectStore("s3://bucket", endpoint=service.endpoint).create("a", b"x")


@pytest.mark.parametrize("reused", [False, True], ids=["new connection", "reused connection"])
def test_a_create_is_not_sent_again_when_the_connection_closes_after_it_took_effect(
    store: ObjectStore, service: Service, reused: bool
) -> None:
    if reused:
        assert store.create("earlier", b"x")

    def take_and_hang_up(service: Service, method: str, path: str) -> int | None:
        if method == "PUT" and path == "a":
            service.objects.setdefault("a", b"x")
            return 0
        return None

    service.script = take_and_hang_up
    service.requests.clear()
    with pytest.raises(OutcomeUnknown):
        store.create("a", b"x")
    assert service.requests == ["PUT a"]
    assert store.read("a") == b"x"


def _sealed(store: ObjectStore, place: Path) -> Writer:
    """A ledger in the bucket with three days of events."""
    create_key(place / "key", "test.example/bucket")
    clock = Clock()
    create_ledger(store, SigningKey(place / "key"), clock=clock)
    writer = Writer(store, SigningKey(place / "key"), clock=clock)
    for day in range(3):
        rows = [row(day * 2_000 + n, time=NOON - timedelta(days=day)) for n in range(2_000)]
        writer.commit([stretch(rows, start=day * 2_000)])
    return writer


def test_a_query_reads_ranges_of_the_files_that_its_filter_leaves(
    service: Service, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _sealed(store, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", service.endpoint)
    with Ledger.open("s3://bucket") as ledger:
        service.requests.clear()
        day = "SELECT count(*) AS n FROM events WHERE date = '2026-11-22'"
        assert ledger.sql(day).to_pylist() == [{"n": 2_000}]
        read = {line.split()[1] for line in service.requests if ".parquet" in line}
        # One more: the engine takes the schema from the first file.
        assert any("date=2026-11-22" in path for path in read)
        assert len(read) <= 2
        assert all("bytes=" in line for line in service.requests if ".parquet" in line)
        assert ledger.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 6_000}]
        assert ledger.evidence("e17")
        service.script = lambda _, method, path: (
            503 if method != "PUT" and path.endswith(".parquet") else None
        )
        with pytest.raises(OutsideError, match="503"):
            ledger.sql("SELECT max(action) FROM events")
        service.script = None
        victim = next(path for path in writer.state.files if "2026-11-22" in path)
        service.objects[victim] = service.objects[victim][:100]
        with pytest.raises(DamageError):
            ledger.sql("SELECT count(DISTINCT event_id) FROM events")


def test_a_small_cache_takes_away_no_file_that_was_just_used(
    service: Service, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _sealed(store, tmp_path)
    monkeypatch.setattr("ledger.storage.copied_files.CACHE_BYTES", 1)
    files = LocalFiles(store, tmp_path / "cache")
    copies = [files.path(file) for file in writer.state.files.values()]
    assert all(copy.is_file() for copy in copies)
    long_ago = time.time() - 2 * IN_USE_SECONDS
    for copy in copies:
        os.utime(copy, (long_ago, long_ago))
    first, *others = writer.state.files.values()
    assert files.path(first).is_file()
    (tmp_path / "cache" / first.path).unlink()
    files.path(first)
    assert not any((tmp_path / "cache" / other.path).is_file() for other in others)


def test_a_lost_answer_to_a_segment_is_asked_again_and_the_commit_goes_on(
    service: Service, store: ObjectStore, tmp_path: Path
) -> None:
    writer = _sealed(store, tmp_path)
    lost = iter([0, -1, 500])  # hung up, happened with an error as its answer, and an error alone

    def script(_: Service, method: str, path: str) -> int | None:
        return next(lost, None) if method == "PUT" and path.endswith(".parquet") else None

    service.script = script
    (entry,) = writer.commit([stretch([row(9_999)], start=6_000)]).entries
    assert entry.offsets[0].accepted == 1
    assert next(lost, None) is None
    assert {path for path in service.objects if path.endswith(".parquet")} == set(writer.state.files)
