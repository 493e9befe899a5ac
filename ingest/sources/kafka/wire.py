"""Frames between the reading process and the one that seals, over one local socket.

A frame is a header (kind, sizes in bytes), a small JSON object and an optional payload.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any

import numpy as np
import pyarrow as pa

FRAME = struct.Struct("<BIQ")


class Kind(IntEnum):
    """Who says it: the parent (P) or the reading child (C)."""

    START = 1  # P settings
    ASK = 2  # C keys: where do I start?
    POSITIONS = 3  # P offsets and leases, in the order asked
    ASSIGNED = 4  # C these leases are being read now
    CHUNK = 5  # C messages
    REVOKE = 6  # C please seal what you hold
    FLUSHED = 7  # P answer to REVOKE
    RELEASED = 8  # C no partition is ours any more
    SEEK = 9  # P read again from here
    CREDIT = 10  # P bytes that were taken
    LAG = 11  # C end offsets by lease
    AT_END = 12  # C these leases have reached their captured end
    ERROR = 13  # C the last frame: what failed and the remedy
    CLOSE = 14  # P leave the group and end


class Wire:
    """One end of the socket. Sending is safe from several threads, receiving from one."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def send(self, kind: Kind, said: dict[str, Any], payload: Sequence[Any] = ()) -> None:
        """Blocks until the other side has taken it. Raises OSError when that is gone."""
        text = json.dumps(said).encode()
        size = sum(memoryview(part).nbytes for part in payload)
        with self._sending:
            self._socket.sendall(FRAME.pack(kind, len(text), size) + text)
            for part in payload:
                self._socket.sendall(part)

    def receive(self) -> tuple[Kind, dict[str, Any], pa.Buffer | None]:
        """The next frame. Raises EOFError when the other side is gone."""
        header = bytearray(FRAME.size)
        self._fill(header)
        kind, text_size, size = FRAME.unpack(header)
        text = bytearray(text_size)
        self._fill(text)
        payload = None
        if size:
            payload = pa.allocate_buffer(size)
            self._fill(payload)
        return Kind(kind), json.loads(text), payload

    def _fill(self, into: Any) -> None:
        view = memoryview(into)
        while view.nbytes:
            try:
                got = self._socket.recv_into(view)
            except OSError:
                got = 0
            if not got:
                raise EOFError
            view = view[got:]

    def close(self) -> None:
        """Wakes a thread that waits in `receive`."""
        with suppress(OSError):  # the other side was first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def pack(offsets: np.ndarray[Any, np.dtype[np.int64]], values: pa.LargeBinaryArray) -> list[Any]:
    """The parts of a payload: offsets (int64), where each value begins (int64), the values."""
    if values.offset:
        values = pa.concat_arrays([values])
    _, edges, data = values.buffers()
    parts: list[Any] = [np.ascontiguousarray(offsets)]
    if len(values):
        parts.append(memoryview(edges)[: 8 * (len(values) + 1)])
        if data is not None and data.size:
            parts.append(data)
    return parts


def unpack(
    count: int, payload: pa.Buffer | None
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], pa.LargeBinaryArray]:
    """Views on the payload, nothing copied."""
    if payload is None or not count:
        return np.empty(0, np.int64), pa.array([], pa.large_binary())
    offsets = np.frombuffer(payload.slice(0, 8 * count), np.int64)
    edges, data = payload.slice(8 * count, 8 * (count + 1)), payload.slice(8 * (2 * count + 1))
    values = pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, [None, edges, data])
    return offsets, values
