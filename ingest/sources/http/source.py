"""A spool as a source: what was answered for, in order, until the ledger has it."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources import Ended, Polled
from ingest.sources.http.spool import Spool
from ledger.format.manifest import OffsetKey

CHUNK_BYTES: Final = 8 * 1024 * 1024


class SpoolSource:
    """Chunks of one spool; see `ingest.sources.Source`."""

    def __init__(self, spool: Spool, sealed: int) -> None:
        """`sealed` is the offset up to which the ledger has the stream."""
        self.key = key_of(spool)
        self._spool = spool
        self._next = max(sealed, spool.begin)
        self._ended = False
        spool.drop_below(sealed)

    @property
    def finished(self) -> bool:
        """A listener never ends by itself."""
        return False

    def poll(self, timeout: float) -> Polled:
        """What is there, and what comes within `timeout` seconds."""
        batch = self._spool.read(self._next, limit_bytes=CHUNK_BYTES, timeout=timeout)
        if not batch.messages:
            return Polled()
        start, end = batch.start, batch.start + len(batch.messages)
        self._next = end
        return Polled(
            [
                Chunk(
                    self.key, start, end, np.arange(start, end, dtype=np.int64),
                    pa.array([message.payload for message in batch.messages], pa.large_binary()),
                    masked={n: one.places for n, one in enumerate(batch.messages) if one.places},
                    digests={n: one.digest for n, one in enumerate(batch.messages) if one.digest},
                )
            ]
        )  # fmt: skip

    def flushed(self) -> None:
        """Nothing is waited for."""

    def sealed(self, key: OffsetKey, offset: int) -> None:
        """The ledger has it: it need not be kept."""
        if key == self.key:
            self._spool.drop_below(offset)

    def rewind(self, key: OffsetKey, offset: int) -> None:
        """Read again from there on."""
        if key == self.key:
            self._next = max(offset, self._spool.begin)

    def lag(self) -> dict[OffsetKey, int]:
        """Messages that are spooled and not handed over."""
        return {self.key: max(0, self._spool.end - self._next)}

    def ended(self) -> dict[OffsetKey, Ended]:
        """The spool's key, where nothing is spooled that was not handed over."""
        return {self.key: Ended(self._next, 0.0)} if self._spool.end <= self._next else {}

    def close(self) -> None:
        """The spool is its owner's to close."""


def key_of(spool: Spool) -> OffsetKey:
    """The stream of a spool: a new spool is a new stream, so that no offset means two messages."""
    return OffsetKey(f"http:{spool.id}")
