"""Files that only their owner may read, such as private keys."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from ledger.errors import UsageError

MAX_BYTES: Final = 4_096


def check_private(path: Path, named: str) -> None:
    """Raise UsageError where others may read a file, which is called `named`; OSError where there is none."""
    if path.stat().st_mode & 0o077:
        raise UsageError(f"Others may read {named}.", f"Run `chmod 600 {path}`.")


def read_private_json(path: Path) -> Any:
    """What a private file holds.

    Raises:
        UsageError: others may read it.
        OSError: it cannot be read.
        ValueError: it holds no JSON, or more than 4 KiB.
    """
    check_private(path, f"the private key {path}")
    with path.open("rb") as file:
        return json.loads(file.read(MAX_BYTES))


def write_private(path: Path, text: str) -> None:
    """A new file that only its owner may read, on the disk when this returns; never over another.

    Raises:
        OSError: it cannot be made, or is there already.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
