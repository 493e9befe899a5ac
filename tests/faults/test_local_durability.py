"""Every system call of a local write fails once, or the process dies there: nothing half-written shows.

The calls are recorded in order too: what must be synced, and that nothing is synced twice.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import OutcomeUnknown, OutsideError
from ledger.storage.local_store import TEMPORARY_SUFFIX, LocalStore

OLD = b"old" * 50
NEW = b"new" * 100
WATCHED = ("mkdir", "write", "fsync", "link", "rename", "unlink")
CREATED = "tile/entries/000.p/2"
REPLACED = "checkpoint"


class Died(BaseException):
    """Stands for a kill: the code under test runs no handler of its own for it."""


class Disk:
    """Watches the calls that change the disk, and makes the nth of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self._fail_at = -1
        self._error: BaseException | None = None
        self._after = False
        self._dead = False
        for name in WATCHED:
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def fail(self, nth: int, error: BaseException, *, after: bool = False) -> None:
        self.calls.clear()
        self._fail_at, self._error, self._after = nth, error, after

    def heal(self) -> None:
        self._fail_at, self._error, self._dead = -1, None, False

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._dead:
                raise Died
            position = len(self.calls)
            self.calls.append(f"{name} {self._target(name, arguments, options)}")
            due = self._error is not None and position == self._fail_at
            if due and not self._after:
                self._strike()
            try:
                return real(*arguments, **options)
            finally:
                if due:
                    self._strike()

        return call

    def _strike(self) -> None:
        assert self._error is not None
        self._dead = isinstance(self._error, Died)
        raise self._error

    def _target(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> str:
        if name in ("write", "fsync"):
            return self._place(_folder_of(arguments[0]))
        folder = options.get("dir_fd", options.get("src_dir_fd"))
        base = Path() if folder is None else _folder_of(folder)
        return " ".join(self._place(base / item) for item in arguments if isinstance(item, str | Path))

    def _place(self, path: Path) -> str:
        shown = os.path.relpath(path, self.root)
        return "TEMP" if shown.endswith(TEMPORARY_SUFFIX) else shown


def _folder_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="names of descriptors are read from /proc"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = LocalStore(tmp_path / "ledger")
    store.create("tile/entries/000.p/1", OLD)
    store.replace(REPLACED, lambda present: OLD)
    return store.root


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, root: Path) -> Disk:
    return Disk(monkeypatch, root)


def create(store: LocalStore) -> bool:
    return store.create(CREATED, NEW)


def replace(store: LocalStore) -> bool:
    return store.replace(REPLACED, lambda present: NEW)


def create_in_new_folders(store: LocalStore) -> bool:
    return store.create("events/retention=standard/date=2026-11-23/a.parquet", NEW)


OPERATIONS: dict[str, tuple[Callable[[LocalStore], bool], str, bytes | None]] = {
    "create": (create, CREATED, None),
    "replace": (replace, REPLACED, OLD),
    "create in new folders": (
        create_in_new_folders,
        "events/retention=standard/date=2026-11-23/a.parquet",
        None,
    ),
}


def warm(root: Path) -> LocalStore:
    """A store that has written to the folder of `CREATED` before."""
    store = LocalStore(root)
    store.create("tile/entries/000.p/warm", b"")
    return store


def visible(root: Path) -> dict[str, bytes]:
    """What a reader finds: everything but temporary files and locks."""
    store = LocalStore(root)
    return {
        found.path: store.read(found.path) or b""
        for found in store.list()
        if not found.path.endswith((TEMPORARY_SUFFIX, ".lock"))
    }


def test_a_create_in_a_known_folder_is_two_syncs_in_this_order(root: Path, disk: Disk) -> None:
    store = warm(root)
    disk.calls.clear()
    assert create(store)
    assert disk.calls == [
        "write TEMP",
        "fsync TEMP",
        f"link TEMP {CREATED}",
        "unlink TEMP",
        "fsync tile/entries/000.p",
    ]


def test_a_replace_is_two_syncs_in_this_order(root: Path, disk: Disk) -> None:
    assert replace(LocalStore(root))
    assert disk.calls == ["write TEMP", "fsync TEMP", f"rename TEMP {REPLACED}", "unlink TEMP", "fsync ."]


def test_each_new_folder_is_made_durable_before_anything_is_put_into_it(root: Path, disk: Disk) -> None:
    assert create_in_new_folders(LocalStore(root))
    assert disk.calls[:7] == [
        "mkdir events",
        "fsync .",
        "mkdir events/retention=standard",
        "fsync events",
        "mkdir events/retention=standard/date=2026-11-23",
        "fsync events/retention=standard",
        "write TEMP",
    ]
    assert disk.calls[-1] == "fsync events/retention=standard/date=2026-11-23"


def test_a_folder_that_somebody_else_made_is_made_durable_once(root: Path, disk: Disk) -> None:
    (root / "events").mkdir()
    disk.calls.clear()
    store = LocalStore(root)
    store.create("events/a", NEW)
    assert disk.calls[0] == "fsync ."
    disk.calls.clear()
    store.create("events/b", NEW)
    assert [call for call in disk.calls if call.startswith("fsync")] == ["fsync TEMP", "fsync events"]


def test_a_folder_that_was_made_anew_is_made_durable_again(root: Path, disk: Disk) -> None:
    store = warm(root)
    store.create("events/a", NEW)
    (root / "events").rename(root / "away")
    (root / "events").mkdir()
    disk.calls.clear()
    store.create("events/a", NEW)
    assert disk.calls[0] == "fsync ."


def test_a_new_root_and_its_new_parents_are_durable(tmp_path: Path, disk: Disk) -> None:
    assert LocalStore(tmp_path / "far" / "away" / "ledger").create("a", NEW)
    assert [call for call in disk.calls if call.startswith("fsync")] == [
        "fsync ..",
        "fsync ../far",
        "fsync ../far/away",
        "fsync TEMP",
        "fsync ../far/away/ledger",
    ]


def test_sync_covers_the_folder_and_the_way_to_it(root: Path, disk: Disk) -> None:
    LocalStore(root).sync(CREATED)
    assert disk.calls == ["fsync .", "fsync tile", "fsync tile/entries", "fsync tile/entries/000.p"]
    disk.calls.clear()
    store = warm(root)
    disk.calls.clear()
    store.sync(CREATED)
    assert disk.calls == ["fsync tile/entries/000.p"]


def test_losing_a_create_writes_nothing(root: Path, disk: Disk) -> None:
    store = warm(root)
    disk.calls.clear()
    assert not store.create("tile/entries/000.p/1", NEW)
    assert disk.calls == []


def test_losing_a_create_at_the_last_moment_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(source: str, target: str, **options: Any) -> None:
        (root / CREATED).write_bytes(OLD)
        real(source, target, **options)

    monkeypatch.setattr(os, "link", link)
    assert not create(LocalStore(root))
    assert LocalStore(root).read(CREATED) == OLD
    assert not list(root.rglob(f"*{TEMPORARY_SUFFIX}"))


def test_a_link_that_a_network_repeats_counts_as_won(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: str, target: str, **options: Any) -> None:
        real(source, target, **options)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, "link", link)
    assert create(LocalStore(root))
    assert LocalStore(root).read(CREATED) == NEW


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_hard_links_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(*arguments: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    before = visible(root)
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OutsideError, match="no hard links") as caught:
        create(LocalStore(root))
    assert not isinstance(caught.value, OutcomeUnknown)
    assert visible(root) == before
    assert not list(root.rglob(f"*{TEMPORARY_SUFFIX}"))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get
)
def test_whatever_call_fails_the_old_or_the_whole_new_content_shows(
    root: Path, disk: Disk, name: str, code: int
) -> None:
    operation, path, before = OPERATIONS[name]
    operation_length = _calls_of(disk, root, operation)
    untouched = visible(root)
    for nth in range(operation_length):
        disk.fail(nth, OSError(code, os.strerror(code)))
        store = LocalStore(root)
        failure: OutsideError | None = None
        try:
            assert operation(store)
        except OutsideError as error:
            failure = error
        if failure is None:
            # Only the removal of the temporary name may fail unseen.
            assert disk.calls[nth].startswith("unlink")
            assert visible(root)[path] == NEW
        elif isinstance(failure, OutcomeUnknown):
            assert visible(root)[path] == NEW
        else:
            assert visible(root) == untouched
        assert failure is None or failure.remedy
        left = list(root.rglob(f"*{TEMPORARY_SUFFIX}"))
        assert not left or disk.calls[nth].startswith("unlink")
        _undo(root, disk, path, before)
        assert visible(root) == untouched


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_wherever_the_process_dies_the_old_or_the_whole_new_content_shows(
    root: Path, disk: Disk, name: str, after: bool
) -> None:
    operation, path, before = OPERATIONS[name]
    operation_length = _calls_of(disk, root, operation)
    untouched = visible(root)
    for nth in range(operation_length):
        disk.fail(nth, Died(), after=after)
        with pytest.raises(Died):
            operation(LocalStore(root))
        disk.heal()
        assert visible(root) in (untouched, {**untouched, path: NEW})
        # The next process is in nobody's way: it wins, or finds the object whole.
        store = LocalStore(root)
        assert operation(store) or store.read(path) == NEW
        _undo(root, disk, path, before)
        assert visible(root) == untouched


def _calls_of(disk: Disk, root: Path, operation: Callable[[LocalStore], bool]) -> int:
    """How many calls the operation makes; undone afterwards, so that the next run makes the same."""
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    disk.calls.clear()
    assert operation(LocalStore(root))
    count = len(disk.calls)
    assert count >= 5
    for file in [file for file in root.rglob("*") if file.is_file() and file not in before]:
        file.unlink()
    for file, content in before.items():
        file.write_bytes(content)
    _remove_empty_folders(root)
    return count


def _undo(root: Path, disk: Disk, path: str, before: bytes | None) -> None:
    disk.heal()
    for left in root.rglob(f"*{TEMPORARY_SUFFIX}"):
        left.unlink()
    if before is None:
        (root / path).unlink(missing_ok=True)
    else:
        (root / path).write_bytes(before)
    _remove_empty_folders(root)


def _remove_empty_folders(root: Path) -> None:
    for folder in sorted((folder for folder in root.rglob("*") if folder.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def test_after_a_lost_sync_this_process_writes_no_more_but_the_next_one_does(root: Path, disk: Disk) -> None:
    store = warm(root)
    disk.fail(4, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OutcomeUnknown, match="may not survive a power cut"):
        create(store)
    disk.heal()
    assert store.read(CREATED) == NEW
    for action in (
        lambda: store.sync(CREATED),
        lambda: store.create("tile/entries/000.p/3", NEW),
        lambda: store.replace(REPLACED, lambda present: NEW),
    ):
        with pytest.raises(OutsideError, match="an earlier sync failed"):
            action()
    again = LocalStore(root)
    again.sync(CREATED)
    assert again.create("tile/entries/000.p/3", NEW)


def test_short_writes_are_completed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    assert create(LocalStore(root))
    assert replace(LocalStore(root))
    assert LocalStore(root).read(CREATED) == LocalStore(root).read(REPLACED) == NEW


@contextmanager
def _file_size_limit(limit_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_the_system_cuts_off_shows_nothing(root: Path) -> None:
    untouched = visible(root)
    for operation in (create, replace):
        failure: OutsideError | None = None
        with _file_size_limit(100):  # nothing else is written in here
            try:
                operation(LocalStore(root))
            except OutsideError as error:
                failure = error
        assert failure is not None
        assert "larger than the system allows" in str(failure)
        assert visible(root) == untouched
        assert not list(root.rglob(f"*{TEMPORARY_SUFFIX}"))


def test_a_process_killed_between_link_and_sync_leaves_a_whole_object(root: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ledger.storage.local_store import LocalStore\n"
        "real = os.link\n"
        "def link(*arguments, **options):\n"
        "    real(*arguments, **options)\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.link = link\n"
        "LocalStore(Path(sys.argv[1])).create(sys.argv[2], b'new' * 100)\n"
    )
    checkout = Path(__file__).parents[2]
    dead = subprocess.run([sys.executable, "-c", script, str(root), CREATED], cwd=checkout, check=False)
    assert dead.returncode == -9
    store = LocalStore(root)
    assert store.read(CREATED) == NEW
    left = [found.path for found in store.list() if found.path.endswith(TEMPORARY_SUFFIX)]
    assert len(left) == 1
    assert not store.create(CREATED, OLD)
    store.delete(left[0])
    assert store.read(CREATED) == NEW
