"""Blocks of bytes to chunks of lines: vectorised, and with the hash of everything before each line."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.chunk import Chunk
from ledger.manifest import OffsetKey

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK_ROWS: Final = 50_000
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D


class LineSplitter:
    """Cuts the text of one key into lines from `offset` on, after `read_bytes` bytes that `digest` took.

    A line ends with LF or CR LF; neither is part of the value. One longer than `message_bytes` is
    given as its first `message_bytes` + 1 bytes in a chunk of its own, with its true size.
    """

    def __init__(
        self, key: OffsetKey, offset: int, read_bytes: int, digest: _Hash, message_bytes: int
    ) -> None:
        self.key = key
        self.offset = offset
        self.read_bytes = read_bytes
        self.digest = digest
        self._message_bytes = message_bytes
        self._carry = b""
        self._long: _LongLine | None = None

    @property
    def pending(self) -> bool:
        """Whether the beginning of a line is held."""
        return bool(self._carry) or self._long is not None

    def skip(self, ending: bytes) -> None:
        """Take the line end of a line that was given before without it."""
        self.digest.update(ending)
        self.read_bytes += len(ending)

    def feed(self, block: bytes) -> list[Chunk]:
        """The lines that `block` completes, in chunks of at most CHUNK_ROWS."""
        chunks: list[Chunk] = []
        if self._long is not None:
            end = block.find(b"\n")
            if end < 0:
                self._long.add(block, self.digest)
                return chunks
            self._long.add(block[:end], self.digest)
            chunks.append(self._end_long(b"\n"))
            block = block[end + 1 :]
        data = self._carry + block if self._carry else block
        if not data:
            return chunks
        array = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(array == _NEWLINE)
        tail = int(ends[-1]) + 1 if len(ends) else 0
        if len(ends):
            chunks += self._complete(data, array, ends)
        self._carry = data[tail:]
        # Two more bytes than are kept: a line of just the limit may still await its line end.
        if len(self._carry) > self._message_bytes + 2:
            self._begin_long(self._carry)
            self._carry = b""
        return chunks

    def finish(self) -> list[Chunk]:
        """The last line, which has no line end."""
        if self._long is not None:
            return [self._end_long(b"")]
        if not self._carry:
            return []
        data, self._carry = self._carry, b""
        if len(data) > self._message_bytes:
            self._begin_long(data)
            return [self._end_long(b"")]
        starts = np.zeros(1, np.int64)
        return [self._chunk(data, starts, starts + len(data), starts + len(data))]

    def _complete(
        self, data: bytes, array: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]
    ) -> list[Chunk]:
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1] + 1
        stops = ends - ((ends > starts) & (array[ends - 1] == _RETURN))
        chunks: list[Chunk] = []
        done = 0
        for long in [*np.flatnonzero(stops - starts > self._message_bytes).tolist(), len(ends)]:
            for begin in range(done, long, CHUNK_ROWS):
                rows = slice(begin, min(begin + CHUNK_ROWS, long))
                chunks.append(self._chunk(data, starts[rows], stops[rows], ends[rows] + 1))
            if long < len(ends):
                self._begin_long(data[int(starts[long]) : int(ends[long])])
                chunks.append(self._end_long(b"\n"))
            done = long + 1
        return chunks

    def _chunk(
        self,
        data: bytes,
        starts: npt.NDArray[np.int64],
        stops: npt.NDArray[np.int64],
        nexts: npt.NDArray[np.int64],
    ) -> Chunk:
        """Lines [starts, stops) of `data`; `nexts` is where each one's line end ends."""
        rows, first = len(starts), int(starts[0])
        raw = data[first : int(nexts[-1])]
        # A line holds no LF, so taking line ends out leaves the values side by side, as Arrow wants them.
        text = raw.replace(b"\r\n", b"\n") if np.any(nexts - stops > 1) else raw
        text = text.replace(b"\n", b"")
        places = np.zeros(rows + 1, np.int64)
        np.cumsum(stops - starts, out=places[1:])
        values = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), rows, [None, pa.py_buffer(places), pa.py_buffer(text)]
        )
        before, before_bytes, edges = self.digest.copy(), self.read_bytes, starts - first
        self.digest.update(raw)
        self.read_bytes += len(raw)
        after = (self.read_bytes, self.digest.hexdigest())

        def prefix_at(messages: int) -> tuple[int, str]:
            if messages == rows:
                return after
            edge = int(edges[messages])
            digest = before.copy()
            digest.update(memoryview(raw)[:edge])
            return before_bytes + edge, digest.hexdigest()

        offset, self.offset = self.offset, self.offset + rows
        return Chunk(
            self.key, offset, self.offset, np.arange(offset, self.offset, dtype=np.int64), values,
            read_bytes=after[0], prefix=after[1], prefix_at=prefix_at,
        )  # fmt: skip

    def _begin_long(self, data: bytes) -> None:
        self._long = _LongLine(data[: self._message_bytes + 1], self.digest.copy())
        self._long.add(data, self.digest)

    def _end_long(self, ending: bytes) -> Chunk:
        line, self._long = self._long, None
        assert line is not None  # only called while one is open
        before = (self.read_bytes, line.before.hexdigest())
        self.digest.update(ending)
        self.read_bytes += line.size + len(ending)
        after = (self.read_bytes, self.digest.hexdigest())
        size = line.size - (line.last == _RETURN and bool(ending))
        offset, self.offset = self.offset, self.offset + 1
        return Chunk(
            self.key, offset, self.offset, np.array([offset], np.int64),
            pa.array([line.beginning[:size]], pa.large_binary()),
            read_bytes=after[0], prefix=after[1], truncated={0: size},
            prefix_at=lambda messages: after if messages else before,
        )  # fmt: skip


class _LongLine:
    """A line of which only the beginning is kept."""

    def __init__(self, beginning: bytes, before: _Hash) -> None:
        self.beginning = beginning
        self.before = before
        self.size = 0
        self.last = 0

    def add(self, data: bytes, digest: _Hash) -> None:
        digest.update(data)
        self.size += len(data)
        if data:
            self.last = data[-1]


def empty_digest() -> _Hash:
    """SHA-256 of nothing, to go on from."""
    return hashlib.sha256()
