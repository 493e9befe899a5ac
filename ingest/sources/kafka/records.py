"""Record batches straight from a fetch response into one contiguous buffer per partition.

kafka-python builds a tuple and several objects per record; here the only work per record is the walk
over the length prefixes, and everything else is vectorised over a group of batches. Source of the
layout: Apache Kafka protocol guide, record batch and record, magic 2.
"""

from __future__ import annotations

import itertools
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record.util import calc_crc32c

from ingest.sources.kafka.codecs import decompress
from ingest.sources.kafka.headers import headers_at

GROUP_BYTES = 12 << 20  # decoded bytes after which a group is handed on
MAX_BATCH_BYTES = 128 << 20  # decoded bytes of one batch that are held; what is behind is not read
MAX_PREVIEW_BYTES = 64 << 10  # of a message that crosses MAX_BATCH_BYTES

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, two timestamps,
# producer id, producer epoch, base sequence, record count
HEADER = struct.Struct(">qiibIhiqqqhii")
LENGTH_END = 12  # base offset and length are not counted by length
CRC_FROM = 21
CONTROL = 0x20
TRANSACTIONAL = 0x10
CODECS = 0x07
ABORT = 0

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Group:
    """Decoded messages of one partition, ascending: `values[i]` has offset `offsets[i]`.

    `truncated` maps positions to true sizes in bytes (-1: unknown). `unread` are offset ranges
    behind the limit of a batch that expands too far. `offset` is the last that the group covers.
    `response` numbers the fetch responses of this process in the order in which they were opened.
    `headers[i]` came with `values[i]`, where headers are wanted.
    """

    offset: int
    offsets: Ints
    values: pa.LargeBinaryArray
    truncated: dict[int, int] = field(default_factory=dict)
    unread: list[tuple[int, int]] = field(default_factory=list)
    response: int = 0
    headers: list[dict[str, str]] | None = None


class GroupedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # untyped base class
    """Takes the place of the fetcher's own record reader; an item is a `Group`, not a record."""

    responses = itertools.count(1)
    wanted_headers: tuple[str, ...] = ()
    """Names of headers that are read; without any none are looked at."""

    def _unpack_records(
        self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any
    ) -> Iterator[Group]:
        response = next(self.responses)
        raw = memoryview(records._buffer or b"")
        skipper = AbortedBatches(self.aborted_transactions)
        pending = PendingGroup(self.fetch_offset, self.wanted_headers)
        position = 0
        while position + HEADER.size <= len(raw):
            header = HEADER.unpack_from(raw, position)
            end = position + LENGTH_END + header[1]
            if end > len(raw):
                break  # the broker cut the response; the rest comes with the next fetch
            base, _, epoch, magic, crc, attributes, last_delta, *_, producer, _, _, count = header
            if magic != 2:
                raise CorruptRecordError(f"record batch at offset {base} has format {magic}, not 2")
            if self.check_crcs and calc_crc32c(raw[position + CRC_FROM : end]) != crc:
                raise CorruptRecordError(f"record batch at offset {base} fails its checksum")
            body = raw[position + HEADER.size : end]
            self.leader_epoch = epoch
            if not skipper.skips(base + last_delta, producer, attributes, body):
                pending.add(base, base + last_delta, count, body, attributes & CODECS)
            position = end
            self.next_fetch_offset = base + last_delta + 1
            self.bytes_read += len(body)
            if pending.full(len(raw) - position):
                yield pending.take(response)
        if pending.size or pending.unread:
            yield pending.take(response)
        self.drain()


class AbortedBatches:
    """Which batches a reader of committed messages leaves out."""

    def __init__(self, aborted: deque[Any]) -> None:
        self._coming = aborted  # ascending by first offset
        self._active: set[int] = set()

    def skips(self, last_offset: int, producer: int, attributes: int, body: memoryview) -> bool:
        """True for control batches and for batches of an aborted transaction; call in offset order."""
        while self._coming and self._coming[0].first_offset <= last_offset:
            self._active.add(self._coming.popleft().producer_id)
        if attributes & CONTROL:
            if _control_type(body) == ABORT:
                self._active.discard(producer)
            return True
        return bool(attributes & TRANSACTIONAL) and producer in self._active


def _control_type(body: memoryview) -> int:
    starts = np.array([0], np.int64)
    data = np.frombuffer(body, np.uint8)
    _, at = varints(data, starts)
    _, at = varints(data, at + 1)
    _, at = varints(data, at)
    _, at = varints(data, at)
    return int(struct.unpack_from(">hh", body, int(at[0]))[1])


class PendingGroup:
    """Decompressed batches that are decoded together, since numpy costs per call, not per record."""

    def __init__(self, fetch_offset: int, wanted_headers: tuple[str, ...] = ()) -> None:
        self._fetch_offset = fetch_offset
        self._wanted_headers = wanted_headers
        self._clear()

    def full(self, left: int) -> bool:
        """Whether the group is to be handed on, where `left` bytes of the response follow.

        What is left and would be a small group, at the rate at which the batches before grew, is waited for:
        a group has a fixed cost.
        """
        if self.size < GROUP_BYTES:
            return False
        expected = left * self.size / max(1, self._read)
        return expected >= GROUP_BYTES / 2 or self.size >= 2 * GROUP_BYTES

    def _clear(self) -> None:
        self.size = 0
        self._read = 0
        self.unread: list[tuple[int, int]] = []
        self._last = -1
        self._bodies: list[bytes] = []
        self._bases: list[tuple[int, int, int, bool]] = []

    def add(self, base: int, last: int, count: int, body: memoryview, codec: int) -> None:
        """A data batch of `count` records with offsets from `base` to `last`."""
        data, whole = decompress(codec, body, MAX_BATCH_BYTES)
        self._bodies.append(data)
        self._bases.append((base, last, count, whole))
        # A batch that was cut ends its group, even if nothing of it could be read.
        self.size += max(len(data), 1) if whole else 2 * GROUP_BYTES
        self._read += len(body)
        self._last = last

    def take(self, response: int) -> Group:
        """What was added, decoded; empties this. Raises CorruptRecordError."""
        data = b"".join(self._bodies)
        starts: list[int] = []
        counts: list[int] = []
        position = 0
        cut: tuple[int, int, int, int] | None = None
        for body, (_, last, count, whole) in zip(self._bodies, self._bases, strict=True):
            end = position + len(body)
            if whole:
                _walk(data, position, end, count, starts)
                counts.append(count)
            else:
                before = len(starts)
                rest = _walk_cut(data, position, end, count, starts)
                counts.append(len(starts) - before)
                cut = (len(starts), rest, end, last)
            position = end
        group = self._decode(data, starts, counts, cut)
        group.response = response
        self._clear()
        return group

    def _decode(
        self, data: bytes, starts: list[int], counts: list[int], cut: tuple[int, int, int, int] | None
    ) -> Group:
        bytes_ = np.frombuffer(data, np.uint8)
        bases = np.repeat(np.array([one[0] for one in self._bases], np.int64), counts)
        begins = np.array(starts, np.int64)
        try:
            _, at = varints(bytes_, begins + 1)  # behind the attributes: timestamp
            delta, at = varints(bytes_, at)
            key, at = varints(bytes_, at)
            size, at = varints(bytes_, at + np.clip(key, 0, len(data)))
        except IndexError:
            raise CorruptRecordError("a record is longer than its batch") from None
        # No number may lead outside: not by itself, nor by a sum beyond 64 bits.
        ends = at + np.clip(size, 0, len(data) + 1)
        if (ends > np.append(begins[1:], len(data))).any():
            raise CorruptRecordError("a record is longer than its place in the batch")
        offsets = bases + delta
        wanted = offsets >= self._fetch_offset
        if not wanted.all():
            offsets, at, ends = offsets[wanted], at[wanted], ends[wanted]
        values = gather(data, at, ends)
        group = Group(self._last, offsets, values)
        if self._wanted_headers:
            group.headers = [headers_at(data, end, self._wanted_headers) for end in ends.tolist()]
        if cut is not None:
            _cut_short(group, data, cut, self._bases[-1][0])
        return group


def _cut_short(group: Group, data: bytes, cut: tuple[int, int, int, int], base: int) -> None:
    """The message at the limit is kept as its beginning; what is behind it in the batch is unread."""
    _, rest, end, last = cut
    offset = max(base, int(group.offsets[-1]) + 1 if len(group.offsets) else base)
    preview = pa.array([data[rest : min(end, rest + MAX_PREVIEW_BYTES)]], pa.large_binary())
    group.truncated[len(group.offsets)] = -1
    group.offsets = np.append(group.offsets, offset)
    group.values = pa.concat_arrays([group.values, preview])
    if group.headers is not None:
        group.headers.append({})
    if offset < last:
        group.unread.append((offset + 1, last + 1))


def _walk(data: bytes, position: int, end: int, count: int, starts: list[int]) -> None:
    """Append where each of `count` records begins, behind its length."""
    append = starts.append
    try:
        for _ in range(count):
            length = data[position]
            position += 1
            if length > 127:
                second = data[position]
                position += 1
                length = (length & 127) | (second & 127) << 7
                shift = 14
                while second > 127:
                    second = data[position]
                    position += 1
                    length |= (second & 127) << shift
                    shift += 7
            append(position)
            position += length >> 1
    except IndexError:
        position = -1
    if position != end:
        raise CorruptRecordError("the records do not fill their batch")


def _walk_cut(data: bytes, position: int, end: int, count: int, starts: list[int]) -> int:
    """As `_walk`, for the records that are there in full; returns where the first other begins."""
    view = np.frombuffer(data, np.uint8)
    for _ in range(count):
        try:
            length, at = varints(view, np.array([position], np.int64))
        except IndexError:
            break
        following = int(at[0]) + int(length[0])
        if following > end:
            break
        starts.append(int(at[0]))
        position = following
    return position


def varints(data: npt.NDArray[np.uint8], at: Ints) -> tuple[Ints, Ints]:
    """Zig-zag varints of up to 64 bits that begin at the positions `at`; and where each one ends.

    Raises IndexError when one runs out of `data`.
    """
    byte = data[at].astype(np.uint64)
    value = byte & np.uint64(127)
    at = at + 1
    more = np.flatnonzero(byte > 127)
    shift = 7
    while len(more):
        if shift > 63:
            raise CorruptRecordError("a number is longer than 64 bits")
        byte = data[at[more]].astype(np.uint64)
        value[more] |= (byte & np.uint64(127)) << np.uint64(shift)
        at[more] += 1
        more = more[byte > 127]
        shift += 7
    decoded = (value >> np.uint64(1)) ^ (np.uint64(0) - (value & np.uint64(1)))
    return decoded.view(np.int64), at


def gather(data: bytes, starts: Ints, ends: Ints) -> pa.LargeBinaryArray:
    """The slices [starts[i], ends[i]) of `data`, ascending, side by side in one buffer."""
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[:-1:2], edges[1::2] = starts, ends
    edges[-1] = ends[-1] if len(ends) else 0
    if not len(starts):
        return pa.array([], pa.large_binary())
    # Slice 2i is a value, slice 2i + 1 what lies between two values.
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(data)]
    both = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(edges) - 1, buffers)
    return both.take(pa.array(np.arange(0, len(edges) - 1, 2)))
