"""Decompression of record batches, bounded: a small batch that expands without end stays small here."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import lz4.frame
import snappy
import zstandard
from kafka.errors import CorruptRecordError

XERIAL = b"\x82SNAPPY\x00"
XERIAL_HEADER_BYTES = 16
GZIP = 16 + zlib.MAX_WBITS


def decompress(codec: int, body: memoryview, limit: int) -> tuple[bytes, bool]:
    """The records of a batch, at most `limit` bytes, and whether that is all of them.

    Codec numbers are those of the batch's attributes. Raises CorruptRecordError.
    """
    if codec == 0:
        return bytes(body), True
    try:
        return _CODECS[codec](body, limit)
    except KeyError:
        raise CorruptRecordError(f"compression {codec} is unknown") from None
    except (RuntimeError, ValueError, struct.error, zlib.error, EOFError) as reason:
        raise CorruptRecordError(f"a batch does not decompress ({type(reason).__name__})") from None
    except (zstandard.ZstdError, snappy.UncompressError) as reason:
        raise CorruptRecordError(f"a batch does not decompress ({type(reason).__name__})") from None


def _gzip(body: memoryview, limit: int) -> tuple[bytes, bool]:
    reader = zlib.decompressobj(GZIP)
    data = reader.decompress(body, limit)
    more = b"" if reader.eof else reader.decompress(reader.unconsumed_tail, 1)
    if not more and not reader.eof:
        raise EOFError
    return data, not more


def _lz4(body: memoryview, limit: int) -> tuple[bytes, bool]:
    reader = lz4.frame.LZ4FrameDecompressor()
    data: bytes = reader.decompress(body, max_length=limit)
    more = b"" if reader.eof else reader.decompress(b"", max_length=1)
    if not more and not reader.eof:
        raise EOFError
    return data, not more


def _zstd(body: memoryview, limit: int) -> tuple[bytes, bool]:
    with zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True) as reader:
        out = io.BytesIO()
        while out.tell() < limit:
            part = reader.read(min(limit - out.tell(), 1 << 20))
            if not part:
                return out.getvalue(), True
            out.write(part)
        return out.getvalue(), not reader.read(1)


def _snappy(body: memoryview, limit: int) -> tuple[bytes, bool]:
    if bytes(body[: len(XERIAL)]) != XERIAL:
        return _snappy_block(body, limit)
    out: list[bytes] = []
    room = limit
    position = XERIAL_HEADER_BYTES
    while position < len(body):
        (length,) = struct.unpack_from(">i", body, position)
        position += 4
        if length < 0 or position + length > len(body):
            raise EOFError
        part, whole = _snappy_block(body[position : position + length], room)
        out.append(part)
        if not whole:
            return b"".join(out), False
        room -= len(part)
        position += length
    return b"".join(out), True


def _snappy_block(block: memoryview, limit: int) -> tuple[bytes, bool]:
    """A block says its size first, so one that is too large is not opened at all."""
    size = shift = 0
    for byte in block[:5]:
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    if size > limit:
        return b"", False
    return snappy.decompress(bytes(block)), True


_CODECS: dict[int, Callable[[memoryview, int], tuple[bytes, bool]]] = {
    1: _gzip,
    2: _snappy,
    3: _lz4,
    4: _zstd,
}
