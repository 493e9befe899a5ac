"""C2SP checkpoints (c2sp.org/tlog-checkpoint): the signed head of a log.

The text is `origin LF size LF base64(root) LF`, inside a signed note.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import DamageError, UsageError
from ledger.format.merkle import EMPTY_ROOT, HASH_BYTES
from ledger.format.note import SignedNote, Signer, VerifierKey, cosignature_message, decode_base64

__all__ = ["MAX_SIZE", "Checkpoint", "cosignature_message", "open_checkpoint", "parse_decimal"]

MAX_SIZE = 2**63 - 1
"""Leaves. Peers keep sizes in signed 64-bit integers."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
_REMEDY = "Fetch the checkpoint again; if it stays like this, treat it as tampered with."


def parse_decimal(text: str) -> int | None:
    """An ASCII decimal without leading zeros, 0 up to MAX_SIZE, else None."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        return None
    return int(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of the log `origin`: its size in entries and its 32-byte root.

    Raises UsageError for values that no checkpoint can hold.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or any(ord(character) < 0x20 for character in self.origin):
            raise UsageError(
                "An origin is one non-empty line without control characters.",
                "Use a URL without its scheme, such as example.com/log.",
            )
        if not 0 <= self.size <= MAX_SIZE:
            raise UsageError(f"A log's size lies between 0 and {MAX_SIZE}.", "Give the number of entries.")
        if len(self.root) != HASH_BYTES:
            raise UsageError(f"A root has {HASH_BYTES} bytes.", "Give the SHA-256 root of the tree.")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise UsageError("The root of the empty log is SHA-256 of nothing.", "Use merkle.EMPTY_ROOT.")

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a checkpoint's note text. DamageError when it is malformed.

        Extension lines are tolerated and dropped: nothing in them is ours to write or to trust.
        Who needs them verbatim (a witness signs them too) keeps the note's text.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop() != "" or "" in lines:
            raise _malformed("it needs three or more non-empty lines, each ended by a line feed")
        size, root = parse_decimal(lines[1]), decode_base64(lines[2])
        if size is None:
            raise _malformed("its second line is not a size in decimal without leading zeros")
        if root is None or len(root) != HASH_BYTES:
            raise _malformed(f"its third line is not base64 of {HASH_BYTES} bytes")
        try:
            return cls(lines[0], size, root)
        except UsageError as error:
            raise _malformed(error.message[0].lower() + error.message[1:].rstrip(".")) from None

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, signer: Signer) -> bytes:
        """The checkpoint as a note signed by the log's key. UsageError when the key is not the origin's."""
        if signer.name != self.origin:
            raise UsageError(
                f"A key named {signer.name!r} cannot sign for the origin {self.origin!r}.",
                "Use the key that has the log's origin as its name.",
            )
        return signer.sign_note(self.text())


def open_checkpoint(data: bytes, key: VerifierKey, witnesses: Sequence[VerifierKey] = ()) -> Checkpoint:
    """The checkpoint in a note that the log's key `key` signed for the origin that is its name.

    DamageError when the note or text is malformed, when that signature is missing, when a signature
    by `key` or one of `witnesses` is bad, or when the origin is another log's. How many witnesses
    signed is the caller's policy: ask SignedNote.verified_by.
    """
    note = SignedNote.parse(data)
    if key not in note.verified_by([key, *witnesses]):
        raise DamageError(
            f"The checkpoint is not signed by the log's key {key.text}.",
            "Check that this is the log, and the key, that you expect.",
        )
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != key.name:
        raise DamageError(
            f"The checkpoint is of the log {checkpoint.origin!r}, not of {key.name!r}.",
            "Check that this is the log that you expect.",
        )
    return checkpoint


def _malformed(why: str) -> DamageError:
    return DamageError(f"This is not a checkpoint: {why}.", _REMEDY)
