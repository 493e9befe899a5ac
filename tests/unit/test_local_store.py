"""What is particular to a ledger in a local folder: processes that race, links, locks, plain errors."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

import ledger.storage.local_store
from ledger.errors import OutsideError
from ledger.storage.local_store import LocalStore

RACERS = 8
ROUNDS = 10
COUNT_TO = 25

# fork would copy the threads' locks of libraries that other tests have loaded.
_processes = multiprocessing.get_context("spawn")


def _race_to_create(root: Path, number: int, start: Barrier, results: Path) -> None:
    store = LocalStore(root)
    won = []
    for turn in range(ROUNDS):
        start.wait(60)
        if store.create(f"tile/entries/{turn:03d}.p/1", b"%d" % number * 1000):
            won.append(turn)
    (results / str(number)).write_text(" ".join(map(str, won)))


def test_of_many_processes_that_create_one_path_exactly_one_wins(tmp_path: Path) -> None:
    root, results = tmp_path / "ledger", tmp_path / "results"
    results.mkdir()
    start = _processes.Barrier(RACERS)
    racers = [
        _processes.Process(target=_race_to_create, args=(root, number, start, results))
        for number in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    winner = {
        int(turn): number for number in range(RACERS) for turn in (results / str(number)).read_text().split()
    }
    wins = sum(len((results / str(number)).read_text().split()) for number in range(RACERS))
    assert wins == len(winner) == ROUNDS
    store = LocalStore(root)
    for turn, number in winner.items():
        assert store.read(f"tile/entries/{turn:03d}.p/1") == b"%d" % number * 1000
    assert len(list(store.list())) == ROUNDS


def _count(root: Path, start: Barrier) -> None:
    store = LocalStore(root)
    start.wait(60)
    for _ in range(COUNT_TO):
        store.replace("checkpoint", lambda present: b"%d" % (int(present or 0) + 1))


def _raise_to_own_values(root: Path, number: int, start: Barrier) -> None:
    store = LocalStore(root)
    start.wait(60)
    for step in range(COUNT_TO):
        value = step * 4 + number

        def larger(present: bytes | None, value: int = value) -> bytes | None:
            return b"%d" % value if value > int(present or -1) else None

        store.replace("checkpoint", larger)
        assert int(store.read("checkpoint") or -1) >= value


def test_processes_that_replace_lose_no_update(tmp_path: Path) -> None:
    start = _processes.Barrier(4)
    racers = [_processes.Process(target=_count, args=(tmp_path, start)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert LocalStore(tmp_path).read("checkpoint") == b"%d" % (4 * COUNT_TO)


def test_processes_that_refuse_smaller_values_never_go_backwards(tmp_path: Path) -> None:
    start = _processes.Barrier(4)
    racers = [
        _processes.Process(target=_raise_to_own_values, args=(tmp_path, number, start)) for number in range(4)
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * 4
    assert LocalStore(tmp_path).read("checkpoint") == b"%d" % (4 * COUNT_TO - 1)


def test_threads_that_replace_through_one_store_lose_no_update(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def count() -> None:
        for _ in range(COUNT_TO):
            store.replace("checkpoint", lambda present: b"%d" % (int(present or 0) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("checkpoint") == b"%d" % (4 * COUNT_TO)


def test_a_waiter_notices_that_its_lock_file_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    lock = tmp_path / "checkpoint.lock"
    real_flock, locked = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        real_flock(descriptor, operation)
        locked.append(os.fstat(descriptor).st_ino)
        if len(locked) == 1:
            lock.rename(tmp_path / "kept-so-that-the-inode-number-is-not-reused")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert store.replace("checkpoint", lambda present: b"1")
    assert len(locked) == 2
    assert locked[1] == lock.stat().st_ino != locked[0]


def test_a_lock_that_is_never_given_up_ends_the_wait_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.storage.local_store, "LOCK_WAIT_SECONDS", 0.0)
    store = LocalStore(tmp_path)

    def nested(present: bytes | None) -> bytes:
        store.replace("checkpoint", lambda present: b"2")
        return b"1"

    with pytest.raises(OutsideError, match=r"held checkpoint\.lock"):
        store.replace("checkpoint", nested)
    assert store.read("checkpoint") is None


def test_lock_files_lie_in_the_root(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.replace("cache/index/head", lambda present: b"1")
    store.replace("checkpoint", lambda present: b"1")
    assert {file.name for file in tmp_path.iterdir()} == {
        "cache",
        "cache%2Findex%2Fhead.lock",
        "checkpoint",
        "checkpoint.lock",
    }


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(tmp_path / "ledger")
    made.create("events/a.parquet", b"a")
    return made


@pytest.mark.parametrize("folder", ["linked", "events/linked"])
def test_a_link_to_a_folder_outside_is_not_followed(store: LocalStore, outside: Path, folder: str) -> None:
    (store.root / folder).symlink_to(outside)
    with pytest.raises(OutsideError, match="symbolic link"):
        store.read(f"{folder}/secret")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.create(f"{folder}/new", b"x")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.replace(f"{folder}/secret", lambda present: b"x")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.delete(f"{folder}/secret")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.local_path(f"{folder}/secret")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.sync(f"{folder}/secret")
    with pytest.raises(OutsideError, match="symbolic link"):
        list(store.list(folder))
    assert folder in {found.path for found in store.list()}
    assert f"{folder}/secret" not in {found.path for found in store.list()}
    assert {file.name: file.read_bytes() for file in outside.iterdir()} == {"secret": b"secret"}


def test_a_link_to_a_file_outside_is_neither_read_nor_written_through(
    store: LocalStore, outside: Path
) -> None:
    (store.root / "checkpoint").symlink_to(outside / "secret")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.read("checkpoint")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.replace("checkpoint", lambda present: b"x")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.local_path("checkpoint")
    assert not store.create("checkpoint", b"x")
    store.delete("checkpoint")
    assert (outside / "secret").read_bytes() == b"secret"
    assert store.create("checkpoint", b"x")


def test_a_planted_lock_file_that_is_a_link_is_refused(store: LocalStore, outside: Path) -> None:
    (store.root / "checkpoint.lock").symlink_to(outside / "new")
    with pytest.raises(OutsideError, match="symbolic link"):
        store.replace("checkpoint", lambda present: b"x")
    assert not (outside / "new").exists()


def test_a_dangling_link_counts_as_existing(store: LocalStore) -> None:
    (store.root / "config").symlink_to("nowhere")
    assert not store.create("config", b"x")
    assert not (store.root / "nowhere").exists()


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "ledger").symlink_to("disk")
    assert LocalStore(tmp_path / "ledger").create("a/b", b"x")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


def test_a_store_keeps_its_place_when_the_working_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("ledger"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.create("a", b"x")
    assert (tmp_path / "ledger" / "a").read_bytes() == b"x"


def test_reading_a_folder_says_so(store: LocalStore) -> None:
    with pytest.raises(OutsideError, match="folder") as caught:
        store.read("events")
    assert caught.value.remedy


def test_deleting_a_folder_says_so_and_keeps_it(store: LocalStore) -> None:
    with pytest.raises(OutsideError):
        store.delete("events")
    assert store.read("events/a.parquet") == b"a"


def test_a_file_in_the_place_of_a_folder_holds_no_objects(store: LocalStore) -> None:
    store.create("checkpoint", b"x")
    assert store.read("checkpoint/below") is None
    store.delete("checkpoint/below")
    with pytest.raises(OutsideError, match="a file stands where a folder belongs"):
        store.create("checkpoint/below", b"x")


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutsideError, match="a file stands where a folder belongs"):
        LocalStore(tmp_path / "file").read("checkpoint")


def test_a_planted_pipe_or_socket_does_not_block(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(store.root / "pipe")
    with pytest.raises(OutsideError):
        store.read("pipe")
    monkeypatch.chdir(store.root)  # socket names are short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        with pytest.raises(OutsideError):
            store.read("socket")
    assert {"pipe", "socket"} <= {found.path for found in store.list()}


def test_a_huge_file_is_not_read_into_memory(store: LocalStore) -> None:
    with (store.root / "checkpoint").open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(OutsideError, match="1073741825 bytes"):
        store.read("checkpoint")


def test_temporary_files_are_listed(store: LocalStore) -> None:
    (store.root / "events" / "0123.tmp").write_bytes(b"half")
    assert {found.path: found.size for found in store.list("events")} == {
        "events/a.parquet": 1,
        "events/0123.tmp": 4,
    }


def test_names_that_are_not_utf_8_are_listed_in_a_form_that_can_be_printed(store: LocalStore) -> None:
    try:
        Path(os.fsdecode(os.fsencode(store.root / "events") + b"/\xff")).mkdir()
    except OSError as error:
        pytest.skip(f"this file system takes no such names: {error}")
    Path(os.fsdecode(os.fsencode(store.root / "events") + b"/\xff/\xfe")).write_bytes(b"12")
    listed = {found.path: found.size for found in store.list()}
    assert listed == {"events/a.parquet": 1, "events/\\xff/\\xfe": 2}
    assert all(path.encode() for path in listed)


def test_a_file_that_vanishes_while_listing_is_left_out(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("events/b.parquet", b"b")
    real = os.scandir

    class Vanishing:
        def __init__(self, folder: int) -> None:
            self._entries = list(real(folder))
            for name in {"b.parquet"} & {entry.name for entry in self._entries}:
                os.unlink(name, dir_fd=folder)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *exception: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Vanishing)
    assert [found.path for found in store.list()] == ["events/a.parquet"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EACCES, "access is denied"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EMFILE, "too many files are open"),
        (errno.EIO, "the disk reports a fault"),
        (errno.EBADMSG, "Bad message"),
    ],
)
def test_a_refusal_of_the_system_is_a_plain_sentence_with_a_remedy(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    for action in (
        lambda: store.read("checkpoint"),
        lambda: store.create("checkpoint", b"x"),
        lambda: store.replace("checkpoint", lambda present: b"x"),
        lambda: store.delete("checkpoint"),
        lambda: list(store.list()),
    ):
        with pytest.raises(OutsideError, match=sentence) as caught:
            action()
        assert caught.value.remedy
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser is never denied")
def test_a_folder_without_permission_is_named(store: LocalStore) -> None:
    (store.root / "events").chmod(0o500)
    try:
        with pytest.raises(OutsideError, match=r"events/b: access is denied"):
            store.create("events/b", b"x")
    finally:
        (store.root / "events").chmod(0o700)


def test_no_descriptor_is_left_open(store: LocalStore, outside: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("this system does not show open descriptors")
    (store.root / "linked").symlink_to(outside)
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        store.read("events/a.parquet")
        store.create("events/a.parquet", b"again")
        store.create(f"new/{os.urandom(4).hex()}/x", b"x")
        store.replace("checkpoint", lambda present: b"x")
        store.sync("events/a.parquet")
        list(store.list())
        for path in ("linked/a", "events", "events/a.parquet/b"):
            with pytest.raises(OutsideError):
                store.create(f"{path}/x", b"x") if path != "events" else store.read(path)
    assert len(list(descriptors.iterdir())) == before


def test_a_writer_that_is_killed_leaves_the_lock_free(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ledger.storage.local_store import LocalStore\n"
        "LocalStore(Path(sys.argv[1])).replace('checkpoint', lambda present: os._exit(9))\n"
    )
    checkout = Path(__file__).parents[2]
    dead = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=checkout, check=False)
    assert dead.returncode == 9
    assert (tmp_path / "checkpoint.lock").exists()
    assert LocalStore(tmp_path).replace("checkpoint", lambda present: b"1")


def test_a_lock_goes_with_what_it_locked_and_leaves_others_alone(store: LocalStore) -> None:
    store.replace("cache/a.json", lambda _: b"1")
    store.replace("cache/b.json", lambda _: b"1")
    store.delete("cache/a.json")
    there = {file.path for file in store.list()}
    assert {path for path in there if "cache" in path} == {"cache%2Fb.json.lock", "cache/b.json"}
    store.delete("cache/a.json")
    assert store.replace("cache/a.json", lambda data: b"2" if data is None else None)
