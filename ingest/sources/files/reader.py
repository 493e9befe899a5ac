"""One input, from its first line to its end: finds its key, checks its sealed prefix, gives its lines."""

from __future__ import annotations

import hashlib
import json
import os
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedIOBase, RawIOBase
from typing import Final

import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources.files.decompress import Blocks, Bounds, ByteRun, DamagedStream
from ingest.sources.files.lines import LineSplitter, empty_digest
from ingest.sources.files.paths import STDIN
from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.format.manifest import FILE_PREFIX, OffsetKey

MAX_FIRST_LINE_BYTES: Final = 64 * 1024 * 1024
"""The first line names the stream and is held whole until it is complete."""
PIPE_BYTES: Final = 65_536
AS_REMEDY: Final = "Give this file its own stream with --as NAME, or restore the file that was read before."
_JSON_SUFFIXES: Final = (".json", ".json.gz", ".json.zst")


Readable = RawIOBase | BufferedIOBase


@dataclass(frozen=True, slots=True)
class FilePosition:
    """How far a file's stream is sealed: lines, decompressed bytes, and their SHA-256 in hex."""

    offset: int
    bytes: int
    prefix_hex: str


class FileReader:
    """Reads one input step by step; a step reads about one block and never waits for a pipe.

    `place` is asked once for the position of the key that the first line gives.
    """

    def __init__(
        self,
        path: str,
        place: Callable[[OffsetKey], FilePosition | None],
        *,
        name: str | None,
        follow: bool,
        message_bytes: int,
        bounds: Bounds,
        stdin: Readable | None,
    ) -> None:
        self.path = path
        self.key: OffsetKey | None = None
        self.splitter: LineSplitter | None = None
        self.done = False
        self.cut = False
        """Whether the file was cut and is written anew, as `replaced` saw it."""
        self._place = place
        self._name = name
        self._message_bytes = message_bytes
        self._last_look = not follow
        self._head = b""
        self._buffer = memoryview(b"")
        self._sealed: FilePosition | None = None
        self._after_taken = False
        self._file = stdin if path == STDIN and stdin is not None else _open(path)
        mode = _mode(self._file)
        self.regular = mode is not None and stat.S_ISREG(mode)
        # A pipe ends when its writers are gone, followed or not.
        self._poll = select.poll() if mode is not None and not self.regular else None
        if self._poll is not None:
            self._poll.register(self._file.fileno(), select.POLLIN)
        self._drained = False
        self._blocks = Blocks(self._read_raw, self._ended, bounds)
        self.id = _identity(self._file) if self.regular else None

    def step(self, wait_seconds: float = 0.0) -> list[Chunk]:
        """What the next block completes; [] where nothing is there now or more is needed.

        A pipe is waited for at most `wait_seconds`. Raises UsageError for what makes the input
        unusable, after everything readable before it was given.
        """
        if self._poll is not None and not self._poll.poll(wait_seconds * 1_000):
            return []
        try:
            block = self._blocks.read()
        except DamagedStream as error:
            raise UsageError(
                f"{self.shown} {error.reason}.", "What stood before it was read; restore it for the rest."
            ) from None
        except OSError as error:
            raise OutsideError(
                f"{self.shown} cannot be read: {error.strerror or error}.", "Check the disk, run it again."
            ) from error
        if block:
            return self._take(block)
        if self._ended():
            self.done = True
            return self._end()
        return []

    @property
    def shown(self) -> str:
        """What messages call this input."""
        return "Standard input" if self.path == STDIN else f"The file {self.path}"

    def replaced(self) -> bool:
        """Whether the path now leads to another file, or this one was cut: what comes is a new stream."""
        if not self.regular or self.path == STDIN:
            return False
        try:
            now = os.stat(self.path)  # noqa: PTH116 - the same call as for the open file, to compare
        except OSError:
            return False
        self.cut = (now.st_dev, now.st_ino) == self.id and now.st_size < self._blocks.raw_bytes
        return self.cut or (now.st_dev, now.st_ino) != self.id

    def lines_left(self) -> int:
        """About how many lines the file still holds, judged by those read so far."""
        if not self.regular or self.splitter is None or self.done:
            return 0
        left = max(0, os.fstat(self._file.fileno()).st_size - self._blocks.raw_bytes)
        if not self.splitter.offset or not left:
            return 0
        unfolded = left * self._blocks.output_bytes / max(1, self._blocks.raw_bytes)
        return max(1, round(unfolded * self.splitter.offset / max(1, self.splitter.read_bytes)))

    def close(self) -> None:
        """Close the file; standard input is left open."""
        if self.path != STDIN:
            self._file.close()

    def _ended(self) -> bool:
        """Whether no more will come than was read: only regular files grow."""
        if self._poll is not None:
            return self._drained
        return self._last_look or not self.regular

    def _read_raw(self, size: int) -> ByteRun:
        if self._poll is None:
            # One buffer for all blocks, and Arrow's, which is aligned: fresh or unaligned memory costs
            # several times what reading into it does.
            if len(self._buffer) < size:
                self._buffer = memoryview(pa.allocate_buffer(size))
            return self._buffer[: self._file.readinto(self._buffer[:size]) or 0]
        parts: list[bytes] = []
        have = 0
        while have < size and self._poll.poll(0):
            try:
                part = os.read(self._file.fileno(), min(PIPE_BYTES, size - have))
            except BlockingIOError:
                break
            if not part:
                self._drained = True
                break
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _take(self, block: ByteRun) -> list[Chunk]:
        if self.splitter is None:
            self._head += block
            if not self._find_key(self._head.find(b"\n")):
                return []
            block, self._head = self._head, b""
        return self._lines(block)

    def _end(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        if self.splitter is None:
            if not self._head:
                return []
            # One line without its line end is all there is.
            self._find_key(len(self._head))
            head, self._head = self._head, b""
            chunks = self._lines(head)
        return chunks + self._finish()

    def _lines(self, block: ByteRun) -> list[Chunk]:
        if self._sealed is not None:
            block = self._check_prefix(self._sealed, block)
        if self._after_taken:
            block = self._check_taken(block)
        assert self.splitter is not None  # set when the key was found
        return self.splitter.feed(block) if block else []

    def _finish(self) -> list[Chunk]:
        if self._sealed is not None:
            raise self._changed("it ends before what was sealed of it")
        if self._head:
            raise self._grown()
        assert self.splitter is not None  # set when the key was found
        return self.splitter.finish()

    def _find_key(self, end: int) -> bool:
        if end < 0:
            if len(self._head) > MAX_FIRST_LINE_BYTES:
                raise UsageError(
                    f"The first line of {self.path} is longer than {MAX_FIRST_LINE_BYTES:,} bytes.",
                    "Convert it to JSON Lines: one event on each line.",
                )
            return False
        line = self._head[:end]
        ended = end < len(self._head)
        if ended and line.endswith(b"\r"):
            line = line[:-1]
        if self.path.endswith(_JSON_SUFFIXES):
            self._check_one_value_a_line(line)
        topic = self._name if self._name is not None else hashlib.sha256(line).hexdigest()[:32]
        self.key = OffsetKey(FILE_PREFIX + topic)
        position = self._place(self.key)
        self.splitter = LineSplitter(
            self.key, position.offset if position else 0, 0, empty_digest(), self._message_bytes
        )
        self._sealed = position if position is not None and position.bytes else None
        return True

    def _check_one_value_a_line(self, first: bytes) -> None:
        whole = self._head[: self._head.rfind(b"\n") + 1]
        line = first.strip() or next((part.strip() for part in whole.split(b"\n") if part.strip()), b"")
        if not line or len(line) > self._message_bytes:
            return
        try:
            json.loads(line.decode())
        except json.JSONDecodeError as error:
            # Cut off at the line's end, so the value goes on below: it is not one a line.
            if error.pos >= len(error.doc) and self._head.strip() != line:
                wanted = "'.[]'" if line.startswith(b"[") else "."
                raise UsageError(
                    f"The file {self.path} is pretty-printed: its first line is no complete JSON value.",
                    f"Convert it to one event a line, for example with: jq -c {wanted} {self.path}",
                ) from None
        except (ValueError, RecursionError):
            return

    def _check_prefix(self, sealed: FilePosition, block: ByteRun) -> ByteRun:
        """Hash up to the sealed position; gives what lies behind it."""
        splitter = self.splitter
        assert splitter is not None  # set when the key was found
        part = block[: sealed.bytes - splitter.read_bytes]
        splitter.skip(part)
        if splitter.read_bytes < sealed.bytes:
            return b""
        if splitter.digest.hexdigest() != sealed.prefix_hex:
            raise self._changed("its beginning is not what was sealed under its first line")
        self._sealed = None
        self._after_taken = bytes(part[-1:]) != b"\n"
        return block[len(part) :]

    def _check_taken(self, block: ByteRun) -> ByteRun:
        """What was sealed ends without a newline: only its line end may follow before the next line."""
        assert self.splitter is not None  # set when the key was found
        behind, self._head = self._head + block, b""
        for ending in (b"\n", b"\r\n"):
            if behind.startswith(ending):
                self.splitter.skip(ending)
                self._after_taken = False
                return behind[len(ending) :]
        if behind and not b"\r\n".startswith(behind):
            raise self._grown()
        self._head = behind
        return b""

    def _changed(self, how: str) -> LedgerError:
        return UsageError(
            f"{self.shown} has changed, or another one begins with the same line: {how}.", AS_REMEDY
        )

    def _grown(self) -> LedgerError:
        return UsageError(
            f"The last line of {self.path} was sealed without its line end and has grown since.",
            "Seal growing files with --follow; read this one anew with --as NAME.",
        )


def _open(path: str) -> Readable:
    try:
        if path == STDIN:
            return os.fdopen(0, "rb", buffering=0, closefd=False)
        # Opening a pipe must not wait for a writer: polling does.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        raise UsageError(
            f"The file {path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error


def _mode(file: Readable) -> int | None:
    """The file's mode, or None for one that lives in memory."""
    try:
        return os.fstat(file.fileno()).st_mode
    except OSError:
        return None


def _identity(file: Readable) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return (status.st_dev, status.st_ino)
