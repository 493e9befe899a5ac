"""Objects that two processes see: pickled into memory without a name, whose descriptor goes over a socket.

Only a process and the ones it started speak so: what is unpickled was pickled by ourselves. The memory is
gone with the last process that holds it, and never reaches a disk. A shared object is [8 bytes: length of
the pickle][8 bytes: number of buffers][8 bytes each: their lengths][pickle][buffers, each at a multiple of
64 bytes]; buffers are read where they lie.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final

import pyarrow as pa

ALIGNED: Final = 64
_HEAD: Final = struct.Struct("<QQ")
_FRAME: Final = struct.Struct("<QQ")


def can_share() -> bool:
    """Whether this system has memory without a name (Linux), and lets us have it."""
    try:
        os.close(os.memfd_create("decision-ledger"))
    except (AttributeError, OSError):
        return False
    return True


class SharedEnd:
    """One end of a socket over which numbered objects go. Raises EOFError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def send(self, number: int, value: Any) -> None:
        """Hand over an object; both sides see the same bytes of its buffers."""
        memory = os.memfd_create("decision-ledger")
        try:
            size = _write(memory, value)
            socket.send_fds(self._socket, [_FRAME.pack(number, size)], [memory])
        except (BrokenPipeError, ConnectionResetError):
            raise EOFError from None
        finally:
            os.close(memory)

    def receive(self) -> tuple[int, Any]:
        """The next object and its number; waits for it."""
        try:
            frame, descriptors, _, _ = socket.recv_fds(self._socket, _FRAME.size, 1)
        except ConnectionResetError:
            frame, descriptors = b"", []
        if not frame or not descriptors:
            raise EOFError
        number, size = _FRAME.unpack(frame)
        try:
            return number, _read(descriptors[0], size)
        finally:
            os.close(descriptors[0])

    def fileno(self) -> int:
        """For whoever waits on several."""
        return self._socket.fileno()

    def close(self) -> None:
        """The other side sees the end."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _write(memory: int, value: Any) -> int:
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [one.raw() for one in buffers]
    lengths = [part.nbytes for part in parts]
    head = _HEAD.pack(len(text), len(parts)) + struct.pack(f"<{len(parts)}Q", *lengths) + text
    pieces: list[Any] = [head, bytes(-len(head) % ALIGNED)]
    for part in parts:
        pieces += [part, bytes(-part.nbytes % ALIGNED)]
    size = sum(memoryview(piece).nbytes for piece in pieces)
    for piece in pieces:
        rest = memoryview(piece)
        while rest.nbytes:
            rest = rest[os.write(memory, rest) :]
    return size


def _read(memory: int, size: int) -> Any:
    mapped = pa.py_buffer(mmap.mmap(memory, size, prot=mmap.PROT_READ))
    text_size, count = _HEAD.unpack(mapped[: _HEAD.size])
    edge = _HEAD.size + 8 * count
    lengths = struct.unpack(f"<{count}Q", mapped[_HEAD.size : edge])
    text = mapped[edge : edge + text_size]
    first = edge + text_size + -(edge + text_size) % ALIGNED
    starts = accumulate((length + -length % ALIGNED for length in lengths), initial=first)
    buffers = [mapped.slice(start, length) for start, length in zip(starts, lengths, strict=False)]
    return pickle.loads(text, buffers=buffers)  # noqa: S301 - written by a process of ours, see above
