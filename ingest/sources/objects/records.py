"""The records of one object, as they stand in it: elements of `Records` or of an array, else lines.

Text is cut between records and not read: what a record says is its format's to judge. Memory is bounded by
one block and one record.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ingest.chunk import Chunk
from ingest.sources.files.decompress import ByteRun
from ingest.sources.files.lines import LineSplitter, empty_digest
from ledger.format.manifest import OffsetKey

if TYPE_CHECKING:
    from hashlib import _Hash

HEAD_BYTES: Final = 256
"""In which the beginning of `{"Records": [` stands."""
MAX_TAIL_BYTES: Final = 65_536
"""Of what may stand behind `Records` in its object."""
ROOM_BYTES: Final = 4_096
_BEGIN: Final = re.compile(rb'(?:\xef\xbb\xbf)?\s*(\{\s*"Records"\s*:\s*)?\[')
_SIGN: Final = re.compile(rb'["\[\]{},]')
_TEXT_END: Final = re.compile(rb'(?:[^"\\]|\\.)*+"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `value` is its beginning where `size`, in bytes, is more than was to be held."""

    value: bytes
    size: int
    digest: str | None = None
    """Hex SHA-256 of all of it, where `value` is its beginning."""


class Broken(Exception):
    """The object is no array of records up to here; `reason` completes "the object …"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Elements:
    """Cuts the text behind `[` into elements; a block may end anywhere.

    `wrapped` says that the array is the value of a key, so that an object around it closes.
    """

    def __init__(self, record_bytes: int, *, wrapped: bool) -> None:
        self._held = _Held(record_bytes)
        self._wrapped = wrapped
        self._depth = 0
        self._in_text = False
        self._escaped = False
        self._first = True
        self._closed = False
        self._tail = b""

    def feed(self, block: ByteRun) -> list[Record]:
        """The elements that `block` completes. Raises Broken."""
        data = bytes(block)
        found: list[Record] = []
        start = at = 0
        while at < len(data) and not self._closed:
            if self._in_text:
                at = self._past_text(data, at)
                continue
            sign = _SIGN.search(data, at)
            if sign is None:
                break
            at = sign.end()
            byte = sign[0]
            if byte == b'"':
                self._in_text = True
            elif byte in (b"{", b"["):
                self._depth += 1
            elif byte != b"," and self._depth:
                self._depth -= 1
            elif byte == b"}":
                raise Broken("is no JSON: a bracket closes what none opened")
            elif not self._depth:
                self._held.add(data[start : at - 1])
                start = at
                self._closed = byte == b"]"
                found += self._complete()
        if self._closed:
            self._take_tail(data[start:])
        else:
            self._held.add(data[start:])
        return found

    def finish(self) -> list[Record]:
        """Nothing more comes. Raises Broken where the array did not end, or something else follows it."""
        if not self._closed:
            raise Broken("ends in the middle of its records")
        tail = self._tail.strip()
        if tail != (b"}" if self._wrapped else b"") and not (self._wrapped and _closes_object(tail)):
            raise Broken("has something behind its records")
        return []

    def _past_text(self, data: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            at += 1
        end = _TEXT_END.match(data, at)
        if end is not None:
            self._in_text = False
            return end.end()
        rest = data[at:]
        self._escaped = (len(rest) - len(rest.rstrip(b"\\"))) % 2 == 1
        return len(data)

    def _complete(self) -> list[Record]:
        record = self._held.take()
        nothing = self._closed and self._first and not record.value
        self._first = False
        return [] if nothing else [record]

    def _take_tail(self, data: bytes) -> None:
        self._tail += data[: MAX_TAIL_BYTES + 1]
        if len(self._tail) > MAX_TAIL_BYTES:
            raise Broken("has something behind its records")


class Lines:
    """Cuts text into lines that are not blank."""

    def __init__(self, record_bytes: int) -> None:
        self._splitter = LineSplitter(OffsetKey("lines"), 0, 0, empty_digest(), record_bytes)

    def feed(self, block: ByteRun) -> list[Record]:
        """The lines that `block` completes."""
        return _records(self._splitter.feed(block))

    def finish(self) -> list[Record]:
        """The last line, where it has no line end."""
        return _records(self._splitter.finish())


class Records:
    """Cuts the text of one object into records, whichever of the two its beginning says."""

    def __init__(self, record_bytes: int) -> None:
        self._limit = record_bytes
        self._head = b""
        self._cutter: Elements | Lines | None = None

    def feed(self, block: ByteRun) -> list[Record]:
        """The records that `block` completes. Raises Broken."""
        if self._cutter is not None:
            return self._cutter.feed(block)
        self._head += bytes(block)
        if len(self._head) < HEAD_BYTES:
            return []
        return self._begin()

    def finish(self) -> list[Record]:
        """What is left. Raises Broken."""
        found = self._begin() if self._cutter is None else []
        assert self._cutter is not None  # made by _begin
        return found + self._cutter.finish()

    def _begin(self) -> list[Record]:
        head, self._head = self._head, b""
        match = _BEGIN.match(head)
        if match is None:
            self._cutter = Lines(self._limit)
            return self._cutter.feed(head)
        self._cutter = Elements(self._limit, wrapped=match[1] is not None)
        return self._cutter.feed(head[match.end() :])


class _Held:
    """The text of one record so far."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._value = b""
        self._size = 0
        self._digest: _Hash | None = None

    def add(self, data: bytes) -> None:
        if not self._size:
            data = data.lstrip()
        self._size += len(data)
        if self._digest is not None:
            self._digest.update(data)
            return
        self._value += data
        # White space behind a record is no part of it, and counts only here.
        if len(self._value) > self._limit + ROOM_BYTES:
            self._digest = hashlib.sha256(self._value)
            self._value = self._value[: self._limit + 1]

    def take(self) -> Record:
        value, size, digest = self._value, self._size, self._digest
        self._value, self._size, self._digest = b"", 0, None
        if digest is not None:
            return Record(value, size, digest.hexdigest())
        value = value.rstrip()
        if len(value) > self._limit:
            return Record(value[: self._limit + 1], len(value), hashlib.sha256(value).hexdigest())
        return Record(value, len(value))


def _records(chunks: Iterable[Chunk]) -> list[Record]:
    return [
        Record(value, chunk.truncated.get(at, len(value)), chunk.digests.get(at))
        for chunk in chunks
        for at, value in enumerate(chunk.values.to_pylist())
    ]


def _closes_object(tail: bytes) -> bool:
    """Whether this is the rest of an object behind one of its values: other keys, and its end."""
    if not tail.startswith(b","):
        return False
    try:
        json.loads(b'{"":0' + tail)
    except (ValueError, RecursionError):
        return False
    return True
