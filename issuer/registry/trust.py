"""Trust bundles: the public keys of one environment's workloads, and those of people.

`trust/<environment>.json` is a JWK Set whose keys each have a `sub`: the SPIFFE id of the workload, or the
person in `trust/people.json`. A key belongs to one of them: found twice, nothing starts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joserfc.jwk import OKPKey

from issuer.registry.identities import environment_of, workload_id
from issuer.registry.words import NAME
from issuer.tokens.keys import BadKey, public_members, read_key
from ledger.errors import UsageError

PEOPLE: Final = "people"
MAX_BYTES: Final = 1024 * 1024
MAX_KEYS: Final = 4_096


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose each key is, by the key's thumbprint."""

    owners: Mapping[str, tuple[str, OKPKey]]

    def key_of(self, owner: str, kid: str) -> OKPKey | None:
        """The key `kid` where it is this owner's."""
        found = self.owners.get(kid)
        return found[1] if found is not None and found[0] == owner else None

    def owner_of(self, kid: str) -> tuple[str, OKPKey] | None:
        """The owner and the key of a key id."""
        return self.owners.get(kid)

    def thumbprints(self, owner: str) -> list[str]:
        """The registered keys of one owner, newest last."""
        return [kid for kid, (name, _) in self.owners.items() if name == owner]


def read_trust(folder: Path) -> Trust:
    """The trust bundles in a folder.

    Raises:
        UsageError: there is none, one cannot be read, or a key stands in two places.
    """
    owners: dict[str, tuple[str, OKPKey]] = {}
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UsageError(
            f"There are no trust bundles in {folder}.", "`decision-ledger issuer init` makes them."
        )
    for path in paths:
        environment = path.stem
        if not re.fullmatch(NAME, environment):
            raise UsageError(f"{path} is not named after an environment.", "Rename it.")
        for owner, key in _keys(path, environment):
            kid = str(key.kid)
            if kid in owners:
                raise UsageError(
                    f"One key stands in the trust bundles for {owners[kid][0]} and for {owner}.",
                    "Give each identity a key of its own: a shared key is a shared identity.",
                )
            if len(owners) >= MAX_KEYS:
                raise UsageError(f"There are more than {MAX_KEYS:,} keys in {folder}.", "Remove old ones.")
            owners[kid] = (owner, key)
    return Trust(owners)


def trust_document(keys: Mapping[str, OKPKey]) -> dict[str, Any]:
    """The content of a trust bundle: keys by their owners' `sub`."""
    return {"keys": [{**public_members(key), "sub": owner} for owner, key in keys.items()]}


def _keys(path: Path, environment: str) -> list[tuple[str, OKPKey]]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        value = json.loads(data) if len(data) <= MAX_BYTES else None
        members = value["keys"] if isinstance(value, dict) else None
        if not isinstance(members, list):
            raise TypeError
        found = []
        for member in members:
            owner = _owner(str(member["sub"]), environment)
            if owner is None:
                raise UsageError(
                    f"{path} holds a key for {str(member['sub'])[:100]!r}, which is not of {environment}.",
                    "Each environment's bundle holds its own identities alone.",
                )
            found.append((owner, read_key(member)))
    except (ValueError, KeyError, TypeError, RecursionError, BadKey) as error:
        raise UsageError(f"{path} is no JWK Set of Ed25519 keys with `sub`.", "Write it anew.") from error
    return found


def _owner(sub: str, environment: str) -> str | None:
    if environment == PEOPLE:
        return sub if sub.startswith("user:") else None
    identity = workload_id(sub)
    return identity if identity is not None and environment_of(identity) == environment else None
