"""Private keys of workloads and people, as files."""

from __future__ import annotations

from pathlib import Path

from joserfc.jwk import OKPKey

from issuer.tokens.keys import BadKey, read_key
from ledger.errors import UsageError
from ledger.settings.private_files import read_private_json


def read_private_key(path: Path) -> OKPKey:
    """The private key in a file.

    Raises:
        UsageError: there is none, or others may read it.
    """
    try:
        key = read_key(read_private_json(path))
    except FileNotFoundError:
        raise UsageError(f"There is no private key {path}.", "Name another, or make one.") from None
    except (ValueError, AttributeError, BadKey):
        raise UsageError(f"{path} is no Ed25519 key.", "Name a JWK as `issuer init` writes it.") from None
    if not key.is_private:
        raise UsageError(f"{path} is a public key.", "Name the private one.")
    return key
