"""The verifier keys that this user trusts for ledgers, kept outside of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ledger.local_store import LocalStore
from ledger.signing import config_folder


def keep_pin(url: str, vkey: str) -> None:
    """Remember `vkey` for the ledger at `url`."""
    folder = config_folder() / "pins"
    folder.mkdir(parents=True, exist_ok=True)
    LocalStore(folder).replace(_name(url), lambda _: vkey.encode() + b"\n")


def kept_pin(url: str) -> str | None:
    """The key kept for the ledger at `url`, or None."""
    path = config_folder() / "pins" / _name(url)
    return path.read_text("utf-8").strip() if path.is_file() else None


def _name(url: str) -> str:
    place = url if "://" in url else str(Path(url).resolve())
    return hashlib.sha256(place.encode()).hexdigest() + ".vkey"
