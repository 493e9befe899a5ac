"""A signing key under a passphrase: scrypt (RFC 7914) makes the key that AES-256-GCM seals the seed with.

The file is one JSON object. Its name and verifier key are bound to the sealed seed, so that none of them can
be exchanged unseen.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Annotated, Final, Literal

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.errors import UsageError
from ledger.format.note import SignerKey

FORMAT: Final = "decision-ledger-key/1"
SCRYPT_N: Final = 2**16
"""64 MiB and about a fifth of a second for each try."""
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
MIN_PASSPHRASE: Final = 12


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["decision-ledger-key/1"]
    name: Annotated[str, Field(max_length=1_024)]
    vkey: Annotated[str, Field(max_length=2_048)]
    n: Annotated[int, Field(ge=2**14, le=2**20)]
    salt: Annotated[str, Field(max_length=64)]
    nonce: Annotated[str, Field(max_length=64)]
    sealed: Annotated[str, Field(max_length=256)]


def is_protected(text: str) -> bool:
    """Whether this is such a file, and no plain key."""
    return text.lstrip().startswith("{")


def protect(signer: SignerKey, passphrase: str) -> str:
    """The text of the file. Raises UsageError for a passphrase that is too short."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise UsageError(
            f"The passphrase has less than {MIN_PASSPHRASE} letters.", "Use several words, or a longer one."
        )
    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(_key(passphrase, salt, SCRYPT_N)).encrypt(
        nonce, signer.seed, _bound(signer.name, signer.vkey)
    )
    value = {
        "format": FORMAT, "name": signer.name, "vkey": signer.vkey, "n": SCRYPT_N,
        **{name: base64.b64encode(part).decode() for name, part in
           (("salt", salt), ("nonce", nonce), ("sealed", sealed))},
    }  # fmt: skip
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def open_protected(text: str, passphrase: str) -> SignerKey:
    """The key in the text of such a file. Raises UsageError where it is none, or the passphrase is wrong."""
    try:
        told = _File.model_validate_json(text)
        salt, nonce, sealed = (
            base64.b64decode(part, validate=True) for part in (told.salt, told.nonce, told.sealed)
        )
        if told.n & (told.n - 1):
            raise ValueError
        seed = AESGCM(_key(passphrase, salt, told.n)).decrypt(nonce, sealed, _bound(told.name, told.vkey))
    except InvalidTag:
        raise UsageError("The passphrase of the signing key is wrong.", "Try again.") from None
    except (ValidationError, binascii.Error, ValueError):
        raise UsageError(
            "This is no signing key under a passphrase.", "Restore it from its backup."
        ) from None
    return SignerKey(told.name, seed)


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    derive = Scrypt(salt=salt, length=KEY_BYTES, n=cost, r=SCRYPT_R, p=SCRYPT_P)
    return derive.derive(passphrase.encode("utf-8", "surrogateescape"))


def _bound(name: str, vkey: str) -> bytes:
    return orjson.dumps([FORMAT, name, vkey])
