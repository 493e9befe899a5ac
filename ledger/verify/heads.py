"""Whether the log is an extension of what was seen of it before, or elsewhere."""

from __future__ import annotations

from typing import Final

from ledger.errors import LedgerError, UsageError
from ledger.format.checkpoint import Checkpoint, open_checkpoint
from ledger.format.merkle import leaf_hash
from ledger.format.note import SignedNote, VerifierKey
from ledger.log.protocol import CHECKPOINT
from ledger.log.witness_policy import Policy
from ledger.verify.copies import Read
from ledger.verify.findings import Finding, damage
from ledger.verify.log_view import LogView

WITNESSED: Final = "checkpoint.witnessed"


def parse_kept(note: bytes) -> Checkpoint:
    """The head in a note that the user kept; raises UsageError where it is none."""
    try:
        return Checkpoint.parse(SignedNote.parse(note).text)
    except LedgerError as error:
        raise UsageError(
            f"The kept head cannot be used: {error.message}", "Give the file that --save-head wrote."
        ) from None


def check_kept(view: LogView, kept: Checkpoint) -> list[Finding]:
    """Rollback or fork against a head that was verified before."""
    if kept.origin != view.state.origin and view.state.origin:
        message = f"The kept head is of the log {kept.origin!r}, this one is {view.state.origin!r}."
        return [damage("fork", CHECKPOINT, message)]
    # A writer keeps a head before it publishes it: an entry beyond the checkpoint may prove it.
    if kept.size > view.reach:
        message = f"The log holds {view.reach} entries, but {kept.size} were verified before."
        return [damage("rollback", CHECKPOINT, message, index=view.reach)]
    if view.tree.root(kept.size) != kept.root:
        message = f"Its first {kept.size} entries are not those that were verified before."
        return [damage("fork", CHECKPOINT, message)]
    return []


def check_witnessed(view: LogView, read: Read) -> list[Finding]:
    """The newest head that witnesses cosigned: the log must have reached it, with this history."""
    note = read(WITNESSED)
    if note is None:
        return []
    try:
        size = Checkpoint.parse(SignedNote.parse(note).text).size
        key = view.key_after(min(size, view.reach))
        if key is None:
            return []
        head = open_checkpoint(note, key)
    except LedgerError as error:
        return [damage("changed", WITNESSED, error.message)]
    if head.size > view.reach:
        message = f"Witnesses saw {head.size} entries; the log holds {view.reach}."
        return [damage("rollback", CHECKPOINT, message, index=view.reach)]
    if view.complete and view.tree.root(head.size) != head.root:
        return [damage("fork", WITNESSED, "Witnesses saw another history than the log's.")]
    return _check_quorum(view, read, note, head.size)


def _check_quorum(view: LogView, read: Read, note: bytes, size: int) -> list[Finding]:
    """Whether as many of the witnesses cosigned as were asked for when the head was made."""
    digests = [digest for index, digest in view.policies if index < size]
    if not digests:
        return []
    data = read(f"config/{digests[-1]}")
    try:
        policy = Policy.parse(data or b"")
    except UsageError:
        return []  # that file is found to be damaged by itself
    try:
        by = policy.signers(note)
    except LedgerError as error:
        return [damage("changed", WITNESSED, error.message)]
    if policy.witnesses and len(by) < policy.quorum:
        message = f"It has {len(by)} cosignatures of the ledger's witnesses; {policy.quorum} are asked for."
        return [damage("changed", WITNESSED, message)]
    return []


def check_signer(view: LogView, note: bytes, pinned: VerifierKey | None) -> list[Finding]:
    """Whether a kept head's note is signed by a key of this ledger."""
    keys = [*view.state.keys, *([pinned] if pinned is not None and pinned not in view.state.keys else [])]
    try:
        if SignedNote.parse(note).verified_by(keys):
            return []
    except LedgerError:
        pass
    return [damage("fork", CHECKPOINT, "No key of this ledger signed the kept head.")]


def check_against(view: LogView, other: LogView, url: str) -> list[Finding]:
    """One copy of the log must be a prefix of the other; named at the first entry that differs."""
    for index in range(min(view.reach, other.reach)):
        mine, theirs = view.entry_bytes(index), other.entry_bytes(index)
        if mine is not None and theirs is not None and leaf_hash(mine) != leaf_hash(theirs):
            message = f"The copy at {url} has another entry {index}: one of the two was forked or rewritten."
            return [damage("fork", view.path_of(index), message, index=index)]
    return []
