"""The log as a verification found it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import Append, Expire
from ledger.format.merkle import Tree
from ledger.format.note import VerifierKey
from ledger.format.state import LogState
from ledger.format.tiles import BUNDLE_WIDTH, entries_path
from ledger.verify.copies import Bundle
from ledger.verify.findings import Finding


@dataclass(frozen=True, slots=True)
class Expiry:
    """An `expire` entry that came when the classes of a sealed file were in force."""

    index: int
    entry: Expire
    classes: str
    """The hex SHA-256 of that file."""
    today: date
    """The date of the ledger's clock before it."""


@dataclass(slots=True)
class LogView:
    """The log as it was found. `size` entries are covered by the checkpoint, `reach` are believed."""

    state: LogState
    tree: Tree
    bundles: list[Bundle] = field(default_factory=list)
    size: int = 0
    reach: int = 0
    head: Checkpoint | None = None
    note: bytes | None = None
    findings: list[Finding] = field(default_factory=list)
    appends: dict[int, Append] = field(default_factory=dict)
    configs: dict[str, int] = field(default_factory=dict)
    policies: list[tuple[int, str]] = field(default_factory=list)
    """(entry, SHA-256 of the file) of each policy of witnesses."""
    expiries: list[Expiry] = field(default_factory=list)
    leaves: list[bytes | None] = field(default_factory=list)
    """The leaf hashes that are believed, None for those of lost entries."""
    keys: list[tuple[int, VerifierKey]] = field(default_factory=list)
    """(from which size on, the key in force)."""
    complete: bool = True
    """False where entries are lost, so that not every file's entry is known."""

    def entry_bytes(self, index: int) -> bytes | None:
        """Entry `index` as it is believed, None where it is lost or beyond the log."""
        number, place = divmod(index, BUNDLE_WIDTH)
        if index >= self.reach or number >= len(self.bundles):
            return None
        entries = self.bundles[number].entries
        return entries[place] if place < len(entries) else None

    def key_after(self, size: int) -> VerifierKey | None:
        """The key that signs after `size` entries."""
        return next((key for since, key in reversed(self.keys) if since <= size), None)

    def path_of(self, index: int) -> str:
        """The bundle that readers take entry `index` from."""
        number, place = divmod(index, BUNDLE_WIDTH)
        if number < len(self.bundles):
            path = self.bundles[number].path_of(place)
            if path is not None:
                return path
        return entries_path(number)
