"""Where messages come from: one interface in front of Kafka, files and spools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ingest.chunk import Chunk
from ledger.format.manifest import OffsetKey


@dataclass(slots=True)
class Polled:
    """One answer of a source.

    `flush` asks the pipeline to seal what it holds, then call `flushed()`: partitions are about to
    move to another worker.
    """

    chunks: list[Chunk] = field(default_factory=list)
    flush: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A key was handed over up to `offset`, and `age_seconds` ago its source was seen to end there."""

    offset: int
    age_seconds: float


class Source(Protocol):
    """Chunks of each key come in offset order without gaps, from the ledger's own position on."""

    @property
    def finished(self) -> bool:
        """True when a bounded source has nothing more to give."""
        ...

    def poll(self, timeout: float) -> Polled:
        """What came within `timeout` seconds; possibly nothing. Memory is bounded by the source."""
        ...

    def flushed(self) -> None:
        """Answers `Polled.flush`: all that was handed over before is sealed."""
        ...

    def sealed(self, key: OffsetKey, offset: int) -> None:
        """The ledger holds everything of `key` below `offset`."""
        ...

    def rewind(self, key: OffsetKey, offset: int) -> None:
        """What was handed over of `key` was dropped (fenced): the next chunk starts at `offset`."""
        ...

    def lag(self) -> dict[OffsetKey, int]:
        """Messages between what was handed over and the end, as last seen, by key."""
        ...

    def ended(self) -> dict[OffsetKey, Ended]:
        """The keys that were handed over to the end that their source had when it was last seen."""
        ...

    def close(self) -> None:
        """Stop reading and free everything."""
        ...
