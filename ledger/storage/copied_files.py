"""Committed files on this machine's disk: in place for a local ledger, else copied here once."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Final

from ledger.errors import DamageError
from ledger.format.state import LiveFile
from ledger.storage.local_store import LocalStore
from ledger.storage.store import Store, committed_data
from ledger.storage.user_folders import cache_folder

CACHE_BYTES: Final = 16 * 1024**3
"""Copies beyond this are dropped, the least recently used first, but for those just used."""
IN_USE_SECONDS: Final = 600.0


class LocalFiles:
    """Copies of a remote ledger's files, checked against their sealed hash when they are made."""

    def __init__(self, store: Store, folder: Path | None = None) -> None:
        self.store = store
        self._folder = folder

    def path(self, file: LiveFile) -> Path:
        """Where `file` can be read on this machine. Raises DamageError where it is gone or changed."""
        if self.store.local_path(file.path) is not None:
            local = committed_data(self.store, file.path)
            assert isinstance(local, Path)  # the store said so
            return local
        folder = self._cache()
        copy = folder / file.path
        if not copy.is_file() or copy.stat().st_size != file.bytes:
            data = self.store.read(file.path)
            if data is None or hashlib.sha256(data).hexdigest() != file.sha256:
                raise DamageError(
                    f"{file.path} is not the file that the log names.", "Restore it from a copy."
                )
            self._make_room(folder, len(data))
            LocalStore(folder).create(file.path, data)
        os.utime(copy)
        return copy

    def _cache(self) -> Path:
        if self._folder is None:
            self._folder = cache_folder(self.store.url)
            self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def _make_room(self, folder: Path, wanted: int) -> None:
        files = sorted((path.stat().st_mtime, path) for path in folder.rglob("*.parquet"))
        used = sum(path.stat().st_size for _, path in files)
        for when, path in files:
            # Whoever uses a copy touches it: what is in use is never taken away, even beyond the bound.
            if used + wanted <= CACHE_BYTES or when > time.time() - IN_USE_SECONDS:
                return
            used -= path.stat().st_size
            path.unlink(missing_ok=True)
