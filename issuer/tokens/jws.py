"""A token's text, judged before and after its signature (RFC 7515, RFC 7519, RFC 8725).

Before anything is decoded by the library: size, shape, members given twice, `typ`, `alg`, `kid`. The key is
looked up by `kid` in a table; the algorithm is the one that this kind of token has, never the token's choice.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError

from issuer.tokens import strict_json
from issuer.tokens.keys import ALGORITHM, Key

MAX_TOKEN_BYTES: Final = 8_192
SKEW_SECONDS: Final = 5
"""How far `iat` and `nbf` may lie ahead; `exp` is strict."""
MAX_KID_LETTERS: Final = 128

SESSION: Final = "agent-session+jwt"
ASSERTION: Final = "client-authentication+jwt"
ACCESS: Final = "at+jwt"
PROOF: Final = "dpop+jwt"
HOP: Final = "txntoken+jwt"
EVENT: Final = "secevent+jwt"

KeyFor = Callable[[str], Key | None]


class TokenRefused(Exception):
    """A token that proves nothing; `reason` is the machine-readable why. The message holds no part of it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Parts:
    """A token that is well-formed; its signature is still to be checked."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def split(text: str, typ: str, *, alg: str = ALGORITHM) -> Parts:
    """The parts of a token that claims to be of this type.

    Raises:
        TokenRefused: it is too large, malformed, of another type, or asks for another algorithm.
    """
    if len(text) > MAX_TOKEN_BYTES:
        raise TokenRefused("token_too_large", f"The token is larger than {MAX_TOKEN_BYTES:,} bytes.")
    pieces = text.split(".")
    if not text.isascii() or len(pieces) != 3 or not all(pieces):
        raise TokenRefused("token_malformed", "The token does not have three parts.")
    header, claims = _object(pieces[0], "header"), _object(pieces[1], "claims")
    decode_part(pieces[2])
    asked = header.get("typ")
    if not isinstance(asked, str) or asked.lower().removeprefix("application/") != typ:
        raise TokenRefused("token_type", f"The token's typ is not {typ}.")
    if header.get("alg") != alg:
        raise TokenRefused("token_algorithm", f"The token's alg is not {alg}.")
    if set(header) - {"typ", "alg", "kid", *(("jwk",) if typ == PROOF else ())}:
        raise TokenRefused("token_header", "The token's header has members that are not read here.")
    return Parts(text, header, claims)


def verify(text: str, typ: str, key_for: KeyFor, *, alg: str = ALGORITHM) -> Mapping[str, Any]:
    """The claims of a token that one of our keys signed.

    Raises:
        TokenRefused: for what `split` refuses, an unknown `kid`, or a signature that does not fit.
    """
    return verify_parts(split(text, typ, alg=alg), key_for, alg=alg)


def verify_parts(parts: Parts, key_for: KeyFor, *, alg: str = ALGORITHM) -> Mapping[str, Any]:
    """As `verify`, for a token that was split already: to find its key, or its kind.

    Raises:
        TokenRefused: an unknown `kid`, or a signature that does not fit.
    """
    kid = parts.header.get("kid")
    if not isinstance(kid, str) or len(kid) > MAX_KID_LETTERS:
        raise TokenRefused("token_kid", "The token names no key.")
    key = key_for(kid)
    if key is None:
        raise TokenRefused("token_kid", "The token names a key that is not known here.")
    check_signature(parts, key, alg=alg)
    return parts.claims


def check_signature(parts: Parts, key: Key, *, alg: str = ALGORITHM) -> None:
    """Nothing where `key` signed the token.

    Raises:
        TokenRefused: it did not.
    """
    try:
        jws.deserialize_compact(parts.text, key, algorithms=[alg])
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise TokenRefused("token_signature", "The token's signature does not fit.") from error


def sign(claims: Mapping[str, Any], typ: str, key: Key, *, alg: str = ALGORITHM, **header: Any) -> str:
    """A token with these claims, signed by `key`; `header` are members beside alg, typ and kid.

    Raises:
        TokenRefused: it would be larger than any reader takes.
    """
    named = {"alg": alg, "typ": typ, **({"kid": key.kid} if "jwk" not in header else {}), **header}
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    text = jws.serialize_compact(named, payload, key, algorithms=[alg])
    if len(text) > MAX_TOKEN_BYTES:
        raise TokenRefused("token_too_large", f"The token would be larger than {MAX_TOKEN_BYTES:,} bytes.")
    return text


def check_times(claims: Mapping[str, Any], now: float, *, needs_end: bool = True) -> None:
    """Nothing where the token is valid at `now` (seconds since 1970).

    Raises:
        TokenRefused: it has ended, or begins later, or its times are no whole numbers.
    """
    for name in ("iat", "exp", "nbf"):
        value = claims.get(name)
        if value is None and (name == "nbf" or (name == "exp" and not needs_end)):
            continue
        if type(value) is not int or not 0 <= value < 1 << 48:
            raise TokenRefused("token_claims", f"The token's {name} is not a time.")
    if needs_end and claims["exp"] <= now:
        raise TokenRefused("token_expired", "The token has expired.")
    if claims["iat"] > now + SKEW_SECONDS or claims.get("nbf", 0) > now + SKEW_SECONDS:
        raise TokenRefused("token_not_yet_valid", "The token is not valid yet.")


def decode_part(text: str) -> bytes:
    """Base64url without padding, and nothing that another text would decode to as well (RFC 7515, section 2).

    Raises:
        TokenRefused: it is not that.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenRefused("token_malformed", "The token is not base64url.") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise TokenRefused("token_malformed", "The token is not base64url.")
    return data


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(decode_part(text).decode())
    except ValueError as error:
        raise TokenRefused("token_malformed", f"The token's {what} cannot be read.") from error
    if not isinstance(value, dict):
        raise TokenRefused("token_malformed", f"The token's {what} is no object.")
    return value
