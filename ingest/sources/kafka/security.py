"""How to reach a broker that asks for TLS or SASL, as kafka-python's settings.

Secrets come from a file or from the environment, never from arguments; they are passed to the
reading process over its socket, and its environment holds none of them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ingest.defaults import SASL_MECHANISMS as MECHANISMS
from ingest.defaults import SECURITY_PROTOCOLS as PROTOCOLS
from ingest.sources.kafka.settings import KEY_PASSWORD_VARIABLE, PASSWORD_VARIABLE
from ledger.errors import UsageError

MAX_SECRET_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """What the command was told. `protocol` None: what the other settings need, TLS before none."""

    protocol: str | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    key_password_file: Path | None = None
    mechanism: str | None = None
    username: str | None = None
    password_file: Path | None = None

    def client(self) -> dict[str, Any]:
        """kafka-python's settings, secrets included. Raises UsageError for what does not fit together."""
        tls = {"--ssl-ca": self.ca, "--ssl-cert": self.cert, "--ssl-key": self.key,
               "--ssl-key-password-file": self.key_password_file}  # fmt: skip
        sasl = {"--sasl-mechanism": self.mechanism, "--sasl-username": self.username,
                "--sasl-password-file": self.password_file}  # fmt: skip
        told_tls = [name for name, value in tls.items() if value is not None]
        told_sasl = [name for name, value in sasl.items() if value is not None]
        protocol = self.protocol.upper() if self.protocol else None
        if protocol is None:
            if not told_tls and not told_sasl:
                return {}
            protocol = "SASL_SSL" if told_sasl else "SSL"
        if protocol not in PROTOCOLS:
            raise UsageError(f"There is no security protocol {protocol!r}.", f"Use {', '.join(PROTOCOLS)}.")
        if told_tls and not protocol.endswith("SSL"):
            raise UsageError(f"{told_tls[0]} does not go with {protocol}.", "Use SSL or SASL_SSL.")
        if told_sasl and not protocol.startswith("SASL_"):
            raise UsageError(f"{told_sasl[0]} does not go with {protocol}.", "Use SASL_SSL.")
        client: dict[str, Any] = {"security_protocol": protocol}
        if protocol.endswith("SSL"):
            client |= self._tls()
        if protocol.startswith("SASL_"):
            client |= self._sasl()
        return client

    def _tls(self) -> dict[str, Any]:
        if (self.cert is None) is not (self.key is None):
            raise UsageError("A client certificate needs its key.", "Give both --ssl-cert and --ssl-key.")
        names = {"ssl_cafile": self.ca, "ssl_certfile": self.cert, "ssl_keyfile": self.key}
        for path in names.values():
            if path is not None and not path.is_file():
                raise UsageError(f"There is no file {path}.", "Correct the --ssl- options.")
        client: dict[str, Any] = {name: str(path) for name, path in names.items() if path is not None}
        password = _secret(self.key_password_file, KEY_PASSWORD_VARIABLE)
        if password is not None and self.key is not None:
            client["ssl_password"] = password
        return client

    def _sasl(self) -> dict[str, Any]:
        mechanism = (self.mechanism or "").upper()
        if mechanism not in MECHANISMS:
            said = f"no SASL mechanism {mechanism!r}" if mechanism else "no --sasl-mechanism"
            raise UsageError(f"There is {said}.", f"Use {', '.join(MECHANISMS)}.")
        password = _secret(self.password_file, PASSWORD_VARIABLE)
        if not self.username or password is None:
            raise UsageError(
                f"{mechanism} needs a user and a password.",
                f"Give --sasl-username, and --sasl-password-file or {PASSWORD_VARIABLE}.",
            )
        return {
            "sasl_mechanism": mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": password,
        }


def _secret(path: Path | None, name: str) -> str | None:
    """The first line of a file, else what the environment has under `name`."""
    if path is None:
        return os.environ.get(name) or None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SECRET_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"The secret in {path} cannot be read.", "Correct the file or its mode.") from None
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret or "\n" in secret or len(text) > MAX_SECRET_BYTES:
        raise UsageError(f"{path} does not hold one line with a secret.", "Write the secret alone into it.")
    return secret
