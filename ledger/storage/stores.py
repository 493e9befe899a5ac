"""From the address of a ledger to the store that holds it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ledger.errors import UsageError
from ledger.storage.local_store import LocalStore
from ledger.storage.store import Store

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_ACCEPTED = "Give a folder, file:///folder or s3://bucket/prefix."


def open_store(url: str) -> Store:
    """The store at a folder path, a `file://` URL or `s3://bucket/prefix`.

    Nothing is read or made yet: whether a ledger is there shows when it is used.

    Raises:
        UsageError: the address is empty, malformed, or of a scheme that no store serves.
    """
    if not url or "\0" in url:
        raise UsageError("The address of the ledger is empty or not text.", _ACCEPTED)
    match = _SCHEME.match(url)
    if match is None:
        if url.lower().startswith(("s3:", "file:")):
            raise UsageError(f"{url!r} lacks the // after its scheme.", _ACCEPTED)
        return LocalStore(Path(url))
    scheme = match[1].lower()
    if scheme == "s3":
        from ledger.storage.object_store import ObjectStore  # noqa: PLC0415 - folders need no client

        return ObjectStore(url)
    if scheme == "file":
        return LocalStore(_folder(url))
    raise UsageError(f"No store serves {scheme}:// addresses.", _ACCEPTED)


def local_folder(url: str) -> Path | None:
    """The folder of a path or a `file://` URL; None for an address of another scheme. Raises UsageError."""
    if url.startswith("file://"):
        return _folder(url)
    return None if "://" in url else Path(url)


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{url!r} names a folder on another machine.", _ACCEPTED)
    if parts.query or parts.fragment:
        raise UsageError(
            f"{url!r} has a query or a fragment.", "Write ? and # in a folder's name as %3F and %23."
        )
    path = unquote(parts.path)
    if not path.startswith("/") or "\0" in path:
        raise UsageError(f"{url!r} names no folder.", _ACCEPTED)
    return Path(path)
