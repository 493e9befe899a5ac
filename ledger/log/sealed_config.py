"""What a `config` entry refers to, read back and checked."""

from __future__ import annotations

import hashlib

from ledger.errors import DamageError
from ledger.storage.store import Store


def config_data(store: Store, digest: str, what: str) -> bytes:
    """The file of a sealed configuration; `what` is what an error calls it.

    Raises:
        DamageError: it is gone, or another one.
    """
    data = store.read(f"config/{digest}")
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise DamageError(
            f"config/{digest}, {what}, is missing or was changed.",
            "`decision-ledger verify` names all that is damaged; restore it from a copy.",
        )
    return data
