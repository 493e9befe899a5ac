"""Messages of Kafka topics, from the ledger's own positions, shared with the other workers of a group.

A process of its own reads ahead (`kafka_child`); a thread here takes what it ships and answers its
questions, also while the pipeline seals. Chunks are views on the received buffers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources import Ended, Polled
from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.joined_chunks import joined
from ingest.sources.kafka.process import ReadingProcess
from ingest.sources.kafka.settings import KafkaSettings
from ingest.sources.kafka.wire import Kind, unpack
from ledger.errors import LedgerError, OutsideError
from ledger.format.manifest import OffsetKey

Identity = tuple[str, str, int]


@dataclass(slots=True)
class _Held:
    """What the pipeline has of a key and has not sealed yet: [sealed, handed)."""

    sealed: int
    handed: int


@dataclass(slots=True)
class _Lease:
    """`high` is the partition's end as last seen, `next` the end of what was handed over."""

    key: OffsetKey
    high: int | None = None
    next: int | None = None
    seen: float = 0.0
    """The monotonic second at which `high` was learned."""
    gone: bool = False
    """The topic was made again since: no more will come under this lease."""


@dataclass(slots=True)
class _Entry:
    """Queued: a chunk under its lease, or a request to seal."""

    size: int
    lease: int = 0
    chunk: Chunk | None = None
    revocation: int = 0


class KafkaSource:
    """A `Source` over the topics of `settings`.

    `position` tells where the ledger stands for a key, None when it has nothing of it. It is called in
    a thread of this source, also while `poll`'s caller does something else. What fails outside comes
    out of `poll` as OutsideError, after everything that came before it.
    """

    def __init__(self, settings: KafkaSettings, position: Callable[[OffsetKey], int | None]) -> None:
        self._settings = settings
        self._position = position
        self._changed = threading.Condition()
        self._queue: deque[_Entry] = deque()
        self._leases: dict[int, _Lease] = {}
        self._held: dict[Identity, _Held] = {}
        self._last_lease = 0
        self._rewinds = 0
        self._assigned = False
        self._at_end: set[int] | None = None
        self._flushing = 0
        self._error: LedgerError | None = None
        self._closing = False
        self._process = ReadingProcess(settings)
        self._thread = threading.Thread(target=self._serve, name="kafka-source", daemon=True)
        self._thread.start()

    # --- Source ---

    @property
    def finished(self) -> bool:
        """Bounded reads only: every partition of ours reached the end it had when it was first ours."""
        with self._changed:
            return (
                self._settings.until_end
                and self._assigned
                and not self._queue
                and self._at_end == set(self._standing())
            )

    def poll(self, timeout: float) -> Polled:
        """What came within `timeout` seconds, up to about HANDOVER_BYTES. Raises OutsideError."""
        polled, size, taken = Polled(), 0, 0
        came: list[Chunk] = []
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._error or self.finished, timeout)
            while self._queue and size < limits.HANDOVER_BYTES and not polled.flush:
                entry = self._queue.popleft()
                taken += entry.size
                size += entry.size
                if entry.chunk is None:
                    self._flushing = entry.revocation
                    polled.flush = True
                else:
                    self._hand_over(entry.lease, entry.chunk)
                    came.append(entry.chunk)
            error = None if taken or polled.flush else self._error
        if error is not None:
            raise error
        if taken:
            self._tell(Kind.CREDIT, {"bytes": taken})
        polled.chunks = joined(came)
        return polled

    def flushed(self) -> None:
        """Answers `Polled.flush`: all that was handed over before is sealed."""
        self._tell(Kind.FLUSHED, {"id": self._flushing})

    def sealed(self, key: OffsetKey, offset: int) -> None:
        """The ledger holds everything of `key` below `offset`."""
        with self._changed:
            held = self._held.get(key.identity)
            if held is not None:
                held.sealed = max(held.sealed, offset)
                if held.sealed >= held.handed:
                    del self._held[key.identity]

    def rewind(self, key: OffsetKey, offset: int) -> None:
        """What was handed over of `key` was dropped; reading goes on at `offset`, if it is still ours."""
        with self._changed:
            self._rewinds += 1
            self._held.pop(key.identity, None)
            old = self._lease_of(key)
            if old is None:
                return
            del self._leases[old]
            credit = self._drop_queued()
            new = self._new_lease(key, offset)
            self._at_end = None
        self._tell(Kind.SEEK, {"lease": old, "new": new, "offset": offset})
        self._tell(Kind.CREDIT, {"bytes": credit})

    def lag(self) -> dict[OffsetKey, int]:
        """Offsets between what was handed over and the partition's end as last seen, by key."""
        with self._changed:
            return {
                one.key: max(0, one.high - one.next)
                for one in self._standing().values()
                if one.high is not None and one.next is not None
            }

    def ended(self) -> dict[OffsetKey, Ended]:
        """The partitions of ours that were handed over to their end as last seen."""
        now = time.monotonic()
        with self._changed:
            return {
                one.key: Ended(one.next, now - one.seen)
                for one in self._standing().values()
                if one.high is not None and one.next is not None and one.next >= one.high
            }

    def close(self) -> None:
        """Leave the group and end the reading process. What was not handed over is forgotten."""
        with self._changed:
            if self._closing:
                return
            self._closing = True
        self._process.end()
        self._thread.join()
        self._process.forget()
        with self._changed:
            self._queue.clear()
            self._leases.clear()

    # --- the service thread ---

    def _serve(self) -> None:
        while True:
            try:
                kind, said, payload = self._process.wire.receive()
            except EOFError:
                break
            try:
                self._take(kind, said, payload)
            except LedgerError as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - e.g. the caller's `position`; poll must say it
                self._fail(OutsideError(f"The Kafka source failed: {type(error).__name__}: {error}."))
        if not self._closing:
            self._fail(
                OutsideError(
                    f"The process that reads Kafka ended unexpectedly ({self._process.epitaph()}).",
                    "Nothing is lost: start again, and reading goes on at the ledger's positions.",
                )
            )

    def _take(self, kind: Kind, said: dict[str, Any], payload: pa.Buffer | None) -> None:
        if kind is Kind.CHUNK:
            self._enqueue(said, payload)
        elif kind is Kind.ASK:
            positions = [self._start(OffsetKey(*key)) for key in said["keys"]]
            self._tell(Kind.POSITIONS, {"positions": positions})
        elif kind is Kind.ERROR:
            self._fail(OutsideError(said["message"], said["remedy"]))
        else:
            with self._changed:
                self._note(kind, said)
                self._changed.notify_all()

    def _note(self, kind: Kind, said: dict[str, Any]) -> None:
        if kind is Kind.ASSIGNED:
            self._assigned = True
        elif kind is Kind.AT_END:
            self._at_end = set(said["leases"])
        elif kind is Kind.LAG:
            for lease, high in said["high"]:
                if lease in self._leases:
                    self._leases[lease].high = high
                    self._leases[lease].seen = time.monotonic()
        elif kind is Kind.REVOKE:
            self._queue.append(_Entry(0, revocation=said["id"]))
        elif kind is Kind.RELEASED:
            self._assigned = False
            self._at_end = None
            self._leases.clear()
            self._tell(Kind.CREDIT, {"bytes": self._drop_queued()})

    def _enqueue(self, said: dict[str, Any], payload: pa.Buffer | None) -> None:
        size = said["size"]
        offsets, values = unpack(said["count"], payload)
        with self._changed:
            lease = self._leases.get(said["lease"])
            if lease is None:
                self._tell(Kind.CREDIT, {"bytes": size})
                return
            if said["high"] is not None:
                lease.high = said["high"]
                lease.seen = time.monotonic()
            if lease.next is None:
                lease.next = said["start"]
            chunk = Chunk(
                lease.key, said["start"], said["end"], offsets, values,
                skipped=[(low, high) for low, high in said["skipped"]],
                lost=[(low, high) for low, high in said["lost"]],
                truncated=dict(said["truncated"]), headers=said["headers"],
            )  # fmt: skip
            self._queue.append(_Entry(size, said["lease"], chunk))
            self._changed.notify_all()

    def _start(self, key: OffsetKey) -> tuple[int | None, int]:
        """Where to read from, and the lease. What the pipeline still holds is not read twice."""
        with self._changed:
            old = self._lease_of(key)
            if old is not None:
                del self._leases[old]
            for one in self._leases.values():
                # The topic was made again. What came of the old one is in hand, and can be read nowhere else.
                one.gone |= (one.key.topic, one.key.partition) == (key.topic, key.partition)
            credit = self._drop_queued()
        if credit:
            self._tell(Kind.CREDIT, {"bytes": credit})
        while True:
            with self._changed:
                held, rewinds = self._held.get(key.identity), self._rewinds
            offset = self._position(key) if held is None else held.handed
            with self._changed:
                if rewinds == self._rewinds:
                    return offset, self._new_lease(key, offset)

    def _standing(self) -> dict[int, _Lease]:
        """The leases under which more may come."""
        return {number: one for number, one in self._leases.items() if not one.gone}

    def _new_lease(self, key: OffsetKey, start: int | None) -> int:
        self._last_lease += 1
        self._leases[self._last_lease] = _Lease(key, next=start)
        return self._last_lease

    def _lease_of(self, key: OffsetKey) -> int | None:
        found = (one for one, lease in self._leases.items() if lease.key.identity == key.identity)
        return next(found, None)

    def _hand_over(self, lease: int, chunk: Chunk) -> None:
        held = self._held.setdefault(chunk.key.identity, _Held(chunk.start, chunk.end))
        held.handed = chunk.end
        self._leases[lease].next = chunk.end

    def _drop_queued(self) -> int:
        """Forget what came under leases that have ended; returns its size in bytes."""
        kept = deque(one for one in self._queue if one.chunk is not None and one.lease in self._leases)
        dropped = sum(one.size for one in self._queue) - sum(one.size for one in kept)
        self._queue = kept
        return dropped

    def _fail(self, error: LedgerError) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _tell(self, kind: Kind, said: dict[str, Any]) -> None:
        with suppress(OSError):  # it is gone; the service thread finds out and says so
            self._process.wire.send(kind, said)
