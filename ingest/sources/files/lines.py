"""Blocks of bytes to chunks of lines: vectorised, and with the hash of everything before each line."""

from __future__ import annotations

import hashlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources.files.decompress import ByteRun
from ledger.format.manifest import OffsetKey

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK_ROWS: Final = 50_000
CACHED_BYTES: Final = 262_144
"""Worked on at a time: small enough to stay in the processor's cache."""
_NEWLINE: Final = 0x0A
_RETURN: Final = 0x0D
_WHITE: Final = np.isin(np.arange(256), np.frombuffer(b" \t\r\n\x0b\x0c", np.uint8))
"""What makes a line blank, by byte."""


class LineSplitter:
    """Cuts the text of one key into lines from `offset` on, after `read_bytes` bytes that `digest` took.

    A line ends with LF or CR LF; neither is part of the value. A blank line is no message: its number is
    skipped. A line longer than `message_bytes` is
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

    def skip(self, run: ByteRun) -> None:
        """Take bytes that were sealed before: nothing is given for them."""
        self.digest.update(run)
        self.read_bytes += len(run)

    def feed(self, block: ByteRun) -> list[Chunk]:
        """The lines that `block` completes, in chunks of at most CHUNK_ROWS; `block` is not kept."""
        chunks: list[Chunk] = []
        if self._long is not None:
            block = bytes(block)
            end = block.find(b"\n")
            if end < 0:
                self._long.add(block, self.digest)
                return chunks
            self._long.add(block[:end], self.digest)
            chunks.append(self._end_long(b"\n"))
            block = block[end + 1 :]
        data = _joined(self._carry, block)
        ends = _line_feeds(data)
        tail = int(ends[-1]) + 1 if len(ends) else 0
        if len(ends):
            chunks += self._complete(data, ends)
        self._carry = data[tail:].tobytes()
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
        text = data[self._mark(data) :]
        edges, places = (np.array([0, len(one)], np.int64) for one in (data, text))
        kept = np.arange(1 if text.strip() else 0)
        return [
            self._chunk(np.frombuffer(data, np.uint8), edges, pa.py_buffer(text), places, kept, plain=False)
        ]

    def _mark(self, beginning: bytes) -> int:
        """How many bytes of a byte-order mark begin the text, of which it is no part."""
        return len(BOM_UTF8) if self.read_bytes == 0 and beginning.startswith(BOM_UTF8) else 0

    def _complete(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> list[Chunk]:
        starts = np.empty_like(ends)
        starts[0], starts[1:] = 0, ends[:-1] + 1
        stops = ends - ((ends > starts) & (data[ends - 1] == _RETURN))
        edges = np.append(starts, ends[-1] + 1)
        starts[0] += (mark := self._mark(data[: len(BOM_UTF8)].tobytes()))
        lengths = stops - starts
        returns = bool(np.any(stops < ends))
        text = _without_line_ends(data[mark : int(ends[-1]) + 1], returns=returns)
        places = np.zeros(len(ends) + 1, np.int64)
        np.cumsum(lengths, out=places[1:])
        kept = np.flatnonzero(~_blank(data, starts, stops) | (lengths > self._message_bytes))
        chunks: list[Chunk] = []
        done = 0
        for long in [*kept[lengths[kept] > self._message_bytes].tolist(), len(ends)]:
            some = kept[np.searchsorted(kept, done) : np.searchsorted(kept, long)] - done
            lines = slice(done, long + 1)
            chunks += self._chunks(data, edges[lines], text, places[lines], some, plain=not (returns or mark))
            if long < len(ends):
                self._begin_long(data[int(edges[long]) : int(ends[long])].tobytes())
                chunks.append(self._end_long(b"\n"))
            done = long + 1
        return chunks

    def _chunks(
        self,
        data: npt.NDArray[np.uint8],
        edges: npt.NDArray[np.int64],
        text: pa.Buffer,
        places: npt.NDArray[np.int64],
        kept: npt.NDArray[np.int64],
        *,
        plain: bool,
    ) -> Iterator[Chunk]:
        """As `_chunk`, with at most CHUNK_ROWS messages each: any number of blank lines is one chunk."""
        first = 0
        lines = len(places) - 1
        while first < lines:
            some = kept[:CHUNK_ROWS]
            last = int(kept[CHUNK_ROWS]) if len(kept) > CHUNK_ROWS else lines
            rows = slice(first, last + 1)
            yield self._chunk(data, edges[rows], text, places[rows], some - first, plain=plain)
            first, kept = last, kept[CHUNK_ROWS:]

    def _chunk(
        self,
        data: npt.NDArray[np.uint8],
        edges: npt.NDArray[np.int64],
        text: pa.Buffer,
        places: npt.NDArray[np.int64],
        kept: npt.NDArray[np.int64],
        *,
        plain: bool,
    ) -> Chunk:
        """Lines that lie with line ends between `edges` of `data`, without between `places` of `text`.

        The lines `kept` are messages; the others are blank, and skipped. `plain`: each ends with LF alone,
        and nothing stands before the first. `data` is not kept.
        """
        lines = len(places) - 1
        values = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), lines, [None, pa.py_buffer(places), text]
        )
        if len(kept) < lines:
            values = values.take(pa.array(kept))
        # Arrays are buffers; they are typed so from Python 3.12 on.
        raw = memoryview(data[int(edges[0]) : int(edges[-1])])  # type: ignore[arg-type]
        before, before_bytes = self.digest.copy(), self.read_bytes
        self.digest.update(raw)
        self.read_bytes += len(raw)
        after = (self.read_bytes, self.digest.hexdigest())
        # Batches are rarely cut, so what was read is kept only where the messages do not say it.
        read = None if plain and len(kept) == lines else bytes(raw)

        def prefix_at(messages: int) -> tuple[int, str]:
            if messages == len(kept):
                return after
            # Before the first message too: the blank lines that stand before it are sealed with it.
            size = int(edges[kept[messages]] - edges[0]) if messages else 0
            digest = before.copy()
            if read is not None:
                digest.update(read[:size])
            else:
                for value in values.slice(0, messages):
                    digest.update(value.as_buffer())
                    digest.update(b"\n")
            return before_bytes + size, digest.hexdigest()

        offset, self.offset = self.offset, self.offset + lines
        return Chunk(
            self.key, offset, self.offset, offset + kept, values, skipped=_gaps(offset, kept, lines),
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
            digests={0: line.digest(bool(ending))},
        )  # fmt: skip


def _blank(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which lines hold nothing but white space."""
    blank: npt.NDArray[np.bool_] = starts == stops
    spaced = np.flatnonzero(~blank & _WHITE[data[starts]])
    if len(spaced):
        solid = np.concatenate([[0], np.cumsum(~_WHITE[data])])
        blank[spaced] = solid[stops[spaced]] == solid[starts[spaced]]
    return blank


def _gaps(offset: int, kept: npt.NDArray[np.int64], lines: int) -> list[tuple[int, int]]:
    """The half-open ranges of offsets in [offset, offset + lines) that are not those of `kept`."""
    if len(kept) == lines:
        return []
    begins = np.concatenate([[0], kept + 1])
    ends = np.append(kept, lines)
    some = begins < ends
    return list(zip((begins[some] + offset).tolist(), (ends[some] + offset).tolist(), strict=True))


def _joined(carry: bytes, block: ByteRun) -> npt.NDArray[np.uint8]:
    # Let go of with the block, so that the next one is given the same memory (`ingest.freed_memory`).
    data = np.empty(len(carry) + len(block), np.uint8)
    data[: len(carry)] = np.frombuffer(carry, np.uint8)
    data[len(carry) :] = np.frombuffer(block, np.uint8)
    return data


def _line_feeds(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    starts = range(0, len(data), CACHED_BYTES)
    found = [np.flatnonzero(data[at : at + CACHED_BYTES] == _NEWLINE) + at for at in starts]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _without_line_ends(data: npt.NDArray[np.uint8], *, returns: bool) -> pa.Buffer:
    """The lines side by side, as Arrow wants them; `returns` says that some end with CR LF.

    A line holds no LF, so taking out every LF and the CR before it leaves just the lines.
    """
    buffer = pa.allocate_buffer(len(data))
    text = np.frombuffer(buffer, np.uint8)
    step = len(data) if returns else CACHED_BYTES
    size = 0
    for at in range(0, len(data), step):
        piece = data[at : at + step].tobytes()
        if returns:
            piece = piece.replace(b"\r\n", b"\n")
        piece = piece.replace(b"\n", b"")
        text[size : size + len(piece)] = np.frombuffer(piece, np.uint8)
        size += len(piece)
    return buffer.slice(0, size)


class _LongLine:
    """A line of which only the beginning is kept."""

    def __init__(self, beginning: bytes, before: _Hash) -> None:
        self.beginning = beginning
        self.before = before
        self.size = 0
        self.last = 0
        self._line = hashlib.sha256()

    def add(self, data: bytes, digest: _Hash) -> None:
        digest.update(data)
        self.size += len(data)
        if not data:
            return
        if self.last == _RETURN:
            self._line.update(b"\r")
        # A last CR is held back: with the LF that may follow it is the line's end and no part of it.
        self.last = data[-1]
        self._line.update(data[:-1] if self.last == _RETURN else data)

    def digest(self, ended: bool) -> str:
        """Hex SHA-256 of the line; `ended` says that an LF followed."""
        if self.last == _RETURN and not ended:
            self._line.update(b"\r")
        return self._line.hexdigest()


def empty_digest() -> _Hash:
    """SHA-256 of nothing, to go on from."""
    return hashlib.sha256()
