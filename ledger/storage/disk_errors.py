"""What the operating system's refusals mean for a ledger on a local disk, and what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import OutsideError

_FULL = (
    "the disk is full",
    "Free space or enlarge the disk, then start again; nothing that was sealed is lost.",
)
_READ_ONLY = (
    "the disk is read-only",
    "Mount it writable, or look in the system log for the fault that made it so.",
)
_DENIED = ("access is denied", "Run as the user who owns the ledger's folder, or correct its permissions.")
_TOO_MANY = ("too many files are open", "Raise the limit of open files (ulimit -n).")
_BROKEN = ("the disk reports a fault", "Look in the system log and check the disk before writing on.")
_LINK = (
    "there is a symbolic link in its place",
    "Replace the link by what it points to; below the ledger's root none is followed.",
)

_MEANING = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("the disk quota is used up", _FULL[1]),
    errno.EFBIG: ("the file is larger than the system allows", "Raise the file size limit (ulimit -f)."),
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EIO: _BROKEN,
    errno.ELOOP: _LINK,
    errno.ENOTDIR: ("a file stands where a folder belongs", "Move the file away, or correct the address."),
    errno.EISDIR: ("it is a folder", "Move the folder away: an object of the ledger belongs there."),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "Use a shorter path to the ledger."),
    errno.ESTALE: (
        "the network file system lost it",
        "Mount it again; better, keep the ledger on a local disk.",
    ),
    errno.ENOLCK: ("this file system has no locks", "Keep the ledger on a local disk or on an object store."),
}

LINKS_UNSUPPORTED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
"""What link(2) answers on file systems without hard links (FAT, some network mounts)."""


def meaning_of(error: OSError) -> tuple[str, str]:
    """Why the system refused, as the end of a sentence, and the remedy."""
    known = _MEANING.get(error.errno or 0)
    if known is not None:
        return known
    return os.strerror(error.errno) if error.errno else str(error), "Look in the system log for the cause."


@contextmanager
def explained(action: str, path: str) -> Iterator[None]:
    """Turns an `OSError` of the block into an `OutsideError`: "Cannot <action> <path>: ..."."""
    try:
        yield
    except OSError as error:
        reason, remedy = meaning_of(error)
        raise OutsideError(f"Cannot {action} {path}: {reason}.", remedy) from error


def no_hard_links(path: str) -> OutsideError:
    """For a file system on which create-if-absent cannot be made durable."""
    return OutsideError(
        f"Cannot create {path}: this file system has no hard links, which create-if-absent needs.",
        "Keep the ledger on one that has them (ext4, XFS, Btrfs, ZFS, APFS) or on an object store.",
    )
