"""How a ledger has its head cosigned: each witness asked with a proof, and what a quorum signed kept.

A ledger works on while witnesses are away: they are asked again for a later head. A witness that saw more
than the ledger has, or another history, is the alarm that it is there for.
"""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from ledger.errors import DamageError, LedgerError, OutsideError, UsageError
from ledger.format.checkpoint import Checkpoint, parse_decimal
from ledger.format.merkle import Tree
from ledger.format.note import SignedNote
from ledger.log.protocol import CHECKPOINT
from ledger.log.witness_policy import Asked, Policy, policy_in_force
from ledger.storage.store import Store
from ledger.verify.heads import WITNESSED
from ledger.witnessing.cosigning import SIZE_TYPE, cosigned_at
from ledger.writer import Writer

PATH: Final = "/add-checkpoint"
TIMEOUT_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 65_536
ASKED_TWICE: Final = 2
"""The first time with the size that we know of; the second with the one that the witness has."""


@dataclass(slots=True)
class Cosigned:
    """What asking for one head gave: the note with all cosignatures, and why witnesses gave none."""

    checkpoint: Checkpoint
    note: bytes
    names: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    alarms: dict[str, str] = field(default_factory=dict)
    """Witnesses that know another history."""


class Asker:
    """Asks witnesses; `tokens` are shown to them by their name."""

    def __init__(self, client: httpx.Client | None = None, tokens: Mapping[str, str] | None = None) -> None:
        self._client = client or httpx.Client(
            timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False
        )
        self._tokens = tokens or {}

    def ask_all(self, note: bytes, tree: Tree, policy: Policy, known: int) -> Cosigned:
        """Ask every witness of a policy for the checkpoint in `note`; `known` is the size they saw last."""
        found = Cosigned(Checkpoint.parse(SignedNote.parse(note).text), note)
        for one in policy.witnesses:
            try:
                line = self._ask(one, found, note, tree, known)
            except DamageError as error:
                found.alarms[one.key.name] = error.message
            except LedgerError as error:
                found.failures[one.key.name] = error.message
            else:
                found.note += line
                found.names.append(one.key.name)
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, one: Asked, found: Cosigned, note: bytes, tree: Tree, known: int) -> bytes:
        """The cosignature line of one witness.

        Raises:
            DamageError: it knows a longer log, or another one.
            OutsideError: it does not answer, or says something else.
        """
        size = found.checkpoint.size
        old = min(known, size)
        for _ in range(ASKED_TWICE):
            status, kind, said = self._post(one, _body(old, note, size, tree))
            if status == 200:
                return _line(one, note, said)
            if status == 422:
                # The proof leads from what this ledger had then: the witness saw something else.
                raise DamageError(f"It saw another history of {old} entries than this ledger has.")
            if status != 409 or kind != SIZE_TYPE:
                raise OutsideError(f"{one.url} answers HTTP {status}.")
            seen = parse_decimal(said.decode("ascii", "replace").strip())
            if seen is None:
                raise OutsideError(f"{one.url} names no size.")
            if seen > size:
                raise DamageError(
                    f"It saw {seen} entries, and this ledger has {size}: rolled back, or a twin."
                )
            if seen == old:
                raise DamageError(f"It saw another history of {seen} entries than this ledger has.")
            old = seen
        raise OutsideError(f"{one.url} changes its mind about what it saw.")

    def _post(self, one: Asked, body: bytes) -> tuple[int, str, bytes]:
        token = self._tokens.get(one.key.name)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            with self._client.stream("POST", f"{one.url}{PATH}", content=body, headers=headers) as answer:
                said = _bounded(answer)
        except httpx.HTTPError as error:
            raise OutsideError(f"{one.url} does not answer: {type(error).__name__}.") from None
        return answer.status_code, answer.headers.get("content-type", "").partition(";")[0], said


def ask_for(writer: Writer, asker: Asker) -> Cosigned | None:
    """Have the standing head of a writer's log cosigned, and keep it; None where there is nothing to ask."""
    policy = policy_in_force(writer.state, writer.store)
    note = writer.store.read(CHECKPOINT)
    if not policy.witnesses or note is None:
        return None
    known = witnessed_size(writer.store.read(WITNESSED))
    tree, size = writer.log.commits.tree, witnessed_size(note)
    if not known < size <= tree.size:
        return None  # nothing is newer, or another writer's entries are not taken in yet
    found = asker.ask_all(note, tree, policy, known)
    keep(writer.store, found, policy)
    return found


def keep(store: Store, found: Cosigned, policy: Policy) -> bool:
    """Keep a head that a quorum cosigned, unless a later one is kept; whether it was."""
    if len(found.names) < policy.quorum or not policy.witnesses:
        return False

    def later(present: bytes | None) -> bytes | None:
        return None if witnessed_size(present) >= found.checkpoint.size else found.note

    return store.replace(WITNESSED, later)


def witnessed(store: Store, policy: Policy) -> dict[str, Any]:
    """The last head that a quorum cosigned: its `size`, and the `names` of those of the policy who did."""
    note = store.read(WITNESSED)
    if note is None:
        return {"size": 0, "names": [], "time": None}
    try:
        parsed = SignedNote.parse(note)
        by = policy.signers(note)
    except LedgerError:
        return {"size": 0, "names": [], "time": None}
    times = [cosigned_at(line) for line in parsed.signatures if line.key_id in {key.key_id for key in by}]
    when = datetime.fromtimestamp(min(times), UTC).isoformat() if times else None
    return {"size": witnessed_size(note), "names": [key.name for key in by], "time": when}


def read_witness_tokens(path: Path | None) -> dict[str, str]:
    """The tokens in a TOML file, by the witness's name. Raises UsageError."""
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise UsageError(f"The tokens in {path} cannot be read as TOML.", "Correct --tokens.") from None
    if not all(isinstance(token, str) for token in found.values()):
        raise UsageError(
            f"{path} holds something else than tokens.", 'Write a line for each: name = "token".'
        )
    return found


def witnessed_size(note: bytes | None) -> int:
    """The size of a kept head; 0 where there is none that can be read."""
    if note is None:
        return 0
    try:
        return Checkpoint.parse(SignedNote.parse(note).text).size
    except LedgerError:
        return 0


def _body(old: int, note: bytes, size: int, tree: Tree) -> bytes:
    proof = tree.consistency_proof(old, size) if 0 < old < size else []
    lines = [f"old {old}", *(base64.b64encode(digest).decode() for digest in proof)]
    return "\n".join(lines).encode() + b"\n\n" + note


def _line(one: Asked, note: bytes, said: bytes) -> bytes:
    """The line by this witness among those that it gave."""
    for line in said.splitlines(keepends=True):
        try:
            if SignedNote.parse(note + line).verified_by([one.key]):
                return line
        except LedgerError:
            continue
    raise OutsideError(f"{one.url} gave no cosignature by {one.key.name}.")


def _bounded(answer: httpx.Response) -> bytes:
    held = bytearray()
    for part in answer.iter_bytes():
        held += part
        if len(held) > MAX_ANSWER_BYTES:
            raise OutsideError("The answer is too long.")
    return bytes(held)
