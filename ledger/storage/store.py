"""Object storage behind one narrow interface.

A path is relative to the ledger's root, `/`-separated, without `.` or `..` parts.
Everything that a writer relies on is in the contract of the methods below, and the fault
simulator in the tests keeps the same contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ledger.errors import DamageError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One listed object: its path, its size in bytes, and when it was last modified (POSIX seconds)."""

    path: str
    size: int
    modified: float


def committed_data(store: Store, path: str) -> bytes | Path:
    """A file that the log names: where it lies on this machine's disk, else its bytes.

    Raises:
        DamageError: it is not there.
    """
    local = store.local_path(path)
    data: bytes | Path | None = local if local is not None else store.read(path)
    if data is None or (isinstance(data, Path) and not data.is_file()):
        raise DamageError(
            f"{path} is missing, though the log names it.",
            "`decision-ledger verify` names all that is damaged; restore it from a copy.",
        )
    return data


def sealed_data(store: Store, path: str, sha256: str) -> bytes:
    """A file that the log names, with the hash that it was sealed with: read whole before anything parses it.

    Raises:
        DamageError: it is not there, or holds other bytes.
    """
    data = store.read(path)
    if data is None or hashlib.sha256(data).hexdigest() != sha256:
        raise DamageError(
            f"{path} is not the file that was sealed.",
            "`decision-ledger verify` names all that is damaged; restore it from a copy first.",
        )
    return data


class Store(Protocol):
    """What the ledger needs from storage. All methods raise `OutsideError` when storage fails."""

    url: str

    def read(self, path: str) -> bytes | None:
        """The whole object, or None where there is none."""
        ...

    def read_range(self, path: str, start: int, end: int) -> bytes | None:
        """Bytes [start, end) of the object, fewer where it ends before; None where there is no object."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Create durably, only if absent: True when this call created it, False when it existed.

        Raises `OutcomeUnknown` when the answer was lost.
        """
        ...

    def replace(self, path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
        """Replace durably and atomically; True when it was written.

        `decide` sees the present content and returns the new one, or None to leave it. It may be
        called again after a race.
        """
        ...

    def sync(self, path: str) -> None:
        """Make what is visible at `path`'s folder durable (a no-op on object stores)."""
        ...

    def delete(self, path: str) -> None:
        """Delete; no error where there is nothing."""
        ...

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """Every object below the folder `prefix`, in no promised order, temporary files included."""
        ...

    def local_path(self, path: str) -> Path | None:
        """The file on this machine's disk that holds `path`, or None where the store is remote."""
        ...
