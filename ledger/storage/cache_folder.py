"""Where this user keeps what is derived from ledgers; it may be removed at any time."""

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
