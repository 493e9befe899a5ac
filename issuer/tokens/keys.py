"""Keys as JSON Web Keys: Ed25519 for all tokens, P-256 for id tokens (RFC 7517, RFC 8037, RFC 7638)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

Key = OKPKey | ECKey
_K = TypeVar("_K", OKPKey, ECKey)

ALGORITHM: Final = "Ed25519"
"""RFC 9864; the older name `EdDSA` says nothing of the curve."""
ID_TOKEN_ALGORITHM: Final = "ES256"  # noqa: S105 - an algorithm's name


class BadKey(ValueError):
    """These members are no key that is used here."""


def make_key() -> OKPKey:
    """A new Ed25519 key; its `kid` is its thumbprint."""
    return _named(OKPKey.generate_key("Ed25519"))


def make_id_token_key() -> ECKey:
    """A new P-256 key; its `kid` is its thumbprint."""
    return _named(ECKey.generate_key("P-256"))


def read_key(members: Mapping[str, Any]) -> OKPKey:
    """The Ed25519 key of a JWK, public or private; its `kid` is its thumbprint, whatever the JWK says.

    Raises:
        BadKey: it is no Ed25519 key.
    """
    if members.get("kty") != "OKP" or members.get("crv") != "Ed25519":
        raise BadKey("not an Ed25519 key")
    wanted = {name: members[name] for name in ("kty", "crv", "x", "d") if name in members}
    if not all(isinstance(value, str) for value in wanted.values()):
        raise BadKey("its members are not text")
    try:
        key = _named(OKPKey.import_key(wanted))
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise BadKey("its members are no key") from error
    if key.as_dict(private=False)["x"] != wanted["x"]:
        raise BadKey("its private part is that of another key")
    return key


def read_key_set(value: Mapping[str, Any]) -> dict[str, OKPKey]:
    """The Ed25519 keys of a JWK Set by their key ids; keys of other kinds are left out.

    Raises:
        BadKey: one that says it is Ed25519 is not.
        KeyError, TypeError: it is no JWK Set.
    """
    keys = (read_key(members) for members in value["keys"] if members.get("kty") == "OKP")
    return {str(key.kid): key for key in keys}


def read_id_token_key(members: Mapping[str, Any]) -> ECKey:
    """The P-256 key that `make_id_token_key` made."""
    return _named(ECKey.import_key({name: members[name] for name in ("kty", "crv", "x", "y", "d")}))


def thumbprint(key: Key) -> str:
    """RFC 7638, SHA-256, base64url: what `cnf.jkt` holds."""
    return str(key.thumbprint())


def public_members(key: Key) -> dict[str, str]:
    """The public JWK of a key as it is published: with `kid`, `use` and `alg`."""
    alg = ID_TOKEN_ALGORITHM if isinstance(key, ECKey) else ALGORITHM
    members = {name: str(value) for name, value in key.as_dict(private=False).items() if name != "key_ops"}
    return {**members, "kid": str(key.kid), "use": "sig", "alg": alg}


def private_members(key: Key) -> dict[str, str]:
    """The private JWK of a key, for the file or table that keeps it."""
    return {name: str(value) for name, value in key.as_dict(private=True).items()}


def key_set(keys: Iterable[Key]) -> dict[str, list[dict[str, str]]]:
    """A JWK Set of public keys."""
    return {"keys": [public_members(key) for key in keys]}


def _named(key: _K) -> _K:
    # From the key itself, since the library keeps the members as they were handed in.
    bare = type(key).import_key(key.raw_value)
    return type(key).import_key(key.raw_value, {"kid": str(bare.thumbprint())})
