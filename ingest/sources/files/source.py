"""Files as a source: JSON Lines in plain, gzip or zstd form, folders, globs and standard input.

The stream of a file is named after its first line (`file:` and the first 32 hex digits of its
SHA-256) or by `--as`, so a file may move and grow; an offset is a line number of the decompressed
text. Before a file goes on, what the ledger sealed of it is read again and must be the same
bytes. What makes one input unusable is raised when all that was read is sealed, and, unless
following, when the other inputs are read too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

import structlog

from ingest.chunk import Chunk
from ingest.decoded import Limits
from ingest.sources import Ended, Polled
from ingest.sources.files.decompress import Bounds
from ingest.sources.files.paths import STDIN, expand
from ingest.sources.files.reader import AS_REMEDY, FilePosition, FileReader, Readable
from ledger.errors import LedgerError, UsageError
from ledger.format.manifest import OffsetKey

__all__ = ["FilePosition", "FileSource"]

MAX_FOLLOWED_FILES: Final = 500
"""Each is held open."""
LOOK_SECONDS: Final = 0.2
"""How often followed files are looked at, at most."""


log = structlog.get_logger()


class FileSource:
    """Chunks of lines of the named inputs, in the order given; see `ingest.sources.Source`.

    `position` gives what the ledger has sealed of a key. `wait` sleeps between two looks at
    followed files.
    """

    def __init__(
        self,
        paths: Sequence[str],
        position: Callable[[OffsetKey], FilePosition | None],
        *,
        follow: bool = False,
        name: str | None = None,
        limits: Limits | None = None,
        bounds: Bounds | None = None,
        look_seconds: float = LOOK_SECONDS,
        wait: Callable[[float], None] = time.sleep,
        stdin: Readable | None = None,
    ) -> None:
        self._paths = list(paths)
        self._position = position
        self._follow = follow
        self._name = name
        self._message_bytes = (limits or Limits()).message_bytes
        self._bounds = bounds or Bounds()
        self._look_seconds = look_seconds
        self._wait = wait
        self._stdin = stdin
        self._inputs = expand(paths)
        self._check_count()
        self._waiting: deque[str] = deque(self._inputs)
        self._readers: list[FileReader] = []
        self._handed: dict[OffsetKey, tuple[str, FilePosition]] = {}
        self._paths_of: dict[OffsetKey, list[str]] = {}
        self._failures: list[LedgerError] = []
        self._all_sealed = False
        self._ended: dict[OffsetKey, float] = {}

    @property
    def finished(self) -> bool:
        """True when every input was read to its end and nothing is left to say about any."""
        endless = self._follow and self._paths != [STDIN]
        return not (endless or self._waiting or self._readers or self._failures)

    @property
    def keys(self) -> Collection[OffsetKey]:
        """The streams of the inputs that were opened so far."""
        return self._paths_of.keys()

    def poll(self, timeout: float) -> Polled:
        """The lines of about one block.

        Raises UsageError or OutsideError when an input cannot be used, after asking for all that was
        handed over to be sealed.
        """
        if self._failures and (self._follow or not (self._waiting or self._readers)):
            if self._all_sealed:
                raise self._first_failure()
            return Polled(flush=True)
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            chunks = self._follow_all() if self._follow else self._read_next(left)
            if chunks or self._failures or self.finished:
                return Polled(chunks)
            if self._follow:
                self._wait(min(left, self._look_seconds))
                return Polled()
            if left <= 0:
                return Polled()

    def flushed(self) -> None:
        """All that was handed over is sealed."""
        self._all_sealed = True

    def sealed(self, key: OffsetKey, offset: int) -> None:
        """Nothing is kept for what is sealed."""

    def rewind(self, key: OffsetKey, offset: int) -> None:
        """Read the inputs of `key` again, from what the ledger has sealed of them."""
        again = self._paths_of.pop(key, [])
        self._handed.pop(key, None)
        self._ended.pop(key, None)
        for reader in [reader for reader in self._readers if reader.key == key]:
            self._close(reader)
        if STDIN in again:
            self._fail(
                UsageError(
                    "Another writer sealed the same stream, and standard input cannot be read again.",
                    "Run the command again with the same input.",
                )
            )
        self._all_sealed = False
        self._waiting.extendleft(path for path in reversed(again) if path != STDIN)

    def lag(self) -> dict[OffsetKey, int]:
        """Lines not handed over yet, estimated from the bytes left in open files."""
        return {reader.key: reader.lines_left() for reader in self._readers if reader.key is not None}

    def ended(self) -> dict[OffsetKey, Ended]:
        """The streams that were handed over to the end of their file."""
        now = time.monotonic()
        return {
            key: Ended(self._handed[key][1].offset, now - seen)
            for key, seen in self._ended.items()
            if key in self._handed
        }

    def close(self) -> None:
        """Close every file."""
        for reader in list(self._readers):
            self._close(reader)
        self._waiting.clear()

    def _read_next(self, wait_seconds: float) -> list[Chunk]:
        if not self._readers and self._waiting:
            self._start(self._waiting.popleft())
        return self._step(self._readers[0], wait_seconds) if self._readers else []

    def _follow_all(self) -> list[Chunk]:
        if not self._waiting:
            known = {*self._inputs}
            fresh = [path for path in self._look() if path not in known]
            self._inputs += fresh
            self._waiting.extend(fresh)
            self._check_count()
        followed = {reader.id for reader in self._readers if reader.id is not None}
        for path in list(self._waiting):
            if path != STDIN and not Path(path).exists():
                continue  # between two files of a rotation
            self._waiting.remove(path)
            reader = self._start(path)
            if reader is not None and reader.id in followed:
                # The same file under a new name: its first reader finishes it, then this path gets its turn.
                self._inputs.remove(reader.path)
                self._close(reader)
        chunks: list[Chunk] = []
        for reader in list(self._readers):
            replaced = reader.replaced()
            given = self._step(reader, 0.0)
            chunks += given
            if replaced and not given and reader in self._readers:
                if reader.cut:
                    log.warning(
                        "a followed file was cut: lines that came after the last look are lost",
                        file=reader.path,
                    )
                self._close(reader)
                self._waiting.append(reader.path)
        return chunks

    def _look(self) -> list[str]:
        try:
            return expand([path for path in self._paths if path != STDIN]) if self._paths != [STDIN] else []
        except UsageError:
            # Between two files of a rotation there may be none.
            return []

    def _start(self, path: str) -> FileReader | None:
        try:
            reader = FileReader(
                path, self._place, name=self._name, follow=self._follow, message_bytes=self._message_bytes,
                bounds=self._bounds, stdin=self._stdin,
            )  # fmt: skip
        except UsageError as error:
            self._fail(error)
            return None
        self._readers.append(reader)
        return reader

    def _step(self, reader: FileReader, wait_seconds: float) -> list[Chunk]:
        known = reader.key
        try:
            chunks = reader.step(wait_seconds)
        except LedgerError as error:
            self._fail(self._explained(reader, error))
            self._close(reader)
            return []
        if reader.key is not None:
            if known is None:
                self._paths_of.setdefault(reader.key, []).append(reader.path)
            if reader.done or (self._follow and not chunks):
                self._ended[reader.key] = time.monotonic()
            else:
                self._ended.pop(reader.key, None)
            if chunks:
                last = chunks[-1]
                self._handed[reader.key] = (
                    reader.path, FilePosition(last.end, last.read_bytes or 0, last.prefix or ""),
                )  # fmt: skip
        if reader.done:
            self._close(reader)
        return chunks

    def _place(self, key: OffsetKey) -> FilePosition | None:
        for reader in self._readers:
            if reader.key == key and reader.splitter is not None:
                raise UsageError(
                    f"{reader.shown} and another input of this run begin with the same line.", AS_REMEDY
                )
        handed = self._handed.get(key)
        return handed[1] if handed is not None else self._position(key)

    def _explained(self, reader: FileReader, error: LedgerError) -> LedgerError:
        handed = self._handed.get(reader.key) if reader.key is not None else None
        if handed is None or handed[0] == reader.path or error.remedy != AS_REMEDY:
            return error
        return UsageError(f"{error.message} {handed[0]} was read under it in this run.", AS_REMEDY)

    def _fail(self, error: LedgerError) -> None:
        self._failures.append(error)
        self._all_sealed = False

    def _first_failure(self) -> LedgerError:
        first, others = self._failures[0], len(self._failures) - 1
        if others:
            first.message += f" (And {others} more of the inputs cannot be used.)"
            self._failures = [first]
        return first

    def _close(self, reader: FileReader) -> None:
        reader.close()
        self._readers.remove(reader)

    def _check_count(self) -> None:
        if self._follow and len(self._inputs) > MAX_FOLLOWED_FILES:
            raise UsageError(
                f"{len(self._inputs)} files are more than the {MAX_FOLLOWED_FILES} that can be followed.",
                "Follow fewer, or read them without --follow.",
            )
