"""What an adapter makes of a run of messages, and the interface that every adapter keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def in_words(reason: str, field: str | None) -> str:
    """Why a message was refused, with the field that it was refused for."""
    return f"{reason} ({field})" if field else reason


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one message may hold; settings may lower or raise them."""

    message_bytes: int = 1_048_576
    id_chars: int = 1_024
    attributes_bytes: int = 65_536
    raw_bytes: int = 262_144
    events_per_message: int = 10_000
    nesting_depth: int = 64
    ahead_hours: int = 24


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a message gave no events. `message` is its position in the values; `part` the one that failed."""

    message: int
    reason: str
    part: int | None = None
    field: str | None = None


@dataclass(slots=True)
class Decoded:
    """Events of a run of messages.

    `events` has the columns of `ledger.events.ARROW_SCHEMA`, in order, with `part` set and the
    other coordinates (topic, topic_id, partition, record_offset) null: the pipeline fills them.
    `message` (int64, same length as `events`, ascending) is each event's message, a position in
    the values. A message is in `events`, in `rejected` or in `ignored`, and in one of them only.
    """

    events: pa.Table
    message: npt.NDArray[np.int64]
    rejected: list[Verdict] = field(default_factory=list)
    ignored: list[Verdict] = field(default_factory=list)


Headers = Mapping[str, str]
"""What came beside a message: texts by name."""


class Adapter(Protocol):
    """Bytes to events. Pure: no clock, no I/O; never raises for what a message holds."""

    name: str

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """Decode, normalise, mask and validate; `now` is the writer's clock, in UTC."""
        ...


@runtime_checkable
class HeaderAdapter(Adapter, Protocol):
    """An adapter that reads headers as well; a source hands on those that it names, and no others."""

    headers: tuple[str, ...]
    """Names in lower case; one that ends with `*` stands for all that begin so."""

    def decode_with(
        self, values: pa.LargeBinaryArray, headers: Sequence[Headers], limits: Limits, now: datetime
    ) -> Decoded:
        """As `decode`; `headers[i]` came with `values[i]`."""
        ...


def headers_of(adapter: Adapter) -> tuple[str, ...]:
    """The headers that an adapter reads, and a source hands on; of most formats none."""
    return adapter.headers if isinstance(adapter, HeaderAdapter) else ()
