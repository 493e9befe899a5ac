"""When a log is long enough for a catalogue, and where this user's lies; light enough to ask every time."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ledger.storage.user_folders import cache_folder

MIN_ENTRIES: Final = 1_024
"""A shorter log is read whole; a catalogue is made anew when the log grew by this much, or a part of it."""
GROWN_PART: Final = 32


def catalogue_path(url: str) -> Path:
    """Where this user's catalogue of the ledger at `url` lies."""
    return cache_folder(url) / "catalogue"


def signed_catalogue_path(url: str) -> Path:
    """Where writers keep theirs: of entries whose signatures were all checked. No reader's replaces it."""
    return cache_folder(url) / "catalogue-signed"


def is_long(size: int) -> bool:
    """Whether a log of `size` entries is worth a catalogue at all."""
    return size >= MIN_ENTRIES


def is_due(size: int, before: int) -> bool:
    """Whether a log of `size` entries, whose catalogue covers `before`, is worth another."""
    return size - before >= max(MIN_ENTRIES, before // GROWN_PART)
