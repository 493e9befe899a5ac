"""How a verification reads: what a local folder refuses to hand over is a finding, not an error."""

from __future__ import annotations

from ledger.errors import OutsideError, UsageError
from ledger.log.protocol import CHECKPOINT
from ledger.storage.store import Store
from ledger.verify.copies import Read
from ledger.verify.findings import Finding, damage


def forgiving_read(store: Store, unreadable: dict[str, Finding]) -> Read:
    """Reading that reports what a local folder refuses to hand over, a pipe or a link in a file's place.

    A remote store that refuses is not an answer about the ledger, and its error goes on.
    """
    local = _is_local(store)

    def read(path: str) -> bytes | None:
        try:
            return store.read(path)
        except UsageError:
            return None
        except OutsideError as error:
            if not local:
                raise
            unreadable.setdefault(path, damage("unreadable", path, error.message))
            return None

    return read


def _is_local(store: Store) -> bool:
    try:
        return store.local_path(CHECKPOINT) is not None
    except OutsideError:
        return True
