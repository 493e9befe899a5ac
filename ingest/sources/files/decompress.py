"""Plain, gzip and zstd input as one stream of decompressed blocks; memory stays bounded whatever comes.

Which of them it is, the first bytes say and not the name. gzip may hold several members (RFC 1952,
section 2.2), zstd several and skippable frames (RFC 8878, section 3). What follows them, a cut end
and a broken middle raise `DamagedStream`, after everything readable before it was given.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard

BLOCK_BYTES: Final = 16 * 1024 * 1024
"""About what one `read` gives, and how much is read from the file at once."""
MAX_ZSTD_WINDOW_BYTES: Final = 128 * 1024 * 1024
"""What a frame may ask a reader to keep (what the zstd command line accepts by default)."""
ByteRun = bytes | memoryview

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE: Final = b"\x2a\x4d\x18"
MAGIC_BYTES: Final = 4
_ZSTD_FEED_BYTES: Final = 2_048
"""A block of four bytes may unfold to 128 KiB, so what is fed at once bounds what comes out."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far compressed input may unfold. The ratio counts once `ratio_from_bytes` came out."""

    output_bytes: int = 1 << 40
    ratio: int = 2_000
    ratio_from_bytes: int = 256 * 1024 * 1024


class DamagedStream(Exception):
    """The stream cannot be read further; `reason` completes "the file …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Decoder(Protocol):
    """Compressed bytes in, decompressed bytes out."""

    def decode(self, data: bytes) -> bytes:
        """What `data` gives, at most a few BLOCK_BYTES; keeps what it could not use yet in `rest`."""
        ...

    @property
    def rest(self) -> bytes:
        """Input not used yet: give it again before more of the file."""
        ...

    @property
    def between(self) -> bool:
        """Whether the input so far ends where a member or frame ends."""
        ...


def kind_of(magic: bytes) -> str:
    """`gzip`, `zstd` or `plain`, by the first MAGIC_BYTES of the content."""
    if magic[:2] == _GZIP:
        return "gzip"
    if magic[:4] == _ZSTD or (magic[1:4] == _ZSTD_SKIPPABLE and magic[0] & 0xF0 == 0x50):
        return "zstd"
    return "plain"


class Blocks:
    """Decompressed blocks of one input.

    `read_raw(n)` gives at most n bytes, none where none are there now; `ended()` then says whether none
    will ever come: a cut end is damage only then. What it gives may be overwritten by its next call.
    """

    def __init__(self, read_raw: Callable[[int], ByteRun], ended: Callable[[], bool], bounds: Bounds) -> None:
        self._read_raw = read_raw
        self._ended = ended
        self._bounds = bounds
        self._head = b""
        self._decoder: Decoder | None = None
        self.kind: str | None = None
        self.raw_bytes = 0
        self.output_bytes = 0
        self._damage: str | None = None

    def read(self) -> ByteRun:
        """The next block, empty where there is nothing (more) now; it holds until the next call.

        Raises DamagedStream once everything before the damage was given.
        """
        if self._damage is not None:
            raise DamagedStream(self._damage)
        if self.kind is None and not self._find_kind():
            return b""
        if self._decoder is None:
            return self._plain()
        return self._decoded(self._decoder)

    def _find_kind(self) -> bool:
        while not self._head or _undecided(self._head):
            more = self._raw(BLOCK_BYTES)
            self._head += more
            if not more:
                if not self._head or not self._ended():
                    return False
                break
        self.kind = kind_of(self._head)
        if self.kind == "gzip":
            self._decoder = _Gzip()
        elif self.kind == "zstd":
            self._decoder = _Zstd()
        return True

    def _raw(self, size: int) -> ByteRun:
        data = self._read_raw(size)
        self.raw_bytes += len(data)
        return data

    def _plain(self) -> ByteRun:
        head, self._head = self._head, b""
        block = head or self._raw(BLOCK_BYTES)
        self.output_bytes += len(block)
        return block

    def _decoded(self, decoder: Decoder) -> bytes:
        parts: list[bytes] = []
        size = 0
        while size < BLOCK_BYTES:
            data = self._head or decoder.rest or bytes(self._raw(BLOCK_BYTES // 8))
            self._head = b""
            if not data:
                if not decoder.between and self._ended():
                    self._damage = f"ends in the middle of its {self.kind} data"
                break
            try:
                part = decoder.decode(data)
            except (zlib.error, zstandard.ZstdError, DamagedStream) as error:
                reason = error.reason if isinstance(error, DamagedStream) else f"is damaged ({error})"
                self._damage = reason
                break
            parts.append(part)
            size += len(part)
            self._check_bounds(len(part), len(decoder.rest))
            if self._damage is not None:
                break
        output = b"".join(parts)
        if not output and self._damage is not None:
            raise DamagedStream(self._damage)
        return output

    def _check_bounds(self, new_bytes: int, unused_bytes: int) -> None:
        bounds = self._bounds
        self.output_bytes += new_bytes
        used = max(1, self.raw_bytes - unused_bytes)
        if self.output_bytes > bounds.output_bytes:
            self._damage = f"unfolds to more than {bounds.output_bytes:,} bytes"
        elif self.output_bytes > max(bounds.ratio_from_bytes, used * bounds.ratio):
            self._damage = f"unfolds to more than {bounds.ratio:,} times its size"


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._started = False
        self._members = 0
        self._failed: zlib.error | None = None
        self.rest = b""

    @property
    def between(self) -> bool:
        return not self._started

    def decode(self, data: bytes) -> bytes:
        if self._failed is not None:
            raise self._failed
        self.rest = b""
        if not self._started and self._members:
            # Tools pad archives with zero bytes; anything else after a member must be a member.
            data = data.lstrip(b"\0")
            if not data:
                return b""
            if not _GZIP.startswith(data[:2]):
                raise DamagedStream("has bytes after its gzip data that are no gzip")
        self._started = True
        before = self._member.copy()
        try:
            output = self._member.decompress(data, BLOCK_BYTES)
        except zlib.error as error:
            self._failed = error
            self.rest = data
            return _up_to_damage(before, data)
        if self._member.eof:
            self.rest = self._member.unused_data
            self._member = zlib.decompressobj(wbits=31)
            self._started = False
            self._members += 1
        else:
            self.rest = self._member.unconsumed_tail
        return output


def _up_to_damage(member: zlib._Decompress, data: bytes) -> bytes:
    """What comes out before the byte that fails; a failing call throws its whole output away."""
    parts: list[bytes] = []
    size = 0
    for at in range(len(data)):
        try:
            part = member.decompress(data[at : at + 1], BLOCK_BYTES)
        except zlib.error:
            break
        parts.append(part)
        size += len(part)
        if size > BLOCK_BYTES:
            break
    return b"".join(parts)


class _Zstd:
    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        self._frame = self._zstd.decompressobj()
        self._started = False
        self._frames = 0
        self._failed: zstandard.ZstdError | None = None
        self.rest = b""

    @property
    def between(self) -> bool:
        return not self._started

    def decode(self, data: bytes) -> bytes:
        if self._failed is not None:
            raise self._failed
        view = memoryview(data)
        parts: list[bytes] = []
        size = at = 0
        while at < len(view) and size < BLOCK_BYTES:
            if not self._started and self._frames and not _may_begin_frame(data[at : at + MAGIC_BYTES]):
                if parts:
                    break
                raise DamagedStream("has bytes after its zstd data that are no zstd")
            piece = view[at : at + _ZSTD_FEED_BYTES]
            self._started = True
            try:
                part = self._frame.decompress(piece)
            except zstandard.ZstdError as error:
                self._failed = error  # what was good is given first
                break
            at += len(piece)
            if self._frame.eof:
                at -= len(self._frame.unused_data)
                self._frame = self._zstd.decompressobj()
                self._started = False
                self._frames += 1
            parts.append(part)
            size += len(part)
        self.rest = bytes(view[at:])
        return b"".join(parts)


def _undecided(head: bytes) -> bool:
    """Whether so few bytes may still become a compressed file's."""
    if len(head) >= MAGIC_BYTES or kind_of(head) != "plain":
        return False
    return head == _GZIP[:1] or _may_begin_frame(head)


def _may_begin_frame(magic: bytes) -> bool:
    if len(magic) == MAGIC_BYTES:
        return kind_of(magic) == "zstd"
    return _ZSTD.startswith(magic) or (magic[0] & 0xF0 == 0x50 and _ZSTD_SKIPPABLE.startswith(magic[1:]))
