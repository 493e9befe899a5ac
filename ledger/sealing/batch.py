"""What ingest hands to the writer: decoded messages of one offset key, and what became of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.events import ARROW_SCHEMA
from ledger.format.manifest import ObjectRange, OffsetKey

ACCEPTED: Final = 0
IGNORED: Final = 1
REJECTED: Final = 2
DUPLICATE: Final = 3
STATUS_NAMES: Final = {IGNORED: "ignored", REJECTED: "rejected", DUPLICATE: "duplicate"}


@dataclass(frozen=True, slots=True)
class SetAside:
    """Why a message was not accepted. `payload` is the message after masking, rejected ones only."""

    reason: str
    part: int | None = None
    field: str | None = None
    payload: bytes | None = None


@dataclass(slots=True)
class Stretch:
    """Messages [start, end) of one key.

    `offsets` (int64, ascending) and `values` (as received) have one element per message, `status`
    (uint8) its fate so far. `events` has `ledger.events.ARROW_SCHEMA` with all coordinates set;
    `message` (int64, ascending) says which message each event row came from. `aside` holds a
    reason for every message whose status is not ACCEPTED, by message position.
    `replays` are the dead letters, each a sealed path and a row there, that the messages come from: one
    for each message. `prefix_at(k)` gives a file's (bytes read, hex SHA-256) after the first k messages.
    A `derived` stretch holds events of our own: its offsets are entries that were looked at.
    `complete` is when the key's source was seen to end at or below `end`.
    `digests` are the hex SHA-256 of messages, by position, of which `values` do not have what was received.
    `objects`, of a stream of objects, say whose records the messages are; they fill [start, end) in order.
    `leaves` are the leaf hashes of `events` as they stand (32 bytes each), where they are known already.
    """

    key: OffsetKey
    start: int
    end: int
    offsets: npt.NDArray[np.int64]
    values: pa.LargeBinaryArray
    status: npt.NDArray[np.uint8]
    events: pa.Table
    message: npt.NDArray[np.int64]
    aside: dict[int, SetAside] = field(default_factory=dict)
    skipped: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    read_bytes: int | None = None
    prefix: str | None = None
    prefix_at: Callable[[int], tuple[int, str]] | None = None
    replays: Sequence[tuple[str, int]] | None = None
    complete: datetime | None = None
    derived: bool = False
    digests: Mapping[int, str] = field(default_factory=dict)
    objects: Sequence[ObjectRange] | None = None
    leaves: pa.FixedSizeBinaryArray | None = None

    @classmethod
    def empty(cls, key: OffsetKey, at: int) -> Stretch:
        """No messages: says nothing but how far the key is read."""
        nothing = np.zeros(0, np.int64)
        values = pa.array([], pa.large_binary())
        events = ARROW_SCHEMA.empty_table()
        return cls(key, at, at, nothing, values, nothing.astype(np.uint8), events, nothing)

    def digest(self, message: int) -> str:
        """Hex SHA-256 of a message as it was received."""
        known = self.digests.get(message)
        return known or hashlib.sha256(self.values[message].as_buffer()).hexdigest()

    def divide(self, messages: int) -> tuple[Stretch, Stretch]:
        """Cut after the first `messages` messages; both halves stand for themselves."""
        edge = int(self.offsets[messages])
        row = int(np.searchsorted(self.message, messages))
        first_bytes, first_prefix = (
            self.prefix_at(messages) if self.prefix_at is not None else (self.read_bytes, self.prefix)
        )
        first = Stretch(
            self.key, self.start, edge, self.offsets[:messages], self.values.slice(0, messages),
            self.status[:messages], self.events.slice(0, row), self.message[:row],
            {at: why for at, why in self.aside.items() if at < messages},
            _below(self.skipped, edge), _below(self.lost, edge), first_bytes, first_prefix, self.prefix_at,
            None if self.replays is None else self.replays[:messages],
            digests={at: digest for at, digest in self.digests.items() if at < messages},
            objects=None if self.objects is None else _objects_below(self.objects, edge),
            leaves=None if self.leaves is None else self.leaves.slice(0, row),
        )  # fmt: skip
        tail_at = self.prefix_at
        second = Stretch(
            self.key, edge, self.end, self.offsets[messages:], self.values.slice(messages),
            self.status[messages:], self.events.slice(row), self.message[row:] - messages,
            {at - messages: why for at, why in self.aside.items() if at >= messages},
            _from(self.skipped, edge), _from(self.lost, edge), self.read_bytes, self.prefix,
            None if tail_at is None else lambda k: tail_at(k + messages),
            None if self.replays is None else self.replays[messages:], self.complete,
            digests={at - messages: digest for at, digest in self.digests.items() if at >= messages},
            objects=None if self.objects is None else _objects_from(self.objects, edge),
            leaves=None if self.leaves is None else self.leaves.slice(row),
        )  # fmt: skip
        return first, second


def _below(ranges: list[tuple[int, int]], edge: int) -> list[tuple[int, int]]:
    return [(start, min(end, edge)) for start, end in ranges if start < edge]


def _from(ranges: list[tuple[int, int]], edge: int) -> list[tuple[int, int]]:
    return [(max(start, edge), end) for start, end in ranges if end > edge]


def _objects_below(objects: Sequence[ObjectRange], edge: int) -> list[ObjectRange]:
    return [
        part if part.to <= edge else part.model_copy(update={"to": edge, "end": False})
        for part in objects
        if part.from_ < edge
    ]


def _objects_from(objects: Sequence[ObjectRange], edge: int) -> list[ObjectRange]:
    return [
        part if part.from_ >= edge else part.model_copy(update={"from_": edge})
        for part in objects
        if part.to > edge or part.from_ >= edge
    ]
