"""C2SP offline proofs (c2sp.org/tlog-proof@v1): an entry, its place, and the signed head above it.

    c2sp.org/tlog-proof@v1
    extra <base64>              optional, and nobody's word: it is not authenticated
    index <n>
    <base64 hash>               zero or more, from the leaf's sibling to the root's child

    <checkpoint, verbatim>

The checkpoint's size bounds the index: a proof never verifies against another size's root.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import DamageError
from ledger.format.checkpoint import Checkpoint, open_checkpoint, parse_decimal
from ledger.format.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from ledger.format.note import MAX_NOTE_BYTES, VerifierKey, decode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PATH_HASHES = 63
"""Enough for every size up to 2^63 - 1."""
MAX_EXTRA_BYTES = 65_536
MAX_PROOF_BYTES = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES

_REMEDY = "Ask for the proof again from whoever holds the log."


@dataclass(frozen=True, slots=True)
class TlogProof:
    """One proof, well-formed but unchecked: the entry's index, its path, the checkpoint's note.

    `extra` is None where there is none. Raises ValueError for what the format cannot hold.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        if parse_decimal(str(self.index)) is None:
            raise ValueError(f"an index lies between 0 and 2^63 - 1, not at {self.index}")
        if len(self.path) > MAX_PATH_HASHES or any(len(digest) != HASH_BYTES for digest in self.path):
            raise ValueError(f"a path has at most {MAX_PATH_HASHES} hashes of {HASH_BYTES} bytes")
        if self.extra is not None and len(self.extra) > MAX_EXTRA_BYTES:
            raise ValueError(f"extra data has at most {MAX_EXTRA_BYTES} bytes")
        if len(self.checkpoint) > MAX_NOTE_BYTES:
            raise ValueError(f"a checkpoint has at most {MAX_NOTE_BYTES} bytes")

    @classmethod
    def parse(cls, data: bytes) -> TlogProof:
        """Read a proof strictly. DamageError when it is malformed; the checkpoint is not opened."""
        if len(data) > MAX_PROOF_BYTES:
            raise _malformed(f"it has more than {MAX_PROOF_BYTES} bytes")
        head, divider, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise _malformed("it is not ASCII before its checkpoint") from None
        if not divider or lines.pop(0) != HEADER:
            raise _malformed(f"it needs {HEADER!r} as first line and an empty line before its checkpoint")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "))
            if extra is None:
                raise _malformed("its extra line is not base64")
        name, _, number = lines.pop(0).partition(" ") if lines else ("", "", "")
        index = parse_decimal(number)
        if name != "index" or index is None:
            raise _malformed("its index line is not 'index' and a decimal without leading zeros")
        path = tuple(decode_base64(line) or b"" for line in lines)
        try:
            return cls(index, path, checkpoint, extra)
        except ValueError as error:
            raise _malformed(str(error)) from None

    def text(self) -> bytes:
        """The proof as it is handed out."""
        extra = [] if self.extra is None else [f"extra {base64.b64encode(self.extra).decode()}"]
        hashes = [base64.b64encode(digest).decode() for digest in self.path]
        lines = [HEADER, *extra, f"index {self.index}", *hashes, "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def verify_proof(
    data: bytes, leaf_data: bytes, key: VerifierKey, witnesses: Sequence[VerifierKey] = ()
) -> Checkpoint:
    """The checkpoint under which the proof `data` shows that the log of `key` holds `leaf_data`.

    `leaf_data` is the entry as the log holds it, not its hash. DamageError when proof or checkpoint
    is malformed, the checkpoint does not open with `key` (see open_checkpoint), or the path does not
    lead from that entry at that index to the root of exactly the checkpoint's size.
    """
    proof = TlogProof.parse(data)
    checkpoint = open_checkpoint(proof.checkpoint, key, witnesses)
    if proof.index >= checkpoint.size:
        raise DamageError(
            f"The proof is for entry {proof.index}, but its checkpoint has only {checkpoint.size}.", _REMEDY
        )
    leaf = leaf_hash(leaf_data)
    if not verify_inclusion(leaf, proof.index, checkpoint.size, proof.path, checkpoint.root):
        raise DamageError(
            f"The proof does not show this entry at index {proof.index} of the log {checkpoint.origin!r}.",
            "Check that the entry is the one the proof was made for.",
        )
    return checkpoint


def _malformed(why: str) -> DamageError:
    return DamageError(f"This is not a log proof: {why}.", _REMEDY)
