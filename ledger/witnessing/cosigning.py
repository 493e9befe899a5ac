"""What a witness decides (c2sp.org/tlog-witness): a request and what it knows in, an answer out. No I/O.

A witness cosigns a head of a log that it knows only where that head extends the last one that it cosigned. So
two readers who ask for its cosignature see one history.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.errors import DamageError, LedgerError
from ledger.format.checkpoint import Checkpoint, cosignature_message, open_checkpoint, parse_decimal
from ledger.format.merkle import EMPTY_ROOT, HASH_BYTES, verify_consistency
from ledger.format.note import (
    COSIGNATURE,
    TIMESTAMP_BYTES,
    Signature,
    SignedNote,
    Signer,
    VerifierKey,
    decode_base64,
)

MAX_PROOF: Final = 63
"""Hashes of a consistency proof: more no tree of 2^63 leaves needs."""
MAX_BODY_BYTES: Final = 128 * 1024
SIZE_TYPE: Final = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Head:
    """What a witness remembers of one log: the size and root that it cosigned last."""

    size: int = 0
    root: bytes = EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class Request:
    """A head to be cosigned, with the proof that it extends the head of `old` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes
    checkpoint: Checkpoint


class Refused(Exception):
    """A request that is not cosigned: the HTTP status, and what the body says."""

    def __init__(self, status: int, body: str, content_type: str = "text/plain; charset=utf-8") -> None:
        super().__init__(body)
        self.status = status
        self.body = body
        self.content_type = content_type


def cosigner_key(signer: Signer) -> VerifierKey:
    """The verifier key of a witness's cosignatures, which others name it by."""
    return VerifierKey(signer.name, signer.verifier.public_key, COSIGNATURE)


def parse_request(body: bytes) -> Request:
    """The request in a body. Raises Refused (400) where it is none."""
    head, separator, note = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Refused(400, "The proof is not ASCII.\n") from None
    old = parse_decimal(lines[0].removeprefix("old ")) if lines[0].startswith("old ") else None
    if old is None or not separator:
        raise Refused(400, "The body does not begin with `old` and a size.\n")
    if len(lines) - 1 > MAX_PROOF:
        raise Refused(400, f"A proof has at most {MAX_PROOF} hashes.\n")
    proof = [decode_base64(line) for line in lines[1:]]
    if any(digest is None or len(digest) != HASH_BYTES for digest in proof):
        raise Refused(400, f"A line of the proof is not base64 of {HASH_BYTES} bytes.\n")
    try:
        checkpoint = Checkpoint.parse(SignedNote.parse(note).text)
    except LedgerError as error:
        raise Refused(400, f"{error.message}\n") from None
    return Request(old, tuple(digest for digest in proof if digest is not None), note, checkpoint)


def judge(request: Request, logs: Mapping[str, Sequence[VerifierKey]], known: Head) -> Head:
    """What is to be remembered before `cosign` may answer. Raises Refused, with the specified status.

    `logs` are the keys of each log by its origin; `known` is what was cosigned of this one last.
    """
    checkpoint = request.checkpoint
    keys = logs.get(checkpoint.origin)
    if keys is None:
        raise Refused(404, "This log is not known here.\n")
    if not _is_signed(request.note, keys):
        raise Refused(403, "No key that is known of this log signed the checkpoint.\n")
    if request.old > checkpoint.size:
        raise Refused(400, "The old size is larger than the checkpoint's.\n")
    if request.old != known.size:
        raise Refused(409, f"{known.size}\n", SIZE_TYPE)
    if checkpoint.size == known.size:
        if checkpoint.root != known.root:
            raise Refused(409, f"{known.size}\n", SIZE_TYPE)
        if request.proof:
            raise Refused(422, "The proof of an unchanged size is empty.\n")
        return known
    # From the empty tree everything follows, and the proof of that is empty (RFC 9162 leaves it out).
    if known.size == 0:
        if request.proof:
            raise Refused(422, "The proof from an empty log is empty.\n")
    elif not verify_consistency(known.size, checkpoint.size, known.root, checkpoint.root, request.proof):
        raise Refused(422, "The proof does not lead from the last head to this one.\n")
    return Head(checkpoint.size, checkpoint.root)


def cosign(request: Request, signer: Signer, now: int) -> str:
    """The line of a cosignature over a judged request's head, at `now` in POSIX seconds."""
    text = SignedNote.parse(request.note).text
    made = now.to_bytes(TIMESTAMP_BYTES, "big") + signer.sign(cosignature_message(now, text))
    return Signature(signer.name, cosigner_key(signer).key_id, made).line


def cosigned_at(line: Signature) -> int:
    """The POSIX seconds of a cosignature."""
    return int.from_bytes(line.signature[:TIMESTAMP_BYTES], "big")


def _is_signed(note: bytes, keys: Sequence[VerifierKey]) -> bool:
    for key in keys:
        try:
            open_checkpoint(note, key)
        except DamageError:
            continue
        return True
    return False
