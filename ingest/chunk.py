"""What a source hands to the pipeline: a run of messages of one partition, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.decoded import Headers
from ledger.format.manifest import ObjectRange, OffsetKey


@dataclass(slots=True)
class Chunk:
    """Messages [start, end) of one offset key, as received.

    `offsets` (int64, ascending) are those of the messages in `values` (large_binary, same
    length, no nulls); together with the half-open ranges `skipped` and `lost` they fill
    [start, end) exactly. `read_bytes` and `prefix` (hex SHA-256) are set by file sources only.
    `truncated` maps positions in `values` to the true size in bytes of messages that were longer
    than the source was willing to hold: `values` has their beginning.
    `prefix_at(k)`, of file sources, gives (read_bytes, prefix) after the first k messages, so that a
    chunk can be cut between messages.
    `masked` maps positions in `values` to the JSON pointers of what was removed before the message came
    to rest in a spool.
    `headers[i]` came with `values[i]`; None where the source knows none.
    `digests` maps positions to the hex SHA-256 of messages that `values` does not have as they were received.
    `objects`, of a stream of objects, say whose records the messages are; they fill [start, end) in order.
    `faults` are why positions hold no message at all, but the name of what could not be read on.
    """

    key: OffsetKey
    start: int
    end: int
    offsets: npt.NDArray[np.int64]
    values: pa.LargeBinaryArray
    skipped: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    read_bytes: int | None = None
    prefix: str | None = None
    truncated: dict[int, int] = field(default_factory=dict)
    prefix_at: Callable[[int], tuple[int, str]] | None = None
    masked: Mapping[int, Sequence[str]] = field(default_factory=dict)
    headers: Sequence[Headers] | None = None
    digests: Mapping[int, str] = field(default_factory=dict)
    objects: Sequence[ObjectRange] | None = None
    faults: Mapping[int, str] = field(default_factory=dict)
