"""Which witnesses a ledger asks, and how many of them must have seen a head: sealed as a `config` entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.errors import DamageError, UsageError
from ledger.format.note import COSIGNATURE, SignedNote, VerifierKey
from ledger.format.state import LogState
from ledger.log.sealed_config import config_data
from ledger.storage.s3_address import is_loopback_http
from ledger.storage.store import Store

WITNESSES: Final = "witnesses"
"""The name of the `config` entries that seal it."""
MAX_WITNESSES: Final = 32


class _Witness(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    vkey: Annotated[str, Field(max_length=2_000)]
    url: Annotated[str, Field(max_length=2_000)]


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    quorum: Annotated[int, Field(ge=1, le=MAX_WITNESSES)]
    witnesses: Annotated[list[_Witness], Field(max_length=MAX_WITNESSES)]


@dataclass(frozen=True, slots=True)
class Asked:
    """One witness: the key that its cosignatures verify under, and where it is asked."""

    key: VerifierKey
    url: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The witnesses, and how many of them make a quorum."""

    quorum: int = 1
    witnesses: tuple[Asked, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Policy:
        """What `json` gave. Raises UsageError for anything else."""
        try:
            told = _Policy.model_validate_json(data)
        except ValidationError as error:
            raise UsageError(f"This is no policy of witnesses: {error.errors()[0]['msg']}.") from None
        return cls(told.quorum, tuple(Asked(witness_key(one.vkey), one.url) for one in told.witnesses))

    def json(self) -> bytes:
        """What is sealed: RFC 8785 JSON."""
        value = {
            "quorum": self.quorum,
            "witnesses": [{"vkey": one.key.text, "url": one.url} for one in self.witnesses],
        }
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def signers(self, note: bytes) -> tuple[VerifierKey, ...]:
        """The witnesses whose cosignature a note carries. Raises DamageError for one that is wrong."""
        return SignedNote.parse(note).verified_by([one.key for one in self.witnesses])

    def with_witness(self, one: Asked, quorum: int | None) -> Policy:
        """This policy and one witness more. Raises UsageError where that is none."""
        if any(one.key.name == other.key.name for other in self.witnesses):
            raise UsageError(f"There is a witness {one.key.name} already.", "Remove it first.")
        return self._checked((*self.witnesses, one), quorum or self.quorum)

    def without(self, name: str, quorum: int | None) -> Policy:
        """This policy without a witness. Raises UsageError where it is not there."""
        rest = tuple(one for one in self.witnesses if one.key.name != name)
        if len(rest) == len(self.witnesses):
            raise UsageError(f"There is no witness {name}.", "`witness list` names them.")
        return self._checked(rest, quorum or min(self.quorum, max(1, len(rest))))

    def _checked(self, witnesses: Sequence[Asked], quorum: int) -> Policy:
        if len(witnesses) > MAX_WITNESSES or not 1 <= quorum <= max(1, len(witnesses)):
            raise UsageError(
                f"A quorum of {quorum} is none of {len(witnesses)} witnesses.",
                f"Use 1 to as many as there are, of at most {MAX_WITNESSES}.",
            )
        return Policy(quorum, tuple(witnesses))


def witness_key(text: str) -> VerifierKey:
    """The verifier key of a witness. Raises UsageError where it is another one's."""
    key = VerifierKey.from_text(text)
    if key.signature_type != COSIGNATURE:
        raise UsageError(
            f"{key.text} is no key of cosignatures.", "Take the one that `witness serve` printed."
        )
    return key


def witness_url(text: str) -> str:
    """Where a witness is asked: https, or http on this machine. Raises UsageError."""
    parts = urlsplit(text)
    if "@" in parts.netloc or parts.query or parts.fragment or not parts.hostname:
        raise UsageError(f"{text!r} is no address of a witness.", "Write https://witness.example.")
    is_loopback_http(text)
    return text.rstrip("/")


def policy_in_force(state: LogState, store: Store) -> Policy:
    """What the log says now; no witnesses where nothing was sealed. Raises DamageError where it is gone."""
    digest = state.configs.get(WITNESSES)
    if digest is None:
        return Policy()
    try:
        return Policy.parse(config_data(store, digest, "the witnesses in force"))
    except UsageError as error:
        raise DamageError(f"config/{digest}: {error.message}", "Seal the witnesses anew.") from None


def as_rows(policy: Policy) -> list[dict[str, Any]]:
    """For machines."""
    return [{"name": one.key.name, "vkey": one.key.text, "url": one.url} for one in policy.witnesses]
