"""A signing key that a program keeps, as a key-management service does: it is handed messages, and signs.

The key's file is TOML: `vkey`, the public half, and `command`, the program with its arguments. The message
goes to its standard input; the 64 bytes of the signature come from its standard output, raw or in base64.
"""

from __future__ import annotations

import subprocess
import tomllib
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ledger.errors import OutsideError, UsageError
from ledger.format.note import ED25519, ED25519_SIGNATURE_BYTES, Signer, VerifierKey, decode_base64

TIMEOUT_SECONDS: Final = 30.0
"""How long one signature may take."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    vkey: Annotated[str, Field(max_length=2_048)]
    command: Annotated[list[Annotated[str, Field(max_length=4_096)]], Field(min_length=1, max_length=64)]


class SigningProgram(Signer):
    """Signs by running `command` for each message; what it gives is checked under the public half."""

    def __init__(self, verifier: VerifierKey, command: list[str]) -> None:
        self.name = verifier.name
        self._verifier = verifier
        self._command = command

    @property
    def verifier(self) -> VerifierKey:
        """See `Signer.verifier`."""
        return self._verifier

    def sign(self, message: bytes) -> bytes:
        """See `Signer.sign`. Raises OutsideError where the program fails or signs with another key."""
        program = self._command[0]
        try:
            done = subprocess.run(
                self._command, input=message, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OutsideError(
                f"{program}, which keeps the signing key, gave no signature: {type(error).__name__}.",
                "Run it by hand with some input; nothing was sealed.",
            ) from None
        if done.returncode:
            raise OutsideError(
                f"{program}, which keeps the signing key, ended with {done.returncode}.",
                "Run it by hand with some input to see why; nothing was sealed.",
            )
        signature = _signature(done.stdout)
        if signature is None or not self._verifier.verify(message, signature):
            raise OutsideError(
                f"What {program} gave is no signature by {self._verifier.text}.",
                "Correct the key that it signs with, or vkey in the key's file.",
            )
        return signature


def is_program(text: str) -> bool:
    """Whether a key's file names a program: TOML, and no key."""
    try:
        return "command" in tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False


def signing_program(text: str) -> SigningProgram:
    """The program that a key's file names. Raises UsageError."""
    try:
        told = _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"The signing key's file is wrong at {place}: {first['msg']}.", "It holds vkey and command."
        ) from None
    verifier = VerifierKey.from_text(told.vkey)
    if verifier.signature_type != ED25519:
        raise UsageError(f"{told.vkey} is no key that signs.", "Give an Ed25519 verifier key.")
    return SigningProgram(verifier, told.command)


def _signature(given: bytes) -> bytes | None:
    if len(given) == ED25519_SIGNATURE_BYTES:
        return given
    return decode_base64(given.decode("ascii", "replace").strip())
