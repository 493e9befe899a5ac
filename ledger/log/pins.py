"""What this user trusts about a ledger, kept outside of it: its key, and the last head that was seen.

A ledger is known by its place. Whoever can write there can put another ledger, or an older state of this one,
in its stead; what is kept here is how a reader notices.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from ledger.errors import DamageError, LedgerError, UsageError
from ledger.format.checkpoint import Checkpoint
from ledger.format.note import SignedNote, VerifierKey
from ledger.storage.local_store import LocalStore
from ledger.storage.user_folders import config_folder


class Pins:
    """This user's pin and last head for the ledger at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        place = url if "://" in url else str(Path(url).resolve())
        self._name = hashlib.sha256(place.encode()).hexdigest()
        self._folder = config_folder() / "pins"

    @property
    def head_path(self) -> Path:
        """Where the last head is kept."""
        return self._folder / f"{self._name}.head"

    def key(self) -> VerifierKey | None:
        """The pinned key, or None."""
        data = self._read(".vkey")
        return None if data is None else VerifierKey.from_text(data.decode("utf-8", "replace").strip())

    def keep_key(self, vkey: VerifierKey) -> None:
        """Pin `vkey`."""
        self._store().replace(f"{self._name}.vkey", lambda _: vkey.text.encode() + b"\n")

    def head(self) -> Checkpoint | None:
        """The largest head that was seen, or None. Raises UsageError where the kept file is none."""
        data = self._read(".head")
        if data is None:
            return None
        try:
            return Checkpoint.parse(SignedNote.parse(data).text)
        except LedgerError as error:
            raise UsageError(
                f"The head that is kept in {self.head_path} cannot be used: {error.message}",
                "Remove that file if you know why it is damaged.",
            ) from None

    def keep_head(self, note: bytes, head: Checkpoint) -> None:
        """Remember a head that was checked. Where this user's folder cannot be written, nothing is kept."""

        def larger(present: bytes | None) -> bytes | None:
            with contextlib.suppress(LedgerError):
                if present is not None and Checkpoint.parse(SignedNote.parse(present).text).size >= head.size:
                    return None
            return note

        with contextlib.suppress(LedgerError, OSError):
            self._store().replace(f"{self._name}.head", larger)

    def check(self, head: Checkpoint, root_at: Callable[[int], bytes]) -> None:
        """Raises DamageError unless `head` extends the last one; `root_at` gives its log's earlier roots."""
        kept = self.head()
        if kept is None:
            return
        remedy = f"Compare it with a copy. If it was replaced on purpose, remove {self.head_path}."
        if kept.origin != head.origin:
            raise DamageError(
                f"Here is the ledger {head.origin}, where {kept.origin} was read before.", remedy
            )
        if kept.size > head.size:
            raise DamageError(
                f"The ledger holds {head.size} entries, but {kept.size} were read before.",
                f"It was rolled back. {remedy}",
            )
        if root_at(kept.size) != kept.root:
            raise DamageError(
                f"The ledger's first {kept.size} entries are not those that were read before: it was forked "
                "or replaced.",
                remedy,
            )

    def renew(self, vkey: VerifierKey) -> None:
        """A new ledger was made here: pin its key and forget the head of any earlier one."""
        with contextlib.suppress(LedgerError, OSError):
            self.head_path.unlink(missing_ok=True)
            self.keep_key(vkey)

    def _read(self, suffix: str) -> bytes | None:
        path = self._folder / f"{self._name}{suffix}"
        try:
            return path.read_bytes()
        except OSError:
            return None

    def _store(self) -> LocalStore:
        self._folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(self._folder)
