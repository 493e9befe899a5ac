"""The contract of `ledger.storage.store.Store`, over every store, and the addresses of stores."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ledger.errors import UsageError
from ledger.storage.local_store import LOCK_SUFFIX, LocalStore
from ledger.storage.object_store import ObjectStore
from ledger.storage.store import Store
from ledger.storage.stores import open_store
from tests.buckets import Bucket
from tests.simulated_store import SimulatedStore

UNUSABLE_PATHS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x7f",
    "\udcff",
    "x" * 241,
    "/".join(["x" * 100] * 10),
]


@pytest.fixture(params=["local", "simulated", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "new" / "ledger")
    if request.param == "simulated":
        return SimulatedStore()
    endpoint: str = request.getfixturevalue("s3_endpoint")
    bucket = Bucket(endpoint).name
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    opened = open_store(f"s3://{bucket}/some/ledger")
    assert isinstance(opened, ObjectStore)
    return opened


def paths(store: Store, prefix: str = "") -> list[str]:
    return sorted(found.path for found in store.list(prefix) if not found.path.endswith(LOCK_SUFFIX))


def test_reading_what_is_not_there_gives_none(store: Store) -> None:
    assert store.read("checkpoint") is None
    assert store.read("no/such/folder/file") is None
    assert list(store.list()) == []
    assert list(store.list("no/such/folder")) == []


def test_the_first_create_wins_and_the_second_changes_nothing(store: Store) -> None:
    assert store.create("tile/entries/000.p/1", b"first")
    assert not store.create("tile/entries/000.p/1", b"second")
    assert store.read("tile/entries/000.p/1") == b"first"


@pytest.mark.parametrize("content", [b"", b"\0\r\n\xff", b"x" * 300_000], ids=["empty", "binary", "long"])
def test_content_comes_back_as_it_was_written(store: Store, content: bytes) -> None:
    path = "events/retention=standard/date=2026-11-23/a.parquet"
    assert store.create(path, content)
    assert store.read(path) == content
    assert [(found.path, found.size) for found in store.list()] == [(path, len(content))]


def test_names_with_signs_that_urls_escape_are_kept(store: Store) -> None:
    names = {"a b/c+d", "a%2Fb", "date=2026-11-23/x?y#z", "ä/é~*'()!@$&,;:", 'a[0]{1}|^`<>"'}
    for name in names:
        assert store.create(name, name.encode())
    assert set(paths(store)) == names
    assert all(store.read(name) == name.encode() for name in names)


def test_listing_a_folder_leaves_out_its_neighbours(store: Store) -> None:
    for path in ("a/x", "a/b/y", "ab/z", "c"):
        store.create(path, b"1")
    assert paths(store) == ["a/b/y", "a/x", "ab/z", "c"]
    assert paths(store, "a") == ["a/b/y", "a/x"]
    assert paths(store, "a/b") == ["a/b/y"]
    assert paths(store, "c") == []


def test_listing_spans_more_objects_than_one_answer_holds(store: Store) -> None:
    expected = [f"many/{number:04d}" for number in range(120)]
    for path in expected:
        store.create(path, b"")
    assert paths(store, "many") == expected


def test_listed_files_carry_a_time_that_does_not_go_back(store: Store) -> None:
    store.create("a", b"1")
    store.create("b", b"1")
    modified = {found.path: found.modified for found in store.list()}
    assert modified["a"] <= modified["b"]


def test_delete_removes_and_is_silent_about_nothing(store: Store) -> None:
    store.create("a/b", b"1")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    assert store.read("a/b") is None
    assert paths(store) == []
    assert store.create("a/b", b"2")


def test_replace_hands_over_the_present_content(store: Store) -> None:
    seen: list[bytes | None] = []

    def next_content(present: bytes | None) -> bytes:
        seen.append(present)
        return b"%d" % len(seen)

    assert store.replace("checkpoint", next_content)
    assert store.replace("checkpoint", next_content)
    assert seen == [None, b"1"]
    assert store.read("checkpoint") == b"2"


def test_replace_leaves_everything_when_it_is_declined(store: Store) -> None:
    assert not store.replace("checkpoint", lambda present: None)
    assert store.read("checkpoint") is None
    store.replace("checkpoint", lambda present: b"1")
    assert not store.replace("checkpoint", lambda present: None)
    assert store.read("checkpoint") == b"1"


def test_replace_works_in_folders(store: Store) -> None:
    assert store.replace("cache/catalogue/head", lambda present: b"1")
    assert store.read("cache/catalogue/head") == b"1"


def test_replace_passes_on_what_decide_raises_and_can_be_used_again(store: Store) -> None:
    def refuse(present: bytes | None) -> bytes:
        raise FileNotFoundError("mine")

    with pytest.raises(FileNotFoundError, match="mine"):
        store.replace("checkpoint", refuse)
    assert store.replace("checkpoint", lambda present: b"1")


def test_sync_is_silent_about_nothing(store: Store) -> None:
    store.sync("no/such/file")
    store.create("a/b", b"1")
    store.sync("a/b")
    assert store.read("a/b") == b"1"


@pytest.mark.parametrize("path", UNUSABLE_PATHS, ids=repr)
def test_no_method_takes_a_path_that_leads_elsewhere(store: Store, path: str) -> None:
    with pytest.raises(UsageError):
        store.read(path)
    with pytest.raises(UsageError):
        store.create(path, b"")
    with pytest.raises(UsageError):
        store.replace(path, lambda present: b"")
    with pytest.raises(UsageError):
        store.sync(path)
    with pytest.raises(UsageError):
        store.delete(path)
    with pytest.raises(UsageError):
        store.local_path(path)
    if path:
        with pytest.raises(UsageError):
            store.list(path)
    assert paths(store) == []


def test_threads_that_create_one_path_have_one_winner(store: Store) -> None:
    start = threading.Barrier(4)
    won: list[int] = []

    def contend(number: int) -> None:
        start.wait()
        if store.create("tile/entries/000", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # moto decides conditional writes without a lock; there, at least nobody may win nothing.
    assert len(won) == 1 or (isinstance(store, ObjectStore) and won)
    assert store.read("tile/entries/000") in {b"%d" % number for number in won}


def test_local_paths_exist_only_where_files_are_local(store: Store) -> None:
    store.create("a/b", b"1")
    path = store.local_path("a/b")
    assert (
        path is None if not isinstance(store, LocalStore) else path is not None and path.read_bytes() == b"1"
    )


def test_a_folder_is_opened_by_path_and_by_file_url(tmp_path: Path) -> None:
    folder = tmp_path / "my ledger#1"
    LocalStore(folder).create("a", b"1")
    assert open_store(str(folder)).read("a") == b"1"
    assert open_store(folder.as_uri()).read("a") == b"1"
    assert open_store(open_store(str(folder)).url).read("a") == b"1"


def test_opening_makes_nothing(tmp_path: Path) -> None:
    assert open_store(str(tmp_path / "new")).read("checkpoint") is None
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gs://bucket/prefix",
        "https://example.com/ledger",
        "memory://",
        "s3://",
        "s3:///prefix",
        "s3:bucket",
        "s3://bucket/../other",
        "s3://bucket/a?x=1",
        "s3://bucket/a#x",
        "s3://key:secret@bucket/a",
        "s3://bucket:9000/a",
        "file:relative",
        "file://",
        "file://elsewhere/folder",
        "file:///a?b",
        "file:///a%00b",
        "a\0b",
    ],
)
def test_an_address_that_no_store_serves_is_refused_with_a_remedy(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_the_remedy_for_an_unknown_scheme_names_what_is_served() -> None:
    with pytest.raises(UsageError, match=r"gs://.*file:///folder or s3://bucket/prefix"):
        open_store("gs://bucket")
