"""One pipeline for every source: decode → normalise → mask → validate → authority → batch → seal.

`Pipeline.run` polls a source, decodes what it gives, gathers batches and hands them to the writer
in a thread of its own, so that decoding and sealing overlap. At most one batch waits while another
is sealed: that bound is the back-pressure.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import structlog

from ingest.authority import Intake
from ingest.chunk import Chunk
from ingest.decoded import Adapter, Limits, in_words
from ingest.decoding.decoder import Decoder, usual_workers
from ingest.decoding.fates import routes_of
from ingest.defaults import BATCH_ROWS, BATCH_SECONDS
from ingest.freed_memory import keep_freed_memory
from ingest.intakes import IntakeSettings
from ingest.routes import Route
from ingest.sources import Polled, Source
from ingest.stretches import Fate, stretch_of
from ledger.format.manifest import FILE_PREFIX, Append, OffsetKey
from ledger.sealing.batch import REJECTED, Stretch
from ledger.writer import TICK_SECONDS, Writer

BATCH_BYTES: Final = 120 * 1024 * 1024
BEHIND: Final = 3.0
"""While more comes than can be decoded a batch may wait so many times longer: small files must be merged."""
POLL_SECONDS: Final = 0.2
SILENT_SECONDS: Final = 5.0
"""A key at its end that nothing comes of is named again in what is sealed, so long after the last time."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """When a batch is sealed: at so many messages, bytes, or seconds after its first message."""

    rows: int = BATCH_ROWS
    bytes: int = BATCH_BYTES
    seconds: float = BATCH_SECONDS


@dataclass(slots=True)
class Totals:
    """What this run sealed, in messages, events and entries."""

    commits: int = 0
    events: int = 0
    accepted: int = 0
    duplicate: int = 0
    ignored: int = 0
    rejected: int = 0
    skipped: int = 0
    lost: int = 0
    segments: int = 0
    dead_letters: int = 0
    head: int = 0

    def add(self, entry: Append) -> None:
        """Count one sealed entry."""
        self.commits += 1
        self.head = entry.index + 1
        self.segments += len(entry.segments)
        self.events += sum(ref.rows for ref in entry.segments)
        self.dead_letters += sum(ref.rows for ref in entry.deadletters)
        for row in entry.offsets:
            self.accepted += row.accepted or 0
            self.duplicate += row.duplicate or 0
            self.ignored += row.ignored or 0
            self.rejected += row.rejected or 0
            self.skipped += sum(end - start for start, end in row.skipped)
            self.lost += row.lost_messages


@dataclass(slots=True)
class _Batch:
    stretches: list[Stretch] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    since: float = 0.0
    epochs: dict[OffsetKey, int] = field(default_factory=dict)

    def drop(self, key: OffsetKey) -> None:
        """Forget a key whose stream starts anew."""
        self.stretches = [stretch for stretch in self.stretches if stretch.key != key]


class Pipeline:
    """Moves messages from one source into one ledger, exactly once."""

    def __init__(
        self,
        source: Source,
        adapter: Adapter,
        writer: Writer,
        *,
        intake: Intake,
        limits: Limits | None = None,
        routes: Mapping[str, Route] | None = None,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_commit: Callable[[Append, Totals], None] | None = None,
        on_decoded: Callable[[Chunk, Fate], None] | None = None,
        decoders: int | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        self.source = source
        self.writer = writer
        ways = routes_of(Route(adapter, IntakeSettings(intake, limits or Limits())), routes)
        self.decoder = decoder or Decoder(ways, usual_workers() if decoders is None else decoders)
        self.pace = pace or Pace()
        self.clock = clock
        self.on_commit = on_commit
        self.on_decoded = on_decoded
        self.totals = Totals()
        self.first_refused: str | None = None
        """Why the first rejected message was."""
        self.commit_seconds = 0.0
        """What the last commit took."""
        self._stop = threading.Event()
        self._handed: queue.Queue[_Batch | None] = queue.Queue(maxsize=1)
        self._fenced: queue.SimpleQueue[tuple[OffsetKey, int, int]] = queue.SimpleQueue()
        self._epochs: dict[OffsetKey, int] = {}
        self._gathered: dict[OffsetKey, int] = {}
        self._said: dict[OffsetKey, float] = {}
        """When each key was last said to be at its end."""
        self._since_commit = 0.0
        """The monotonic second of the last batch that was passed on, or tick."""
        self._failure: BaseException | None = None

    def stop(self) -> None:
        """Finish what is in hand, seal it, and return from `run`."""
        self._stop.set()

    def run(self) -> Totals:
        """Run until the source is finished or `stop` was called. Raises what stopped the writer."""
        keep_freed_memory()
        sealer = threading.Thread(target=self._seal_batches, name="seal")
        sealer.start()
        try:
            self._read()
        finally:
            self._hand_over(None)
            sealer.join()
            self.decoder.close()
            self.source.close()
        if self._failure is not None:
            raise self._failure
        return self.totals

    def _read(self) -> None:
        batch, self._since_commit = _Batch(), time.monotonic()
        while not self._stop.is_set() and self._failure is None:
            self._rewind_fenced(batch)
            polled = self.source.poll(0.0 if self.decoder.waiting else self._patience(batch))
            for stretch in self._stretches(polled):
                self._gather(batch, stretch)
                if self._is_full(batch):
                    batch = self._pass_on(batch)
            if polled.flush or self._is_due(batch, behind=bool(polled.chunks) and self.decoder.full):
                batch = self._pass_on(batch)
            if polled.flush:
                self._handed.join()
                self.source.flushed()
            if self.source.finished and not self.decoder.waiting:
                batch = self._pass_on(batch)
                if self._is_settled():
                    break
                continue
            if not batch.stretches and time.monotonic() - self._since_commit >= TICK_SECONDS:
                if self._is_settled():
                    self._tick()
                self._since_commit = time.monotonic()
        if self._failure is None:
            for stretch in self._stretches(Polled()):
                self._gather(batch, stretch)
            if batch.stretches:
                self._hand_over(batch)

    def _patience(self, batch: _Batch) -> float:
        """How long to wait for more before a batch is due, in seconds."""
        left = batch.since + self.pace.seconds - time.monotonic() if batch.stretches else POLL_SECONDS
        return max(0.0, min(POLL_SECONDS, left))

    def _is_settled(self) -> bool:
        """Whether all that was passed on is sealed: a batch still under way may yet be fenced."""
        self._handed.join()
        return self._fenced.empty()

    def _pass_on(self, batch: _Batch) -> _Batch:
        """Have a batch sealed, if there is something in it; the next one, empty."""
        if not batch.stretches:
            return batch
        self._complete(batch)
        self._hand_over(batch)
        self._since_commit = time.monotonic()
        return _Batch()

    def _stretches(self, polled: Polled) -> Iterator[Stretch]:
        """What chunks hold, in their order; none has more messages than a batch.

        While more comes, what is still being decoded is waited for only where there is no room for more.
        """
        for chunk in polled.chunks:
            while self.decoder.full:
                yield from self._taken()
            self.decoder.put(chunk, self._epochs.get(chunk.key, 0), self.clock())
        last = polled.flush or not polled.chunks or self.source.finished
        while self.decoder.waiting and (last or self.decoder.ready):
            yield from self._taken()

    def _taken(self) -> Iterator[Stretch]:
        chunk, epoch, fate = self.decoder.take()
        if epoch != self._epochs.get(chunk.key, 0):
            return  # reading went back since it came: it comes again
        if self.on_decoded is not None:
            self.on_decoded(chunk, fate)
        rest = stretch_of(chunk, fate)
        if self.first_refused is None:
            self.first_refused = _first_refused(rest)
        while len(rest.offsets) > self.pace.rows:
            first, rest = rest.divide(self.pace.rows)
            yield first
        yield rest

    def _gather(self, batch: _Batch, stretch: Stretch) -> None:
        if not batch.stretches:
            batch.since = time.monotonic()
        batch.stretches.append(stretch)
        self._gathered[stretch.key] = stretch.end
        batch.epochs[stretch.key] = self._epochs.get(stretch.key, 0)
        batch.rows += len(stretch.offsets)
        batch.bytes += stretch.values.nbytes

    def _complete(self, batch: _Batch) -> None:
        """Say of each key at its end that it is: in its own stretch, else now and then in an empty one."""
        last = {stretch.key: stretch for stretch in batch.stretches}
        for key, end, seen in self._ends():
            stretch = last.get(key)
            if stretch is None and not key.topic.startswith(FILE_PREFIX) and self._is_silent(key):
                stretch = Stretch.empty(key, end)
                batch.stretches.append(stretch)
                batch.epochs[key] = self._epochs.get(key, 0)
            if stretch is not None and stretch.end == end:
                stretch.complete = seen
                self._said[key] = time.monotonic()

    def _tick(self) -> None:
        self.writer.tick([(key, seen) for key, _, seen in self._ends()])

    def _ends(self) -> list[tuple[OffsetKey, int, datetime]]:
        now = self.clock()
        return [
            (key, end.offset, now - timedelta(seconds=end.age_seconds))
            for key, end in self.source.ended().items()
            if end.offset == self._reached(key)
        ]

    def _reached(self, key: OffsetKey) -> int | None:
        """Up to where `key` is in this batch or an earlier one: the source may have given more that waits."""
        if key in self._gathered:
            return self._gathered[key]
        position = self.writer.state.position(key)
        return position.to if position is not None else None

    def _is_silent(self, key: OffsetKey) -> bool:
        return time.monotonic() - self._said.get(key, -SILENT_SECONDS) >= SILENT_SECONDS

    def _is_full(self, batch: _Batch) -> bool:
        return batch.rows >= self.pace.rows or batch.bytes >= self.pace.bytes

    def _is_due(self, batch: _Batch, *, behind: bool) -> bool:
        patience = self.pace.seconds * (BEHIND if behind else 1.0)
        return bool(batch.stretches) and time.monotonic() - batch.since >= patience

    def _hand_over(self, batch: _Batch | None) -> None:
        while True:
            try:
                self._handed.put(batch, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def _rewind_fenced(self, batch: _Batch) -> None:
        while not self._fenced.empty():
            key, epoch, offset = self._fenced.get()
            if epoch < self._epochs.get(key, 0):
                continue  # a batch from before an earlier rewind; that one already went back far enough
            self._epochs[key] = epoch + 1
            batch.drop(key)
            self._gathered.pop(key, None)
            self.source.rewind(key, offset)

    def _seal_batches(self) -> None:
        while True:
            batch = self._handed.get()
            try:
                if batch is None:
                    return
                if self._failure is None:
                    self._seal(batch)
            except BaseException as error:  # noqa: BLE001 - kept, and raised by `run` in the caller's thread
                self._failure = error
            finally:
                self._handed.task_done()

    def _seal(self, batch: _Batch) -> None:
        begun = time.perf_counter()
        outcome = self.writer.commit(batch.stretches)
        self.commit_seconds = time.perf_counter() - begun
        for entry in outcome.entries:
            self.totals.add(entry)
            for row in entry.offsets:
                self.source.sealed(row.key, row.to)
            if self.on_commit is not None:
                self.on_commit(entry, self.totals)
        for key in outcome.fenced:
            position = self.writer.position(key)
            log.warning("fenced", topic=key.topic, partition=key.partition)
            self._fenced.put((key, batch.epochs[key], position.to if position else 0))


def _first_refused(stretch: Stretch) -> str | None:
    refused = np.flatnonzero(stretch.status == REJECTED)
    if not len(refused):
        return None
    aside = stretch.aside[int(refused[0])]
    return in_words(aside.reason, aside.field)
