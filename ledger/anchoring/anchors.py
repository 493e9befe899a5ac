"""Heads that were published: put where they cannot be taken back, and held against the log later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509

from ledger.anchoring.places import HEAD, STAMP, Place, size_of
from ledger.anchoring.time_stamps import ask, stamp
from ledger.errors import DamageError, LedgerError
from ledger.format.checkpoint import Checkpoint
from ledger.format.note import SignedNote, VerifierKey
from ledger.log.commit_log import SealedLog


@dataclass(slots=True)
class Anchored:
    """What a place holds of a log."""

    place: str
    heads: int = 0
    newest: int = 0
    stamped: int = 0
    last_stamp: datetime | None = None
    wrong: list[str] = field(default_factory=list)
    """What is no head of this log's history, in words."""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        when = None if self.last_stamp is None else self.last_stamp.isoformat()
        return {
            "place": self.place, "heads": self.heads, "newest": self.newest, "stamped": self.stamped,
            "last_stamp": when, "wrong": self.wrong,
        }  # fmt: skip


def publish(note: bytes, places: Sequence[Place], authority: str | None = None) -> dict[str, str]:
    """Put a signed head into every place; why it did not get there, by place. A stamp that fails is one."""
    size = Checkpoint.parse(SignedNote.parse(note).text).size
    failures: dict[str, str] = {}
    response: bytes | None = None
    if authority is not None:
        try:
            response = ask(authority, note)
        except LedgerError as error:
            failures[authority] = error.message
    for place in places:
        try:
            place.put(f"{size}{HEAD}", note)
            if response is not None:
                place.put(f"{size}{STAMP}", response)
        except LedgerError as error:
            failures[place.url] = error.message
    return failures


def check(place: Place, log: SealedLog, roots: Sequence[x509.Certificate] = ()) -> Anchored:
    """Hold everything that a place holds against a log: rolled back, forked, or signed by another key."""
    found = Anchored(place.url)
    notes: dict[int, bytes] = {}
    stamps: dict[int, bytes] = {}
    for name, data in place.held():
        kind = notes if name.endswith(HEAD) else stamps
        if kind.setdefault(size_of(name), data) != data:
            found.wrong.append(f"{name}: it is there twice, and not the same.")
    for size, note in sorted(notes.items()):
        found.heads += 1
        why = _judged(size, note, log)
        if why is not None:
            found.wrong.append(f"{size}{HEAD}: {why}")
        else:
            found.newest = max(found.newest, size)
    for size, response in sorted(stamps.items()):
        try:
            seen = stamp(response, notes.get(size, b""), roots)
        except DamageError as error:
            found.wrong.append(f"{size}{STAMP}: {error.message}")
            continue
        found.stamped += 1
        found.last_stamp = max(seen.time, found.last_stamp or seen.time)
    return found


def _judged(size: int, note: bytes, log: SealedLog) -> str | None:
    """Why a note is no head of this log, or None."""
    try:
        head = Checkpoint.parse(SignedNote.parse(note).text)
        if not _signed(note, log.state.keys):
            return "no key of this ledger signed it."
    except LedgerError as error:
        return error.message
    if head.size != size or head.origin != log.head.origin:
        return f"it is the head of {head.size} entries of {head.origin}."
    if head.size > log.head.size:
        return f"it has {head.size} entries, and this ledger {log.head.size}: rolled back, or a twin."
    if log.tree.root(head.size) != head.root:
        return f"its first {head.size} entries are not those of this ledger: forked or rewritten."
    return None


def _signed(note: bytes, keys: Sequence[VerifierKey]) -> bool:
    try:
        return bool(SignedNote.parse(note).verified_by(list(keys)))
    except DamageError:
        return False
