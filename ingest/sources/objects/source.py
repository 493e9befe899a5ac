"""Objects as a source: what lies in a bucket or folder, each version once, in passes over the listing.

The stream is `objects:` and a name, its offset the running number of a record; the sealed offsets name the
objects, so that a pass knows by listing what is new. Nothing is remembered of where a listing ended: objects
arrive late, and under names that sort before others.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Final

import structlog

from ingest.decoded import Limits
from ingest.sources import Ended, Polled
from ingest.sources.files.decompress import Bounds
from ingest.sources.objects.chunking import ChunkMaker
from ingest.sources.objects.places import Place, Replaced, Version
from ingest.sources.objects.reader import ObjectReader
from ingest.sources.objects.sealed_objects import SealedObjects
from ledger.errors import LedgerError, OutsideError
from ledger.format.manifest import MAX_OBJECT_KEY_CHARS, OBJECTS_PREFIX, OffsetKey
from ledger.format.plain_text import plain

LOOK_SECONDS: Final = 60.0
FULL_LOOK_SECONDS: Final = 86_400.0
RECENT_DAYS: Final = 7
"""Folders of earlier days are looked into by the first pass and once a day."""
WHOLE_BYTES: Final = 4 * 1024 * 1024
"""Objects up to this size are fetched ahead; larger ones are read when their turn comes."""
FETCHED_AHEAD: Final = 16
FETCHERS: Final = 8
LISTED_AT_ONCE: Final = 1_000
PASSES: Final = 3
"""How often objects that are replaced while they are read are looked for again."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Waiting:
    version: Version
    skip: int
    whole: Future[bytes] | None


class ObjectSource:
    """Chunks of one stream of objects; see `ingest.sources.Source`.

    `sealed` reads from the ledger which versions it has, `position` how far the stream is sealed. `wanted`
    says which names are taken.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        position: Callable[[OffsetKey], int],
        sealed: Callable[[OffsetKey], SealedObjects],
        *,
        follow: bool = False,
        wanted: Callable[[str], bool] = lambda key: True,
        limits: Limits | None = None,
        bounds: Bounds | None = None,
        look_seconds: float = LOOK_SECONDS,
        full_look_seconds: float = FULL_LOOK_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.key = OffsetKey(f"{OBJECTS_PREFIX}{name}")
        self._place = place
        self._position = position
        self._sealed = sealed
        self._follow = follow
        self._wanted = wanted
        self._record_bytes = (limits or Limits()).message_bytes
        self._bounds = bounds or Bounds()
        self._look_seconds, self._full_look_seconds = look_seconds, full_look_seconds
        self._now, self._wait = now, wait
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        self._waiting: deque[_Waiting] = deque()
        self._reader: ObjectReader | None = None
        self._listing: Iterator[Version] | None = None
        self._failure: LedgerError | None = None
        """The first of this pass."""
        self._failed = 0
        self._replaced = 0
        self._in_pass = False
        self._passes = 0
        self._looked = self._looked_fully = -float("inf")
        self._ended: tuple[int, float] | None = None
        self._all_sealed = False
        self._known, self._offset = SealedObjects(), 0
        self._begin()

    @property
    def finished(self) -> bool:
        """True when a pass over everything is through and nothing is left to say."""
        return not (self._follow or self._failure or self._in_pass or self._again) and self._passes > 0

    @property
    def _again(self) -> bool:
        """Whether a run that does not follow has to look once more."""
        return bool(self._replaced) and self._passes < PASSES

    def poll(self, timeout: float) -> Polled:
        """The records of about one chunk.

        Raises OutsideError for objects that could not be read, unless following, after asking for all that
        was handed over to be sealed.
        """
        deadline = time.monotonic() + timeout
        chunk = ChunkMaker(self.key, self._offset, self._record_bytes)
        while not chunk.full:
            # What this chunk holds is not known yet: a pass that began now would find it again.
            if not self._in_pass and not (chunk.empty and self._start_pass()):
                break
            left = max(0.0, deadline - time.monotonic())
            if not self._step(chunk, left) or time.monotonic() >= deadline:
                break
        if chunk.empty:
            if self._failure is not None and not (self._in_pass or self._follow):
                if self._all_sealed:
                    raise self._told(self._failure)
                return Polled(flush=True)
            if self._follow and not self._in_pass:
                self._wait(max(0.0, min(deadline - time.monotonic(), self._look_seconds)))
            return Polled()
        self._all_sealed = False
        made = chunk.made()
        self._offset = made.end
        self._known.take(made.objects or ())
        return Polled([made])

    def flushed(self) -> None:
        """All that was handed over is sealed."""
        self._all_sealed = True

    def sealed(self, key: OffsetKey, offset: int) -> None:
        """Nothing is kept for what is sealed."""

    def rewind(self, key: OffsetKey, offset: int) -> None:
        """Another worker sealed the stream: begin anew with what the ledger has."""
        self._drop_fetched()
        self._reader, self._listing, self._in_pass = None, None, False
        self._passes, self._failure, self._failed = 0, None, 0
        self._looked = self._looked_fully = -float("inf")
        self._begin()

    def lag(self) -> dict[OffsetKey, int]:
        """Objects that were listed and not read: how many records they hold, nobody knows yet."""
        return {self.key: len(self._waiting) + (self._reader is not None)}

    def ended(self) -> dict[OffsetKey, Ended]:
        """The stream, where the last pass found nothing that was not handed over."""
        if self._ended is None or self._ended[0] != self._offset:
            return {}
        return {self.key: Ended(self._offset, time.monotonic() - self._ended[1])}

    def close(self) -> None:
        """Stop fetching."""
        self._drop_fetched()
        self._fetchers.shutdown(wait=True, cancel_futures=True)

    def _begin(self) -> None:
        # In this order: what another worker seals in between is known then, and the position is fenced.
        self._offset = self._position(self.key)
        self._known = self._sealed(self.key)
        self._ended = None

    def _start_pass(self) -> bool:
        """Look again, if it is time; whether it is."""
        now = time.monotonic()
        if not self._follow and self._passes and not self._again:
            return False
        if self._follow and now - self._looked < self._look_seconds:
            return False
        if self._passes:
            self._failure, self._failed = None, 0  # what failed is tried again
        full = now - self._looked_fully >= self._full_look_seconds or not self._follow
        self._looked = now
        if full:
            self._looked_fully = now
        since: date = self._now().date() - timedelta(days=RECENT_DAYS)
        self._listing = self._place.everything() if full else self._place.since(since)
        self._replaced = 0
        self._in_pass = True
        return True

    def _step(self, chunk: ChunkMaker, wait_seconds: float) -> bool:
        """Go on with one object; False where nothing is there within the time."""
        self._fill()
        if self._reader is None and self._waiting:
            try:
                self._reader = self._opened(wait_seconds)
            except FutureTimeout:
                return False
        if self._reader is not None:
            self._read(self._reader, chunk)
            return True
        if self._listing is None and not self._waiting:
            self._finish_pass()
            return False
        return True

    def _finish_pass(self) -> None:
        self._passes += 1
        self._in_pass = False
        if self._failed or self._replaced:
            self._looked_fully = -float("inf")  # the next pass leaves no folder out
        else:
            self._ended = (self._offset, self._looked)
        if self._follow:
            if self._failure is not None:
                log.warning("objects not read", error=self._failure.message, count=self._failed)
        elif self._replaced and self._passes >= PASSES:
            self._fail(
                OutsideError(
                    f"{self._replaced} objects of {self._place.url} changed or went while they were read.",
                    "Run it again when nobody writes there.",
                )
            )

    def _fill(self) -> None:
        """Have the next objects fetched."""
        for _ in range(LISTED_AT_ONCE):
            if self._listing is None or len(self._waiting) >= FETCHED_AHEAD:
                return
            try:
                version = next(self._listing, None)
            except LedgerError as error:
                self._fail(error)
                version = None
            if version is None:
                self._listing = None
                return
            skip = self._due(version)
            if skip is not None:
                whole = self._fetchers.submit(self._fetch, version) if version.size <= WHOLE_BYTES else None
                self._waiting.append(_Waiting(version, skip, whole))

    def _due(self, version: Version) -> int | None:
        """How many records of it are known, None where it is not to be read."""
        if not version.size or not self._wanted(version.key):
            return None  # what is empty is often the mark of a folder, and holds no record
        if len(version.key) > MAX_OBJECT_KEY_CHARS or not version.etag:
            self._fail(
                OutsideError(f"{version.key[:80]}… has a name that is too long, or no ETag.", "Leave it out.")
            )
            return None
        skip = self._known.records(version.key, version.etag)
        if skip is not None and self._known.is_rewritten(version.key, version.etag):
            log.warning("object-rewritten", key=plain(version.key))
        return skip

    def _fetch(self, version: Version) -> bytes:
        body = self._place.open(version.key, version.etag)
        parts: list[bytes] = []
        while part := body.read(WHOLE_BYTES):
            parts.append(part)
            if sum(map(len, parts)) > WHOLE_BYTES:
                raise Replaced  # it has grown since it was listed
        return b"".join(parts)

    def _opened(self, wait_seconds: float) -> ObjectReader | None:
        first = self._waiting[0]
        try:
            if first.whole is not None:
                read: Callable[[int], bytes] = BytesIO(first.whole.result(wait_seconds)).read
            else:
                read = self._place.open(first.version.key, first.version.etag).read
        except Replaced:
            self._replaced += 1
            self._waiting.popleft()
            return None
        except LedgerError as error:
            self._fail(error)
            self._waiting.popleft()
            return None
        self._waiting.popleft()
        return ObjectReader(
            first.version, read, skip=first.skip, record_bytes=self._record_bytes, bounds=self._bounds
        )

    def _read(self, reader: ObjectReader, chunk: ChunkMaker) -> None:
        try:
            records = reader.step()
        except Replaced:
            self._replaced += 1
            self._reader = None
            return
        except LedgerError as error:
            self._fail(error)
            self._reader = None
            return
        chunk.add(reader.version, records, end=reader.done, fault=reader.fault)
        if reader.done:
            self._reader = None

    def _fail(self, error: LedgerError) -> None:
        self._failure = self._failure or error
        self._failed += 1
        self._all_sealed = False

    def _told(self, failure: LedgerError) -> LedgerError:
        if self._failed > 1:
            failure.message += f" (And {self._failed - 1:,} more of its objects cannot be read.)"
            self._failed = 1
        return failure

    def _drop_fetched(self) -> None:
        for one in self._waiting:
            if one.whole is not None:
                one.whole.cancel()
        self._waiting.clear()
