"""Options of format `ssf`: whose tokens are believed, by which keys."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest.adapters.mapping import Mapped

_TYPES: Final = {"ES256": ("EC", "P-256"), "ES384": ("EC", "P-384"), "EdDSA": ("OKP", "Ed25519"),
                 "Ed25519": ("OKP", "Ed25519"), "PS256": ("RSA", None), "RS256": ("RSA", None)}  # fmt: skip
"""By algorithm, the kind of key and its curve."""
ALGORITHMS: Final = tuple(sorted(_TYPES))
_READERS: Final[dict[str, type[ECKey | OKPKey | RSAKey]]] = {
    "EC": ECKey, "OKP": OKPKey, "RSA": RSAKey,
}  # fmt: skip
MIN_RSA_BITS: Final = 2_048

Key = ECKey | OKPKey | RSAKey


class Transmitter(BaseModel):
    """One issuer of security events and its public keys (RFC 7517), in a file or here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=1_024)
    """The `iss` of its tokens, letter by letter."""
    jwks: Path | None = None
    """A file with its key set, as its `jwks_uri` serves it."""
    keys: list[dict[str, Any]] = Field(default_factory=list)
    """Its keys, in place of a file."""
    audience: str | None = None
    """Who its tokens must be for; without it, for anybody."""

    @model_validator(mode="after")
    def _has_keys(self) -> Transmitter:
        if not self._read:
            raise ValueError("no key that is used here; give jwks (a file) or keys")
        return self

    def keys_for(self, kid: str | None, algorithm: str) -> list[Key]:
        """Keys that may have signed with this algorithm; of those with this id, where the token names one."""
        kind, curve = _TYPES[algorithm]
        fitting = [
            (name, key)
            for name, type_, of_curve, key in self._read
            if type_ == kind and curve in (None, of_curve)
        ]
        return [key for name, key in fitting if kid is None or name == kid]

    @cached_property
    def _read(self) -> list[tuple[str | None, str, str | None, Key]]:
        """(id, type, curve, key) of each key that can check a signature."""
        found = []
        for members in [*self._listed(), *self.keys]:
            reader = _READERS.get(str(members.get("kty")))
            # Whoever holds a shared key can sign as well, so none is taken; nor is one for encryption.
            if reader is None or members.get("use", "sig") != "sig":
                continue
            # Six bits a letter (RFC 7518, section 6.3.1.1).
            if reader is RSAKey and 6 * len(str(members.get("n"))) < MIN_RSA_BITS:
                raise ValueError(f"an RSA key of less than {MIN_RSA_BITS} bits")
            public = {name: value for name, value in members.items() if name not in _PRIVATE}
            try:
                key = reader.import_key(public)
            except (JoseError, ValueError, TypeError, KeyError):
                raise ValueError("a key that cannot be read") from None
            found.append((members.get("kid"), str(members["kty"]), members.get("crv"), key))
        return found

    def _listed(self) -> list[dict[str, Any]]:
        if self.jwks is None:
            return []
        try:
            value = json.loads(self.jwks.read_text("utf-8"))
            return [dict(one) for one in value["keys"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(f"{self.jwks} is no key set") from None


_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class SsfOptions(Mapped):
    """Options of format `ssf`."""

    transmitters: list[Transmitter] = Field(default_factory=list)
    """Whose tokens are read; every other one is refused."""

    def transmitter(self, issuer: str | None) -> Transmitter | None:
        """The transmitter of this name."""
        return next((one for one in self.transmitters if one.issuer == issuer), None)
