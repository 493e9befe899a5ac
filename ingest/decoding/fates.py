"""The work itself: a chunk in, the fate of its messages out; and the form in which both travel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest.authority import apply
from ingest.chunk import Chunk
from ingest.decoded import Verdict
from ingest.routes import Route
from ingest.stretches import Fate, decoded_chunk, fate_of
from ledger.events import ARROW_SCHEMA
from ledger.format.canonical import leaf_hashes

HASH_BYTES: Final = 32
MOST_REFUSED: Final = 16
"""Of what a format could not read, so many are told for samples."""

Routes = Mapping[str | None, Route]
"""How messages of a topic are read; under None those of all other topics."""


def routes_of(others: Route, routes: Mapping[str, Route] | None = None) -> Routes:
    """Topics with ways of their own, and the way of all others."""
    ways: dict[str | None, Route] = {None: others}
    ways.update(((topic, route) for topic, route in (routes or {}).items()))
    return ways


def decide(routes: Routes, chunk: Chunk, now: datetime, *, hashed: bool = False) -> Fate:
    """What becomes of a chunk's messages: decoded, masked, checked, within the authority of their intake.

    `hashed`: with the leaf hash of every event as it stands, too.
    """
    route = routes.get(chunk.key.topic) or routes[None]
    limits = route.settings.limits
    decoded = decoded_chunk(route.adapter, chunk, limits, now)
    refused: list[Verdict] = decoded.rejected[:MOST_REFUSED]
    fate = fate_of(chunk, apply(decoded, route.settings.intake, limits), limits)
    fate.refused = refused
    if hashed:
        fate.leaves = _hashes(b"".join(leaf_hashes(fate.events)))
    return fate


def _hashes(data: Any) -> pa.FixedSizeBinaryArray:
    buffer = pa.py_buffer(data)
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(HASH_BYTES), buffer.size // HASH_BYTES, [None, buffer]
    )


@dataclass(frozen=True, slots=True)
class PackedChunk:
    """A chunk without what only its source needs; the bytes of its messages and nothing around them."""

    chunk: Chunk
    edges: np.ndarray[Any, np.dtype[np.int64]]
    data: pa.Buffer

    @classmethod
    def of(cls, chunk: Chunk) -> PackedChunk:
        """Nothing of the messages is copied."""
        values = chunk.values
        _, offsets, data = values.buffers()
        edges = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
        first, last = int(edges[0]), int(edges[-1])
        bare = replace(chunk, values=pa.array([], pa.large_binary()), prefix_at=None, objects=None)
        within = pa.py_buffer(b"") if data is None else data.slice(first, last - first)
        return cls(bare, edges - first, within)

    def unpacked(self) -> Chunk:
        """The chunk, on the same bytes."""
        count = len(self.edges) - 1
        buffers = [None, pa.py_buffer(self.edges), self.data]
        return replace(self.chunk, values=pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, buffers))


@dataclass(frozen=True, slots=True)
class PackedFate:
    """A fate whose events are one Arrow IPC stream."""

    fate: Fate
    events: pa.Buffer
    leaves: pa.Buffer

    @classmethod
    def of(cls, fate: Fate) -> PackedFate:
        """The events are copied once."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, ARROW_SCHEMA) as stream:
            stream.write_table(fate.events.combine_chunks())
        leaves = pa.py_buffer(b"") if fate.leaves is None else fate.leaves.buffers()[1]
        bare = replace(fate, events=ARROW_SCHEMA.empty_table(), leaves=None)
        return cls(bare, sink.getvalue(), leaves)

    def unpacked(self) -> Fate:
        """The fate, on the same bytes."""
        events = pa.ipc.open_stream(self.events).read_all()
        return replace(self.fate, events=events, leaves=_hashes(self.leaves))
