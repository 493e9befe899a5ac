"""The folders of a ledger on a local disk: opened without following links, made and synced durably.

A folder is reached part by part through the descriptor of the one above it (openat with
O_NOFOLLOW), so that a symbolic link planted in the ledger leads nowhere, at no moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ledger.errors import OutsideError
from ledger.storage.disk_errors import meaning_of

KNOWN_FOLDERS_LIMIT = 4096
"""How many folders a tree remembers as durable; beyond it, it forgets them all and syncs anew."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

Parts = tuple[str, ...]


class FolderTree:
    """Descriptors of the folders below `root`. All methods raise `OSError` when the system refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known_durable: dict[Parts, int] = {}
        self._lost_sync = ""

    @contextmanager
    def existing(self, parts: Parts, *, durable: bool = False) -> Iterator[int | None]:
        """The folder, or None where there is none; with `durable`, its place in the tree is synced."""
        try:
            descriptor: int | None = os.open(self.root, _FOLDER)
        except FileNotFoundError:
            descriptor = None
        try:
            for depth, name in enumerate(parts, start=1):
                if descriptor is None:
                    break
                try:
                    child = _enter(descriptor, name)
                except NotADirectoryError:
                    child = None
                if child is not None and durable:
                    self._make_known_durable(descriptor, child, parts[:depth])
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    @contextmanager
    def made(self, parts: Parts) -> Iterator[int]:
        """The folder, existing durably: what is missing of it is made, from the top down."""
        descriptor = self._made_root()
        try:
            for depth, name in enumerate(parts, start=1):
                child = _enter(descriptor, name)
                if child is None:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=descriptor)
                    child = _enter(descriptor, name)
                    if child is None:
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                self._make_known_durable(descriptor, child, parts[:depth])
                os.close(descriptor)
                descriptor = child
            yield descriptor
        finally:
            os.close(descriptor)

    def flush(self, folder: int) -> None:
        """Sync a folder: the names in it are durable then."""
        try:
            flush(folder)
        except OSError as error:
            self._lost_sync = meaning_of(error)[0]
            raise

    def refuse_after_lost_sync(self) -> None:
        """After a failed sync the kernel may report the next one as good though data was dropped.

        Raises:
            OutsideError: an earlier sync of a folder failed in this process.
        """
        if self._lost_sync:
            raise OutsideError(
                f"Nothing more is written to {self.root}: an earlier sync failed ({self._lost_sync}).",
                "Check the disk and start again; a new process re-reads what is really there.",
            )

    def _made_root(self) -> int:
        with suppress(FileNotFoundError):
            return os.open(self.root, _FOLDER)
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        for folder in reversed(missing):
            with suppress(FileExistsError):
                folder.mkdir()
            parent = os.open(folder.parent, _FOLDER)
            try:
                self.flush(parent)
            finally:
                os.close(parent)
        return os.open(self.root, _FOLDER)

    def _make_known_durable(self, parent: int, folder: int, parts: Parts) -> None:
        """Sync `parent` unless this process knows that its entry for `folder` is durable.

        Also for a folder that was found: whoever made it may not have synced it yet.
        Closes `folder` on failure.
        """
        number = os.fstat(folder).st_ino
        if self._known_durable.get(parts) == number:
            return
        try:
            self.flush(parent)
        except BaseException:
            os.close(folder)
            raise
        if len(self._known_durable) >= KNOWN_FOLDERS_LIMIT:
            self._known_durable.clear()
        self._known_durable[parts] = number


def flush(descriptor: int) -> None:
    """Bring what was written through `descriptor` to the disk itself."""
    if sys.platform == "darwin":
        # There, fsync leaves the data in the drive's own cache.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def is_link(folder: int, name: str) -> bool:
    """Whether `name` in `folder` is a symbolic link."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _enter(parent: int, name: str) -> int | None:
    """The folder `name`, or None where there is none. Raises `OSError` (ELOOP) for a symbolic link."""
    try:
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        # Linux answers so for a link too.
        if is_link(parent, name):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise
