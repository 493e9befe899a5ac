"""Making a ledger and its key, and finishing one whose making was cut short.

What is made last, `ledger.json`, tells a whole ledger from one that was not finished. Nothing that
holds a ledger or a key is ever written over.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Final

from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.format.manifest import Init, parse_entry
from ledger.format.tiles import decode_bundle
from ledger.log.commit_log import Log, first_bundle
from ledger.log.protocol import CHECKPOINT
from ledger.log.retention_classes import Classes
from ledger.log.signing import SigningKey, create_key, is_there, sync_folder
from ledger.storage.store import Store
from ledger.writer import create_ledger, ledger_json

LEDGER_JSON: Final = "ledger.json"
_LEFT_OVER: Final = re.compile(r"[0-9a-f]{32}\.tmp|[a-z.]+\.lock")
"""What a store leaves where it was stopped between two steps."""


def found_ledger(
    store: Store, folder: Path | None, key_path: Path, origin: str, classes: Classes | None = None
) -> tuple[SigningKey, bool]:
    """The ledger's key, and whether a ledger was there that only had to be finished.

    `folder` is that of a local ledger, `classes` its retention classes where they are not the default.
    Raises UsageError where another ledger, other files or another ledger's key are in the way.
    """
    entry = _first_entry(store)
    if store.read(LEDGER_JSON) is not None or (entry is None and store.read(CHECKPOINT) is not None):
        raise _there_already(store)
    if entry is not None:
        return _finished(store, key_path, origin, entry), True
    if folder is not None and folder.is_dir() and _holds_other_files(folder):
        raise UsageError(f"{folder} holds other files, and no ledger.", "Choose an empty or a new folder.")
    made_key = not is_there(key_path)
    made_folder = folder is not None and not folder.exists()
    key = _key_of(key_path, origin)
    try:
        create_ledger(store, key, retention=classes)
    except LedgerError:
        if folder is not None and _first_entry(store) is None:
            _take_back(folder if made_folder else None, key_path if made_key else None)
        raise
    return key, False


def _take_back(folder: Path | None, key_path: Path | None) -> None:
    """Remove what an `init` made that failed before its first entry, as far as it can be removed."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    if key_path is not None:
        key_path.unlink(missing_ok=True)


def _finished(store: Store, key_path: Path, origin: str, entry: bytes) -> SigningKey:
    init = parse_entry(entry)
    if not isinstance(init, Init) or init.origin != origin or not is_there(key_path):
        raise _there_already(store)
    key = SigningKey(key_path)
    if key.signer.vkey != init.vkey:
        raise _there_already(store)
    Log(store, key).refresh()
    store.create(LEDGER_JSON, ledger_json(entry, init.vkey))
    return key


def _key_of(path: Path, origin: str) -> SigningKey:
    if not is_there(path):
        _make_key(path, origin)
    key = SigningKey(path)
    if key.signer.name != origin:
        raise UsageError(
            f"The key at {path} belongs to {key.signer.name}, not to {origin}.", "Name another with --key."
        )
    return key


def _make_key(path: Path, origin: str) -> None:
    """A new key that is there whole or not at all; an empty file is what a crash left of one."""
    whole = path.with_name(f"{path.name}.{secrets.token_hex(16)}.tmp")
    create_key(whole, origin)
    try:
        if path.exists() and path.stat().st_size == 0:
            path.unlink()
        os.link(whole, path)
    except FileExistsError:
        raise UsageError(f"There is a key at {path} already.", "Run this again to use it.") from None
    except OSError as error:
        raise OutsideError(f"The key cannot be written to {path}: {error.strerror}.") from None
    finally:
        whole.unlink()
    sync_folder(path.parent)


def _first_entry(store: Store) -> bytes | None:
    data = first_bundle(store)
    return None if data is None else decode_bundle(data)[0]


def _holds_other_files(folder: Path) -> bool:
    return any(not one.is_dir() and not _LEFT_OVER.fullmatch(one.name) for one in folder.rglob("*"))


def _there_already(store: Store) -> UsageError:
    return UsageError(f"There is a ledger at {store.url} already.", "Use it, or choose another place.")
