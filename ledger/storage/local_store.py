"""A ledger in a local folder: durable create-if-absent and replace, and no way out of the folder.

Create is: temporary file, fsync, link(2), fsync of the folder. The link is atomic and fails where
the name is taken, so a reader sees the whole object or none, and of two creators one wins.
Replace is: flock, temporary file, fsync, rename(2), fsync of the folder.

Every step goes through the descriptor of the folder that `FolderTree` opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.errors import OutcomeUnknown, OutsideError
from ledger.storage.disk_errors import LINKS_UNSUPPORTED, explained, meaning_of, no_hard_links
from ledger.storage.folder_tree import FolderTree, Parts, flush, is_link
from ledger.storage.limits import check_read_size, check_write_size, checked_path, checked_prefix
from ledger.storage.store import StoredFile

TEMPORARY_SUFFIX = ".tmp"
LOCK_SUFFIX = ".lock"
LOCK_WAIT_SECONDS = 30.0
"""How long `replace` waits for another writer's lock; a holder needs milliseconds."""
LOCK_POLL_SECONDS = 0.002

# O_NONBLOCK: opening a FIFO that someone planted must not wait for a writer.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    """`Store` over the folder `root`, which is made by the first write.

    The root itself may be reached through symbolic links; below it none is followed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)
        self._tree = FolderTree(self.root)

    def read(self, path: str) -> bytes | None:
        """The whole object, or None. Raises `OutsideError` for what is no plain file of ours to read."""
        parts = checked_path(path)
        with explained("read", path), self._tree.existing(parts[:-1]) as folder:
            if folder is None:
                return None
            try:
                descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
            except FileNotFoundError:
                return None
            try:
                status = os.fstat(descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                if not stat.S_ISREG(status.st_mode):
                    raise OutsideError(f"Cannot read {path}: it is a device or a pipe.", "Remove it.")
                check_read_size(path, status.st_size)
                with open(descriptor, "rb", buffering=0, closefd=False) as file:
                    return file.readall()
            finally:
                os.close(descriptor)

    def read_range(self, path: str, start: int, end: int) -> bytes | None:
        """See `Store.read_range`."""
        data = self.read(path)
        return None if data is None else data[start:end]

    def create(self, path: str, data: bytes) -> bool:
        """See `Store.create`. Two fsyncs where this process has written to the folder before.

        Raises:
            OutcomeUnknown: the object is visible, but the folder could not be synced.
            OutsideError: nothing became visible.
        """
        parts = checked_path(path)
        check_write_size(path, data)
        self._tree.refuse_after_lost_sync()
        with explained("create", path), self._tree.made(parts[:-1]) as folder:
            if _present(folder, parts[-1]):
                return False
            with _temporary(folder, data) as (descriptor, temporary):
                try:
                    os.link(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
                except FileExistsError:
                    # A network file system may repeat a link that already succeeded.
                    if os.fstat(descriptor).st_nlink < 2:
                        return False
                except OSError as error:
                    if error.errno in LINKS_UNSUPPORTED:
                        raise no_hard_links(path) from error
                    raise
            self._make_visible_durable(folder, path)
            return True

    def replace(self, path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
        """See `Store.replace`; raises as `create`. `decide` runs once, under the lock of this path."""
        parts = checked_path(path)
        self._tree.refuse_after_lost_sync()
        with self._locked(path):
            content = decide(self.read(path))
            if content is None:
                return False
            check_write_size(path, content)
            with explained("replace", path), self._tree.made(parts[:-1]) as folder:
                with _temporary(folder, content) as (_, temporary):
                    os.rename(temporary, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
                self._make_visible_durable(folder, path)
        return True

    def sync(self, path: str) -> None:
        """Sync the folder of `path` and the folders above it: what anyone made there is then durable."""
        parts = checked_path(path)
        self._tree.refuse_after_lost_sync()
        with explained("sync the folder of", path), self._tree.existing(parts[:-1], durable=True) as folder:
            if folder is not None:
                self._tree.flush(folder)

    def delete(self, path: str) -> None:
        """See `Store.delete`; the lock that `replace` left goes too. A symbolic link is removed itself."""
        if self._has_lock(path):
            # The lock goes while it is held: who waits for it sees that, and takes the next one.
            with self._locked(path):
                self._unlink(path)
                self._unlink(_lock_of(path))
        else:
            self._unlink(path)

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """See `Store.list`. Lock files, temporary files and unfollowed links are listed too.

        Bytes of a name that are not UTF-8 are shown as backslash escapes, which no path accepts.
        """
        return self._listed(checked_prefix(prefix))

    def local_path(self, path: str) -> Path:
        """Where `path` lies or would lie. Raises `OutsideError` where a link would lead elsewhere."""
        parts = checked_path(path)
        with explained("use", path), self._tree.existing(parts[:-1]) as folder:
            if folder is not None and is_link(folder, parts[-1]):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return self.root.joinpath(*parts)

    def _has_lock(self, path: str) -> bool:
        checked_path(path)
        with explained("delete", path), self._tree.existing(()) as root:
            return root is not None and _present(root, _lock_of(path))

    def _unlink(self, path: str) -> None:
        parts = checked_path(path)
        with explained("delete", path), self._tree.existing(parts[:-1]) as folder:
            if folder is not None:
                with suppress(FileNotFoundError):
                    os.unlink(parts[-1], dir_fd=folder)

    def _listed(self, start: Parts) -> Iterator[StoredFile]:
        pending = [start]
        while pending:
            parts = pending.pop()
            with explained("list", "/".join(parts) or self.url), self._tree.existing(parts) as folder:
                if folder is None:
                    continue
                files = []
                with os.scandir(folder) as entries:
                    for entry in entries:
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        if stat.S_ISDIR(status.st_mode):
                            pending.append((*parts, entry.name))
                        else:
                            name = _shown("/".join((*parts, entry.name)))
                            files.append(StoredFile(name, status.st_size, status.st_mtime))
            yield from files

    def _make_visible_durable(self, folder: int, path: str) -> None:
        try:
            self._tree.flush(folder)
        except OSError as error:
            reason, remedy = meaning_of(error)
            raise OutcomeUnknown(
                f"{path} was written, but it may not survive a power cut: {reason}.", remedy
            ) from error

    @contextmanager
    def _locked(self, path: str) -> Iterator[None]:
        """Holds the flock of `path`; the lock file lies in the root, for nested paths with %2F for /."""
        name = _lock_of(path)
        deadline = time.monotonic() + LOCK_WAIT_SECONDS
        with explained("lock", name):
            descriptor = self._try_lock(name)
            while descriptor is None:
                if time.monotonic() > deadline:
                    raise OutsideError(
                        f"Another process has held {name} for {LOCK_WAIT_SECONDS:.0f} seconds.",
                        "Stop the process that holds it; the lock goes with it.",
                    )
                time.sleep(LOCK_POLL_SECONDS)
                descriptor = self._try_lock(name)
        try:
            yield
        finally:
            os.close(descriptor)

    def _try_lock(self, name: str) -> int | None:
        with self._tree.made(()) as root:
            descriptor = os.open(name, _LOCK_FILE, 0o666, dir_fd=root)
            locked = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever removes a lock file would otherwise split its holders between two files.
                present = os.stat(name, dir_fd=root, follow_symlinks=False)
                locked = os.path.samestat(present, os.fstat(descriptor))
            except (BlockingIOError, FileNotFoundError):
                pass
            finally:
                if not locked:
                    os.close(descriptor)
            return descriptor if locked else None


@contextmanager
def _temporary(folder: int, data: bytes) -> Iterator[tuple[int, str]]:
    """A durable file with a random name in `folder`: its descriptor and name; the name goes at the end."""
    name = secrets.token_hex(16) + TEMPORARY_SUFFIX
    descriptor = os.open(name, _NEW_FILE, 0o666, dir_fd=folder)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        flush(descriptor)
        yield descriptor, name
    finally:
        os.close(descriptor)
        # On failure this stays a left-over, which `list` shows.
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def _lock_of(path: str) -> str:
    return path.replace("/", "%2F") + LOCK_SUFFIX


def _present(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _shown(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
