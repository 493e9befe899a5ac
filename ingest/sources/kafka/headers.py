"""Headers of records, for adapters that read them (Apache Kafka protocol guide, record, magic 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kafka.errors import CorruptRecordError

MAX_BYTES: Final = 65_536
"""Of the headers of one record that are held; the others are as if they were not there."""


def headers_at(data: bytes, position: int, wanted: Sequence[str]) -> dict[str, str]:
    """The headers of the record whose value ends at `position`, by their names in lower case.

    Of one that came several times the last counts; a null is none.

    Raises:
        CorruptRecordError: a length leads outside.
    """
    found: dict[str, str] = {}
    held = 0
    count, position = _varint(data, position)
    for _ in range(count):
        size, position = _varint(data, position)
        name = _slice(data, position, size).decode("utf-8", "replace").lower()
        position += max(size, 0)
        size, position = _varint(data, position)
        value = _slice(data, position, size)
        position += max(size, 0)
        if size >= 0 and is_wanted(name, wanted) and held + size <= MAX_BYTES:
            found[name] = value.decode("utf-8", "replace")
            held += size
    return found


def size_of(headers: Sequence[dict[str, str]] | None) -> int:
    """About how many bytes they take."""
    return sum(len(name) + len(value) for one in headers or () for name, value in one.items())


def is_wanted(name: str, wanted: Sequence[str]) -> bool:
    """Whether an adapter names this header; `*` at the end stands for anything."""
    return any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in wanted)


def _slice(data: bytes, position: int, size: int) -> bytes:
    if size < -1 or position + max(size, 0) > len(data):
        raise CorruptRecordError("a header is longer than its batch")
    return data[position : position + max(size, 0)]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A zig-zag varint of up to 32 bits, and where it ends."""
    value = shift = 0
    while True:
        if position >= len(data) or shift > 28:
            raise CorruptRecordError("a header is longer than its batch")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), position
        shift += 7
