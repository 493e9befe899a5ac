"""Proof of possession: who uses a token shows that it holds the key it was made for (RFC 9449)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from joserfc.jwk import OKPKey

from issuer.tokens.jws import PROOF, TokenRefused, check_signature, sign, split
from issuer.tokens.keys import BadKey, read_key, thumbprint

WINDOW_SECONDS: Final = 60
"""How far a proof's `iat` may lie from now, either way."""
MAX_ID_LETTERS: Final = 256


@dataclass(frozen=True, slots=True)
class Proof:
    """A proof that holds: the key's thumbprint, and the id under which it counts as used."""

    jkt: str
    jti: str
    until: int
    """Seconds since 1970, from when on it would be refused for its age."""


def make_proof(key: OKPKey, method: str, url: str, *, jti: str, now: float, token: str | None = None) -> str:
    """A proof for one request; `token` is the access token that it goes with."""
    claims: dict[str, Any] = {"htm": method, "htu": bare_url(url), "iat": int(now), "jti": jti}
    if token is not None:
        claims["ath"] = token_hash(token)
    jwk = {name: key.as_dict(private=False)[name] for name in ("kty", "crv", "x")}
    return sign(claims, PROOF, key, jwk=jwk)


def check_proof(text: str, method: str, url: str, *, now: float, token: str | None = None) -> Proof:
    """The proof of one request; that it was not used before is the caller's to check.

    Raises:
        TokenRefused: it is for another request, too old, or its signature is not by the key it names.
    """
    parts = split(text, PROOF)
    claims, jwk = parts.claims, parts.header.get("jwk")
    if not isinstance(jwk, dict) or "d" in jwk or "kid" in parts.header:
        raise TokenRefused("proof_key", "The proof does not hold one public key.")
    try:
        key = read_key(jwk)
    except BadKey as error:
        raise TokenRefused("proof_key", "The proof's key is not an Ed25519 key.") from error
    check_signature(parts, key)
    issued, jti = claims.get("iat"), claims.get("jti")
    if type(issued) is not int or abs(issued - now) > WINDOW_SECONDS:
        raise TokenRefused("proof_time", f"The proof is not from within {WINDOW_SECONDS} s of now.")
    if not isinstance(jti, str) or not 1 <= len(jti) <= MAX_ID_LETTERS:
        raise TokenRefused("proof_id", "The proof has no jti.")
    if claims.get("htm") != method:
        raise TokenRefused("proof_method", "The proof is for another method.")
    told = claims.get("htu")
    if not isinstance(told, str) or bare_url(told) != bare_url(url):
        raise TokenRefused("proof_url", "The proof is for another URL.")
    if token is not None and claims.get("ath") != token_hash(token):
        raise TokenRefused("proof_token", "The proof is for another token.")
    return Proof(thumbprint(key), jti, issued + WINDOW_SECONDS + 1)


def token_hash(token: str) -> str:
    """`ath`: SHA-256 of the token's text, base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def bare_url(url: str) -> str:
    """`htu`: the URL without query and fragment, host and scheme in small letters, no default port.

    Raises:
        TokenRefused: it is no URL.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise TokenRefused("proof_url", "The proof's URL cannot be read.") from error
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != {"http": 80, "https": 443}.get(parts.scheme.lower()):
        host = f"{host}:{port}"
    return urlunsplit((parts.scheme.lower(), host, parts.path or "/", "", ""))
