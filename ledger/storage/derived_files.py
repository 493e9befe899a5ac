"""Files of this user's cache: kept where they can be, believed only where nobody else wrote them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ledger.errors import LedgerError
from ledger.storage.local_store import LocalStore


def keep(path: Path, data: bytes) -> None:
    """Put a file there whole; where the cache cannot be written, nothing is kept."""
    with suppress(LedgerError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        LocalStore(path.parent).replace(path.name, lambda _: data)


def keep_written(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """As `keep`, for a file that is too large to be held beside what it is made of."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        made = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)


def is_own(path: Path) -> bool:
    """Whether a file is there and this user's: what anyone may put into a shared folder is not believed."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == os.getuid() and not status.st_mode & 0o002
