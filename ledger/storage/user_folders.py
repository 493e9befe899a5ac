"""Where this user keeps settings and trust, and where what is derived from ledgers."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cache_folder(url: str) -> Path:
    """This user's folder of what is derived from the ledger at `url`."""
    base = os.environ.get("XDG_CACHE_HOME")
    place = url if "://" in url else str(Path(url).resolve())
    root = (Path(base) if base else Path.home() / ".cache") / "decision-ledger"
    return root / hashlib.sha256(place.encode()).hexdigest()[:32]


def config_folder() -> Path:
    """The user's configuration folder for this program."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "decision-ledger"
