"""Records of several objects as one chunk, with whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import orjson
import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources.objects.places import Version
from ingest.sources.objects.records import Record
from ledger.format.manifest import ObjectRange, OffsetKey
from ledger.sealing.sealed_files import object_bytes

CHUNK_BYTES: Final = 8 * 1024 * 1024
CHUNK_ROWS: Final = 10_000
NAMES_BYTES: Final = 24_000
"""Room that the names of a chunk's objects may take in an entry, which has to fit its segments too."""


class ChunkMaker:
    """Gathers records from `offset` on."""

    def __init__(self, key: OffsetKey, offset: int, record_bytes: int) -> None:
        self._key = key
        self._start = offset
        self._record_bytes = record_bytes
        self._values: list[bytes] = []
        self._bytes = self._names = 0
        self._objects: list[ObjectRange] = []
        self._truncated: dict[int, int] = {}
        self._digests: dict[int, str] = {}
        self._faults: dict[int, str] = {}

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say."""
        return not self._objects

    @property
    def full(self) -> bool:
        """Whether it has as much as one chunk should."""
        return self._bytes >= CHUNK_BYTES or len(self._values) >= CHUNK_ROWS or self._names >= NAMES_BYTES

    def add(
        self, version: Version, records: Sequence[Record], *, end: bool, fault: str | None = None
    ) -> None:
        """The next records of an object; with `fault`, one more that says why it ended."""
        if not (records or end):
            return
        begin = self._start + len(self._values)
        for record in records:
            if record.size > self._record_bytes:
                self._truncated[len(self._values)] = record.size
            if record.digest is not None:
                self._digests[len(self._values)] = record.digest
            self._values.append(record.value)
            self._bytes += len(record.value)
        if fault is not None:
            self._faults[len(self._values)] = f"the object {fault}"
            self._values.append(orjson.dumps({"key": version.key, "etag": version.etag}))
        to = self._start + len(self._values)
        last = self._objects[-1] if self._objects else None
        if last is not None and (last.key, last.etag, last.end) == (version.key, version.etag, False):
            self._objects[-1] = last.model_copy(update={"to": to, "end": end})
            return
        self._objects.append(ObjectRange(key=version.key, etag=version.etag, from_=begin, to=to, end=end))
        self._names += object_bytes(self._objects[-1])

    def made(self) -> Chunk:
        """The chunk."""
        end = self._start + len(self._values)
        return Chunk(
            self._key,
            self._start,
            end,
            np.arange(self._start, end, dtype=np.int64),
            pa.array(self._values, pa.large_binary()),
            truncated=self._truncated,
            digests=self._digests,
            objects=self._objects,
            faults=self._faults,
        )
