"""Passwords and client secrets, as `scrypt$salt$hash`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

SCRYPT: Final = {"n": 2**14, "r": 8, "p": 1, "dklen": 32}
MAX_LETTERS: Final = 256


def hashed(password: str, salt: bytes) -> str:
    """What is kept of a password."""
    found = hashlib.scrypt(password.encode(), salt=salt, **SCRYPT)
    return f"scrypt${base64.b64encode(salt).decode()}${base64.b64encode(found).decode()}"


def fits(password: str, kept: str | None) -> bool:
    """Whether a password is the one that is kept; takes its time whether there is one or not."""
    kind, _, rest = (kept or hashed("", b"nobody")).partition("$")
    salt, _, digest = rest.partition("$")
    try:
        known_salt, known = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except (binascii.Error, ValueError):
        return False
    if kind != "scrypt" or len(password) > MAX_LETTERS:
        return False
    found = hashlib.scrypt(password.encode("utf-8", "replace"), salt=known_salt, **SCRYPT)
    return hmac.compare_digest(found, known) and kept is not None
