"""The one who commits: turns batches into segments and entries, and holds the signing key."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import numpy as np

from ledger.errors import DamageError, Fenced, LedgerError, OutsideError, UsageError
from ledger.format.canonical import content_column
from ledger.format.manifest import (
    MAX_ENTRY_BYTES,
    Append,
    Compact,
    CompleteKey,
    Entry,
    Erase,
    Expire,
    Init,
    Key,
    OffsetKey,
    RetentionClass,
    SegmentRef,
    Tick,
    endorse_key,
    entry_bytes,
    instant,
    parse_instant,
    sign_entry,
)
from ledger.format.state import LiveFile, LogState, Position, Removed
from ledger.log.commit_log import Log, SealedEntries
from ledger.log.retention_classes import CLASSES, DEFAULT_CLASSES, Classes, classes_in_force
from ledger.log.signing import SigningKey
from ledger.sealing.batch import REJECTED, SetAside, Stretch
from ledger.sealing.kept_events import KeptEvents, kept_events_path, load_events, save_events
from ledger.sealing.new_events import Fresh, find_fresh, keep_fresh
from ledger.sealing.nonces import with_nonces
from ledger.sealing.sealed_files import Sealed, fits_an_entry, seal
from ledger.sealing.seen_events import HORIZON_DAYS, KEY_COLUMNS, MAX_EVENTS, SeenEvents
from ledger.sealing.segment import read_events
from ledger.storage.store import Store, committed_data

SOFTWARE: Final = "decision-ledger/0.1.0"
Answer = TypeVar("Answer")
MAX_ATTEMPTS: Final = 100
"""Races for the next entry that a commit may lose before it gives up."""
TICK_SECONDS: Final = 60
MAX_COMPLETE_KEYS: Final = 150
"""Keys that one tick names: as many of the longest topic names as fit an entry."""
_SWEPT_MARGIN: Final = timedelta(days=1)
"""For writers whose clocks differ."""
_SIGNATURE_ROOM: Final = 200
"""Bytes of `sig`, index and time that an entry gains after its size was judged."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch: the entries that sealed it, and the keys whose offsets had moved on."""

    entries: list[Append] = field(default_factory=list)
    fenced: list[OffsetKey] = field(default_factory=list)


class EntryTooLarge(LedgerError):
    """The batch needs more room than one entry has; it is divided and tried again."""


class Writer:
    """Appends to one ledger. Several writers may share a ledger; each has its own view of the log.

    Safe to use from one committing thread while other threads ask for `position`.
    """

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        *,
        name: str = "writer",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        horizon_days: int = HORIZON_DAYS,
        max_seen: int = MAX_EVENTS,
        remember: bool = True,
    ) -> None:
        self.store = store
        self.name = name
        self.clock = clock
        self.log = Log(store, key)
        self.seen = SeenEvents(max_seen)
        self._horizon_seconds = horizon_days * 86_400.0
        self._remember = remember
        self._numbers: dict[str, int] = {}
        self._segments: list[str] = []
        self._sealed_by: list[int] = []
        """The entry of each numbered segment."""
        self._lock = threading.RLock()
        self._foreign = 0
        self._unfolded: list[Entry] = []
        self._doomed: dict[str, Removed] = {}
        self.undeleted: dict[str, str] = {}
        """Files whose grace is over and that could not be deleted, each with the reason."""
        self._erasable_by: tuple[str, frozenset[str]] | None = None
        self.log.refresh()
        if not self.state.size:
            raise UsageError(
                f"There is no ledger at {store.url}.", "Make one with `decision-ledger init --origin NAME`."
            )
        self.log.keep()
        self._begin()

    @property
    def state(self) -> LogState:
        """What the log says, as of the last refresh."""
        return self.log.state

    def position(self, key: OffsetKey) -> Position | None:
        """How far `key` is sealed, in the log as it is now."""
        with self._lock:
            self.refresh()
            return self.state.position(key)

    def look(self, ask: Callable[[LogState], Answer]) -> Answer:
        """What `ask` says of the log as it is now; nothing changes it meanwhile."""
        with self._lock:
            self.refresh()
            return ask(self.state)

    def entries(self) -> Iterator[bytes]:
        """The log's entries as it is now, each read when it is asked for."""
        with self._lock:
            self.refresh()
            size = self.log.size
            # As it is read, one bundle after another: the newest is not in memory.
            return iter(SealedEntries(self.store, self.log.commits.tree, size, []))

    def classes(self) -> Classes:
        """The retention classes in force. Raises DamageError where they cannot be read."""
        with self._lock:
            return classes_in_force(self.state, self.store)

    def _erasable(self) -> frozenset[str]:
        """The classes whose events may be erased, and so carry a nonce."""
        digest = self.state.configs.get(CLASSES, "")
        if self._erasable_by is None or self._erasable_by[0] != digest:
            names = frozenset(name for name, one in self.classes().items() if one.erasable)
            self._erasable_by = (digest, names)
        return self._erasable_by[1]

    def refresh(self) -> None:
        """Take in what other writers committed."""
        with self._lock:
            self._fold(self.log.refresh())

    def commit(self, stretches: Sequence[Stretch]) -> Outcome:
        """Seal a batch, in as few entries as its segments and size allow, exactly once.

        Stretches of one key stand in offset order. Those of a key whose offsets another writer has
        moved on are dropped whole and named in the outcome.
        """
        outcome = Outcome()
        waiting = [list(stretches)]
        while waiting:
            batch = [s for s in waiting.pop(0) if s.key not in outcome.fenced]
            if not batch:
                continue
            if not fits_an_entry(batch):
                waiting[:0] = _halves(batch)
                continue
            try:
                outcome.entries.append(self._commit_batch(batch))
            except EntryTooLarge:
                waiting[:0] = _halves(batch)
            except Fenced:
                fenced = self._fenced_keys(batch)
                outcome.fenced += fenced
                waiting.insert(0, batch)
                if not fenced:
                    raise
        return outcome

    def tick(self, complete: Sequence[tuple[OffsetKey, datetime]] = ()) -> Entry | None:
        """Let the ledger's clock go on, where nothing was committed for TICK_SECONDS.

        `complete` are keys that this writer reads and the times when it saw their sources end where the
        ledger is: they are sealed whatever others committed, MAX_COMPLETE_KEYS of them at most.
        """
        with self._lock:
            self.refresh()
            if not complete and self.clock() - self.state.clock < timedelta(seconds=TICK_SECONDS):
                return None
            said = [
                CompleteKey(topic=key.topic, topic_id=key.topic_id, cluster=key.cluster,
                            partition=key.partition, complete=instant(seen))
                for key, seen in complete[:MAX_COMPLETE_KEYS]
            ]  # fmt: skip
            return self.put(Tick, {"complete": said})

    def put(self, kind: type[Any], values: dict[str, Any]) -> Entry:
        """Commit an entry that does not depend on what others commit meanwhile (it is judged each time)."""
        return self.put_when(lambda: (kind, values))

    def put_when(self, make: Callable[[], tuple[type[Any], dict[str, Any]]]) -> Entry:
        """Commit what `make` proposes, asked anew after each lost race. Raises what judging it raises."""
        with self._lock:
            for _ in range(MAX_ATTEMPTS):
                self.refresh()
                kind, values = make()
                entry = self._try(kind, values)
                if entry is not None:
                    self._fold(self.log.drain())
                    return entry
        raise _lost_every_race()

    def check_size(self, kind: type[Any], values: dict[str, Any]) -> None:
        """Raises EntryTooLarge where an entry of these values is larger than the format allows."""
        probe = kind(
            index=0, prev="0" * 64, time=instant(self.clock()), writer=self.name, software=SOFTWARE, **values
        )
        if len(entry_bytes(probe)) > MAX_ENTRY_BYTES - _SIGNATURE_ROOM:
            raise EntryTooLarge("The batch needs more than one entry.")

    def live_files(self) -> tuple[LiveFile, ...]:
        """The files that are live now; for threads beside the one that commits."""
        with self._lock:
            return tuple(self.state.files.values())

    def keep_catalogue(self) -> None:
        """Keep for the next start what the log says, where that is worth it, and which events are sealed."""
        with self._lock:
            self.log.keep()
            if self._remember and not self._unfolded:
                size, root = self.state.size, self.log.commits.tree.root()
                kept = KeptEvents(size, root, self.seen, self._segments, self._sealed_by)
                save_events(kept_events_path(self.store.url), kept)

    def sweep(self, *, early: bool = False, before: str | None = None) -> list[str]:
        """Delete files that a `compact`, `erase` or `expire` entry removed and whose grace is over.

        `early`: also those within it, for readers who would have to read the log anew. `before`: the time of
        the entry that is about to be appended.
        """
        # By the ledger's clock, which this entry may move: ours may have been set back since.
        now = max(self.clock(), self.state.clock, *([] if before is None else [parse_instant(before)]))
        due = [path for path, removed in self._doomed.items() if early or removed.deadline <= now]
        by_folder: dict[str, list[str]] = {}
        for path in due:
            by_folder.setdefault(path.rpartition("/")[0], []).append(path)
            self.undeleted.pop(path, None)
            try:
                self.store.delete(path)
            except LedgerError as error:
                # What is to be sealed does not wait for it: it is tried again with each entry, and by `gc`.
                self.undeleted[path] = error.message
        # Durable before the entry: else a power cut brings back a file whose grace that entry ends.
        for within in by_folder.values():
            try:
                self.store.sync(within[0])
            except LedgerError as error:
                self.undeleted.update(dict.fromkeys(within, error.message))
        gone = [path for path in due if path not in self.undeleted]
        for path in gone:
            del self._doomed[path]
        return gone

    def _commit_batch(self, batch: list[Stretch]) -> Append:
        sealed: Sealed | None = None
        fresh: Fresh | None = None
        judged_at = -1
        for _ in range(MAX_ATTEMPTS):
            with self._lock:
                self.refresh()
                self._check_continues(batch)
                if fresh is None or judged_at != self._foreign:
                    try:
                        again = find_fresh(batch, self.seen, self._sealed_content)
                    except DamageError:
                        if not (newer := self.log.refresh()):  # as in `_until_read`
                            raise
                        self._fold(newer)
                        continue
                    if sealed is not None and fresh is not None and not again.same_as(fresh):
                        self._discard(sealed)
                        sealed = None
                    fresh, judged_at = again, self._foreign
            if sealed is not None and self.state.collected.intersection(sealed.paths):
                sealed = None
            if sealed is None:
                kept = with_nonces(keep_fresh(batch, fresh), self._erasable())
                sealed = seal(kept, self.store, self.clock())
                try:
                    self.check_size(Append, _append_values(sealed))
                except EntryTooLarge:
                    self._discard(sealed)
                    raise
            with self._lock:
                if judged_at != self._foreign:
                    continue
                entry = self._try(Append, _append_values(sealed))
                if entry is not None:
                    self._remember_own(sealed, fresh)
                    assert isinstance(entry, Append)
                    return entry
        raise _lost_every_race()

    def _discard(self, sealed: Sealed) -> None:
        """Delete files of a batch that no entry names, and none will."""
        for path in sealed.paths:
            if not self.state.named(path):
                self.store.delete(path)

    def rotate(self, new: SigningKey) -> Key:
        """Seal that `new` signs from here on, and go on with it. Writers with the old key stop."""
        with self._lock:
            for _ in range(MAX_ATTEMPTS):
                self.refresh()
                entry: Key = endorse_key(
                    self._next(Key, {"vkey": new.signer.vkey}), self.log.origin, new.signer
                )
                signed: Key = sign_entry(entry, self.log.origin, self.log.key.signer)
                self.state.judge(signed)
                self.sweep(before=signed.time)
                if self.log.append(entry_bytes(signed), new_key=new):
                    self._fold(self.log.drain())
                    return signed
        raise _lost_every_race()

    def _next(self, kind: type[Any], values: dict[str, Any]) -> Any:
        """The entry that would come next, not signed yet."""
        return kind(
            index=self.log.size,
            prev=self.log.commits.tree.root().hex(),
            time=instant(self.clock()),
            writer=self.name,
            software=SOFTWARE,
            **values,
        )

    def _try(self, kind: type[Any], values: dict[str, Any]) -> Entry | None:
        signed: Entry = sign_entry(self._next(kind, values), self.log.origin, self.log.key.signer)
        self.state.judge(signed)
        # Before the ledger's clock passes their grace: a file that outlives it is damage.
        self.sweep(before=signed.time)
        return signed if self.log.append(entry_bytes(signed)) else None

    def _check_continues(self, batch: Iterable[Stretch]) -> None:
        ends: dict[tuple[str, str, int], int] = {}
        for stretch in batch:
            if stretch.replays is not None:
                if not self.state.replayed.isdisjoint(stretch.replays):
                    raise Fenced("One of these dead letters was already replayed.")
                continue
            position = self.state.position(stretch.key)
            expected = ends.get(stretch.key.identity, position.to if position else stretch.start)
            if expected != stretch.start:
                raise Fenced(
                    f"Offsets of {stretch.key.topic}/{stretch.key.partition} continue at {expected}, "
                    f"not at {stretch.start}."
                )
            ends[stretch.key.identity] = stretch.end

    def _fenced_keys(self, batch: Iterable[Stretch]) -> list[OffsetKey]:
        fenced: list[OffsetKey] = []
        for key in {stretch.key for stretch in batch}:
            try:
                self._check_continues(s for s in batch if s.key == key)
            except Fenced:
                fenced.append(key)
        return fenced

    def _remember_own(self, sealed: Sealed, fresh: Fresh) -> None:
        self.log.drain()
        if not self._remember:
            return
        kept = np.flatnonzero(~fresh.duplicate)
        for ref, rows in zip(sealed.segments, sealed.segment_rows, strict=True):
            at = kept[rows]
            keys = type(fresh.keys)(fresh.keys.high[at], fresh.keys.low[at])
            self.seen.add(keys, self._number(ref), np.arange(len(at)))
        self._forget_old()

    def _begin(self) -> None:
        """Take up what the log says: which events are to be remembered, which files may still have to go."""
        if self._remember:
            size = self._recall()
            self._until_read(lambda: self._fold_segments(self._newer_than(size)), lambda _: None)
        # Whoever appends an entry has deleted all whose grace was over by then: only later ones can be there.
        oldest = parse_instant(self.state.times[-1]) - _SWEPT_MARGIN
        self._doomed = {path: gone for path, gone in self.state.removed.items() if gone.deadline >= oldest}

    def _recall(self) -> int:
        """Take up what an earlier writer kept; how many entries it covers."""
        kept = load_events(kept_events_path(self.store.url), self.seen.max_events)
        tree = self.log.commits.tree
        if kept is None or kept.size > self.state.size or tree.root(kept.size) != kept.root:
            return 0
        self.seen, self._segments, self._sealed_by = kept.seen, kept.segments, kept.entries
        self._numbers = {path: number for number, path in enumerate(kept.segments)}
        self._forget_old()
        return kept.size

    def _newer_than(self, size: int) -> list[SegmentRef]:
        """The segments that entry `size` and later ones sealed, in log order."""
        newer: list[SegmentRef] = []
        for path in reversed(list(self.state.originals)):
            original = self.state.originals[path]
            if original.entry < size:
                break
            if isinstance(original.ref, SegmentRef):
                newer.append(original.ref)
        return newer[::-1]

    def _fold(self, entries: Iterable[Entry]) -> None:
        """Remember the events that others sealed."""
        # Kept until all are folded in: where a segment cannot be read now, the next refresh tries again.
        self._unfolded += entries
        self._until_read(self._fold_all, self._unfolded.extend)

    def _until_read(self, read: Callable[[], None], take: Callable[[list[Entry]], None]) -> None:
        """Have committed files read, again with the newer entries taken where there are some.

        Files that were live may have been merged away meanwhile, by a writer that leaves no grace.
        """
        while True:
            try:
                return read()
            except DamageError:
                if not (newer := self.log.refresh()):
                    raise
                take(newer)

    def _fold_all(self) -> None:
        self._watch_removed(self._unfolded)
        refs = [ref for entry in self._unfolded if isinstance(entry, Append) for ref in entry.segments]
        if refs:
            self._fold_segments(refs)
        self._unfolded = []

    def _fold_segments(self, refs: Sequence[SegmentRef]) -> None:
        self._foreign += 1
        if not self._remember:
            return
        oldest = self.state.first_within(self._horizon_seconds)
        wanted = {
            ref.path for ref in refs
            if self._sealed_at(ref) >= oldest and not self.state.originals[ref.path].expired
        }  # fmt: skip
        for ref in refs:
            if ref.path in wanted or self._segments:
                self._number(ref)
        for file in {path for name in wanted for path in self.state.where.get(name, [])}:
            self._fold_file(file, wanted)
        self._forget_old()

    def _watch_removed(self, entries: Sequence[Entry]) -> None:
        paths = [path for entry in entries if isinstance(entry, Compact | Erase) for path in entry.removed]
        if any(isinstance(entry, Expire) for entry in entries):
            paths = list(self.state.removed)
        for path in paths:
            self._doomed[path] = self.state.removed[path]

    def _fold_file(self, path: str, wanted: set[str]) -> None:
        columns = self._read(path, [*KEY_COLUMNS])
        for begin, end, hold in self.state.files[path].spans():
            if hold.segment in wanted:
                part = columns.slice(begin, end - begin)
                present = np.flatnonzero(part.column("event_id").is_valid().to_numpy())
                part = part.take(present)
                self.seen.add(self.seen.hashes(part), self._numbers[hold.segment], present + hold.from_)

    def _sealed_content(self, number: int, rows: Sequence[int]) -> list[bytes]:
        segment = self._segments[number]
        found: dict[int, bytes] = {}
        for file, places in self.state.located(segment, rows):
            picked = self._read(file.path).take(list(places.values()))
            found.update(zip(places, map(bytes, content_column(picked)), strict=True))
        # What has expired cannot be compared; as another content the event is kept, and marked.
        return [found.get(row, b"") for row in rows]

    def _read(self, path: str, columns: list[str] | None = None) -> Any:
        return read_events(committed_data(self.store, path), columns=columns)

    def _number(self, ref: SegmentRef) -> int:
        if ref.path not in self._numbers:
            self._numbers[ref.path] = len(self._segments)
            self._segments.append(ref.path)
            self._sealed_by.append(self._sealed_at(ref))
        return self._numbers[ref.path]

    def _sealed_at(self, ref: SegmentRef) -> int:
        return self.state.originals[ref.path].entry

    def _forget_old(self) -> None:
        # Segments are numbered in log order.
        oldest = self.state.first_within(self._horizon_seconds)
        self.seen.forget_before(bisect_left(self._sealed_by, oldest))


def create_ledger(
    store: Store,
    key: SigningKey,
    *,
    retention: dict[str, RetentionClass] | None = None,
    name: str = "init",
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Init:
    """Write entry 0, the first checkpoint and `ledger.json`. Raises UsageError where a ledger is."""
    log = Log(store, key)
    log.refresh()
    if log.size:
        raise UsageError(f"There is a ledger at {store.url} already.", "Use it, or choose another place.")
    entry = Init(
        index=0, prev=log.commits.tree.root().hex(), time=instant(clock()), writer=name, software=SOFTWARE,
        origin=key.signer.name, vkey=key.signer.vkey, retention=retention or dict(DEFAULT_CLASSES),
    )  # fmt: skip
    signed = sign_entry(entry, log.origin, key.signer)
    log.state.judge(signed)
    data = entry_bytes(signed)
    if not log.append(data):
        raise UsageError(f"Someone else has just made a ledger at {store.url}.", "Use that one.")
    store.create("ledger.json", ledger_json(data, key.signer.vkey))
    return signed


def ledger_json(entry: bytes, vkey: str) -> bytes:
    """The convenience copy of who the ledger is; never trusted over the log."""
    return b'{"init":' + entry + b',"vkey":"' + vkey.encode() + b'"}'


def _append_values(sealed: Sealed) -> dict[str, Any]:
    return {
        "segments": sealed.segments,
        "offsets": sealed.offsets,
        "deadletters": sealed.deadletters,
        "replays": sealed.replays,
    }


def _halves(batch: list[Stretch]) -> list[list[Stretch]]:
    if len(batch) > 1:
        middle = len(batch) // 2
        return [batch[:middle], batch[middle:]]
    messages = len(batch[0].offsets)
    if messages > 1:
        first, second = batch[0].divide(messages // 2)
        return [[first], [second]]
    only = batch[0]
    only.events, only.message = only.events.slice(0, 0), only.message[:0]
    only.status[:] = REJECTED
    only.aside[0] = SetAside("one message alone needs more than one commit can hold")
    return [[only]]


def _lost_every_race() -> OutsideError:
    return OutsideError(
        f"{MAX_ATTEMPTS} other commits were faster.", "Too many writers share this ledger; run fewer."
    )
