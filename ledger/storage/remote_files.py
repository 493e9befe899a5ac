"""A remote ledger's committed files as the query engine sees them: sizes from the log, bytes by ranges.

What a filter rules out by its date or statistics is never fetched. The engine may read the files that it was
given and no others; their content is checked by `verify`, as that of local files is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from ledger.errors import DamageError, LedgerError
from ledger.format.state import LiveFile
from ledger.storage.store import Store

PROTOCOL: Final = "ledger"
READ_AHEAD_BYTES: Final = 262_144
_NEVER_CHANGED: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""A committed file is written once, so any time will do as that of its last change."""


def remote_address(path: str) -> str:
    """What the engine calls a file of the ledger."""
    return f"{PROTOCOL}://{path}"


class RemoteFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The given files of one ledger, read-only."""

    protocol = PROTOCOL
    cachable = False

    def __init__(self, store: Store, files: Iterable[LiveFile]) -> None:
        super().__init__()
        self._store = store
        self._sizes = {file.path: file.bytes for file in files}
        self._failure: LedgerError | None = None

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and size. Raises FileNotFoundError for a file that was not given."""
        name = self._strip_protocol(path)
        if name not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": name, "size": self._sizes[name], "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The file itself: nothing is looked for."""
        name = self._strip_protocol(path)
        return [name] if name in self._sizes else []

    def created(self, path: str) -> datetime:
        """When it was written."""
        return _NEVER_CHANGED

    def modified(self, path: str) -> datetime:
        """When it was last changed."""
        return _NEVER_CHANGED

    def fetch(self, path: str, start: int, end: int) -> bytes:
        """Bytes [start, end) of a given file. Raises DamageError where they are not there."""
        try:
            data = self._store.read_range(path, start, end)
            if data is None or len(data) != end - start:
                raise DamageError(
                    f"{path} is missing or too short, though the log names it.",
                    "`decision-ledger verify` names all that is damaged; restore it from a copy.",
                )
        except LedgerError as error:
            self._failure = error
            raise
        return data

    def take_failure(self) -> LedgerError | None:
        """Why the last fetch failed, once: the engine tells it in words of its own."""
        failure, self._failure = self._failure, None
        return failure

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **_: Any) -> _RemoteFile:
        name = self._strip_protocol(path)
        return _RemoteFile(
            self,
            name,
            mode,
            block_size or READ_AHEAD_BYTES,
            cache_type="readahead",
            size=self.info(name)["size"],
        )


class _RemoteFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    def _fetch_range(self, start: int, end: int) -> bytes:
        files: RemoteFiles = self.fs
        return files.fetch(self.path, start, end)
