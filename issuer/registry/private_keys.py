"""Private keys of workloads and people, as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from joserfc.jwk import OKPKey

from issuer.tokens.keys import BadKey, read_key
from ledger.errors import UsageError

MAX_BYTES: Final = 4_096


def read_private_key(path: Path) -> OKPKey:
    """The private key in a file.

    Raises:
        UsageError: there is none, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise UsageError(f"Others may read the private key {path}.", f"Run `chmod 600 {path}`.")
        with path.open("rb") as file:
            members = json.loads(file.read(MAX_BYTES))
        key = read_key(members)
    except FileNotFoundError:
        raise UsageError(f"There is no private key {path}.", "Name another, or make one.") from None
    except (ValueError, AttributeError, BadKey):
        raise UsageError(f"{path} is no Ed25519 key.", "Name a JWK as `issuer init` writes it.") from None
    if not key.is_private:
        raise UsageError(f"{path} is a public key.", "Name the private one.")
    return key
