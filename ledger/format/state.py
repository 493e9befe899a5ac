"""The meaning of a log: a pure state machine fed its entries in order.

`LogState.apply` judges entry i against entries 0…i−1 only, and raises `InvalidEntry` for one that
breaks the rules of docs/ledger-format.md ("Validity"). Readers, writers and `verify` all use it,
so there is one opinion about which files are live, which offsets come next and what time it is.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from ledger.errors import Fenced
from ledger.format.manifest import (
    OBJECTS_PREFIX,
    Append,
    Compact,
    CompactedFile,
    Config,
    DeadLetterRef,
    Entry,
    Erase,
    Expire,
    Gc,
    HeldRows,
    HoldPlaced,
    Init,
    InvalidEntry,
    Key,
    OffsetKey,
    OffsetsRow,
    Release,
    SegmentRef,
    Tick,
    check_signature,
    ledger_key,
    parse_dead_letter_path,
    parse_entry,
    parse_event_path,
    parse_instant,
)
from ledger.format.note import VerifierKey

ENGINE_TOPIC = "ledger:detections"
START_OF_TIME = datetime(1, 1, 1, tzinfo=UTC)
STEADY_STEP_SECONDS = 3_600.0
"""What one entry may add to the steady clock; after an idle time it catches up within as many entries."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class Original:
    """A segment or dead-letter file as an `append` sealed it; its root outlives its file."""

    ref: SegmentRef | DeadLetterRef
    entry: int
    expired: bool = False
    erased: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file that must exist now. `holds` fill its rows in order, each as rows of its original segment."""

    path: str
    sha256: str
    bytes: int
    rows: int
    holds: tuple[HeldRows, ...]
    entry: int

    def spans(self) -> Iterator[tuple[int, int, HeldRows]]:
        """(begin, end, hold) of each hold, begin and end being row positions in this file."""
        edge = 0
        for hold in self.holds:
            end = edge + hold.to - hold.from_
            yield edge, end, hold
            edge = end

    def origin(self, row: int) -> tuple[str, int]:
        """The original segment, and the row there, of a row of this file. Raises IndexError."""
        for begin, end, hold in self.spans():
            if begin <= row < end:
                return hold.segment, hold.from_ + row - begin
        raise IndexError(row)


@dataclass(frozen=True, slots=True)
class Removed:
    """A file that a later entry replaced or expired; it may linger until `deadline` (ledger clock)."""

    path: str
    entry: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """How far a key is sealed: the next offset, and for files what was read and its hash."""

    key: OffsetKey
    to: int
    bytes: int | None = None
    prefix: str | None = None


class LogState:
    """Everything that the entries so far say. `vkey` pins entry 0's key where it is known."""

    def __init__(self, pinned: VerifierKey | None = None) -> None:
        self._pinned = pinned
        self.size = 0
        self.origin = ""
        self.keys: list[VerifierKey] = []
        self.init: Init | None = None
        self.clock = START_OF_TIME
        self.last_commit: str | None = None
        self.times: list[str] = []
        self.steady: list[float] = []
        """After each entry, a clock (POSIX seconds) that no single entry moves on by more than a step."""
        self.reached: list[float] = []
        """After each entry, the ledger's clock (POSIX seconds): the largest time so far."""
        self.positions: dict[tuple[str, str, int], Position] = {}
        self.originals: MutableMapping[str, Original] = {}
        self.files: MutableMapping[str, LiveFile] = {}
        self.where: MutableMapping[str, list[str]] = {}
        self.removed: MutableMapping[str, Removed] = {}
        self.collected: set[str] = set()
        self.legal_holds: dict[str, HoldPlaced] = {}
        self.configs: dict[str, str] = {}
        self.config_files: set[str] = set()
        self.replayed: set[tuple[str, int]] = set()

    @property
    def key(self) -> VerifierKey:
        """The key that signs from here on."""
        return self.keys[-1]

    def read(self, index: int, prev: bytes, data: bytes, *, signed: bool = True) -> Entry:
        """Parse and check one entry of the log, and take it in. Raises InvalidEntry; then nothing changed.

        `prev` is the root of the log before it. `signed=False` leaves the entry's own signature
        unchecked, for logs whose checkpoint was checked instead.
        """
        entry = parse_entry(data)
        if entry.index != index:
            raise InvalidEntry(f"Entry {index} says that it is entry {entry.index}.")
        if entry.prev != prev.hex():
            raise InvalidEntry(f"Entry {index} builds on another log: its `prev` is not the root before it.")
        if index == 0:
            origin, key = self._introduce(entry)
        else:
            origin, key = self.origin, self.key
        if signed:
            check_signature(entry, data, origin, key)
        try:
            self.apply(entry)
        except Fenced as error:
            # To the writer that proposes it such an entry is fenced; standing in the log it is invalid.
            raise InvalidEntry(f"Entry {index} is not valid: {error.message}") from None
        return entry

    def apply(self, entry: Entry) -> None:
        """Take in an entry whose signature is already checked. Raises InvalidEntry; then nothing changed."""
        self.judge(entry)
        match entry:
            case Init():
                self.init, self.origin = entry, entry.origin
                self.keys.append(VerifierKey.from_text(entry.vkey))
            case Append():
                self._take_append(entry)
            case Compact() | Erase():
                self._take_compact(entry)
            case Expire():
                self._take_expire(entry)
            case Gc():
                self.collected.update(entry.paths)
            case Config():
                self.configs[entry.name] = entry.sha256
                self.config_files.add(f"config/{entry.sha256}")
            case Key():
                self.keys.append(VerifierKey.from_text(entry.vkey))
            case HoldPlaced():
                self.legal_holds[entry.id] = entry
            case Release():
                del self.legal_holds[entry.id]
            case _:
                pass
        self.size += 1
        self._pass_time(entry.time)
        if not isinstance(entry, Tick):
            self.last_commit = entry.time

    def judge(self, entry: Entry) -> None:  # noqa: PLR0912 - one branch for each kind of entry
        """Raises InvalidEntry (or Fenced for offsets that moved on) unless the entry may come next."""
        if isinstance(entry, Init) != (self.size == 0):
            raise InvalidEntry("Entry 0, and no other, is `init`.")
        match entry:
            case Append():
                self._judge_append(entry)
            case Compact() | Erase():
                self._judge_compact(entry)
            case Expire():
                self._judge_expire(entry)
            case Gc():
                self._judge_gc(entry)
            case Config():
                self._judge_config(entry)
            case Key():
                if ledger_key(entry.vkey).name != self.origin:
                    raise InvalidEntry("A rotated key's name must be the ledger's origin.")
            case HoldPlaced():
                if entry.id in self.legal_holds:
                    raise InvalidEntry(f"The hold {entry.id} is in force already.")
            case Release():
                if entry.id not in self.legal_holds:
                    raise InvalidEntry(f"There is no hold {entry.id} to release.")
            case _:
                pass

    def position(self, key: OffsetKey) -> Position | None:
        """How far `key` is sealed, or None for a key never seen."""
        return self.positions.get(key.identity)

    def spans_of(self, segment: str) -> Iterator[tuple[LiveFile, int, int, HeldRows]]:
        """(file, begin, end, hold) wherever rows of an original segment lie now, as in `LiveFile.spans`."""
        for path in self.where.get(segment, []):
            for begin, end, hold in self.files[path].spans():
                if hold.segment == segment:
                    yield self.files[path], begin, end, hold

    def located(self, segment: str, rows: Iterable[int]) -> Iterator[tuple[LiveFile, dict[int, int]]]:
        """Each file that holds some of these rows of an original segment: by row, the position in it."""
        wanted = sorted(set(rows))
        for file, begin, _, hold in self.spans_of(segment):
            here = {row: begin + row - hold.from_ for row in wanted if hold.from_ <= row < hold.to}
            if here:
                yield file, here

    def judge_offsets(self, row: OffsetsRow) -> None:
        """Raises Fenced where `row` does not continue its key."""
        position = self.positions.get(row.key.identity)
        if position is not None and position.to != row.from_:
            raise Fenced(
                f"Offsets of {row.topic}/{row.partition} continue at {position.to}, not at {row.from_}.",
                "Another worker sealed them; read on from there.",
            )

    def named(self, path: str) -> bool:
        """True where some entry named this path, as a file that exists, existed or was collected."""
        return (
            path in self.files
            or path in self.originals
            or path in self.removed
            or path in self.collected
            or path in self.config_files
        )

    def pending(self, path: str) -> bool:
        """True for a removed file that may still lie there: the ledger's clock is within its grace.

        After the last entry its writer may be at it yet, or have died: whoever appends the next sees to it.
        """
        gone = self.removed.get(path)
        return gone is not None and (self.clock <= gone.deadline or gone.entry == self.size - 1)

    def first_within(self, seconds: float) -> int:
        """The first entry that is not older than so many seconds.

        Older means older by both clocks. One writer's clock that is days ahead moves the ledger's clock, and
        must not make all others forget what they sealed; after an idle time the steady clock runs to catch
        up, and must not make entries of the last minutes look old.
        """
        if not self.steady:
            return 0
        return min(bisect_left(clock, clock[-1] - seconds) for clock in (self.steady, self.reached))

    def _pass_time(self, time: str) -> None:
        when = parse_instant(time)
        self.times.append(time)
        self.clock = max(self.clock, when)
        seconds = when.timestamp()
        last = self.steady[-1] if self.steady else seconds
        self.steady.append(min(max(last, seconds), last + STEADY_STEP_SECONDS))
        self.reached.append(max(self.reached[-1], seconds) if self.reached else seconds)

    def _introduce(self, entry: Entry) -> tuple[str, VerifierKey]:
        if not isinstance(entry, Init):
            raise InvalidEntry("Entry 0 is not `init`.")
        key = ledger_key(entry.vkey)
        if key.name != entry.origin:
            raise InvalidEntry("The key of entry 0 does not bear the ledger's origin as its name.")
        if self._pinned is not None and key.text != self._pinned.text:
            raise InvalidEntry(
                f"This ledger's key is {key.text}, not the pinned {self._pinned.text}.",
                "It is another ledger, or a forged one.",
            )
        return entry.origin, key

    def _judge_append(self, entry: Append) -> None:
        seen: set[tuple[str, str, int]] = set()
        for row in entry.offsets:
            if row.key.identity in seen:
                raise InvalidEntry(f"Offsets of {row.topic}/{row.partition} stand twice in one entry.")
            seen.add(row.key.identity)
            self.judge_offsets(row)
            _judge_counts(row)
        if entry.offsets and entry.replays:
            raise InvalidEntry("An entry seals offsets or replays, not both.")
        refs: list[SegmentRef | DeadLetterRef] = [*entry.segments, *entry.deadletters]
        self._judge_new_paths([ref.path for ref in refs])
        for ref in entry.segments:
            _judge_segment(ref)
            if self.init and ref.retention not in self.init.retention and "classes" not in self.configs:
                raise InvalidEntry(f"Segment {ref.path} is of the unknown retention class {ref.retention}.")
        for letters in entry.deadletters:
            if parse_dead_letter_path(letters.path) is None:
                raise InvalidEntry(f"{letters.path} is no place for dead letters.")
        replays = [(replay.path, replay.row) for replay in entry.replays]
        for path, row_index in replays:
            original = self.originals.get(path)
            if (
                original is None
                or not isinstance(original.ref, DeadLetterRef)
                or row_index >= original.ref.rows
            ):
                raise InvalidEntry(f"There is no dead letter {row_index} in {path} to replay.")
            if (path, row_index) in self.replayed or replays.count((path, row_index)) > 1:
                raise Fenced(f"Dead letter {row_index} of {path} was already replayed.")

    def _judge_new_paths(self, paths: list[str]) -> None:
        for path in paths:
            if self.named(path) or paths.count(path) > 1:
                raise InvalidEntry(f"{path} was named before; a name is used once.")

    def _judge_compact(self, entry: Compact | Erase) -> None:
        self._placed(entry)
        self._judge_new_paths([file.path for file in entry.files])
        for file in entry.files:
            self._judge_output(file)
        if isinstance(entry, Erase):
            self._judge_erased(entry, {hold.segment for file in entry.files for hold in file.holds})

    def _placed(self, entry: Compact | Erase) -> list[tuple[HeldRows, ...]]:
        """For each file of the entry, its holds in rows of the original segments.

        The entry states positions in the new file; a segment's rows come in their order, through the
        entry's files, as the removed files held them.
        """
        inputs = self._live_inputs(entry.removed)
        waiting = _stretches(hold for file in inputs for hold in file.holds if not self._gone(hold.segment))
        placed = []
        for file in entry.files:
            edge, holds = 0, []
            for hold in file.holds:
                rows = hold.to - hold.from_
                stretches = waiting.get(hold.segment)
                if hold.from_ != edge or rows < 1:
                    raise InvalidEntry(f"The holds of {file.path} do not follow each other without gap.")
                if not stretches or stretches[0][1] - stretches[0][0] < rows:
                    raise InvalidEntry(
                        f"{file.path} holds rows of {hold.segment} that no file removed with it held."
                    )
                start, end = stretches.pop(0)
                holds.append(HeldRows(segment=hold.segment, from_=start, to=start + rows))
                if start + rows < end:
                    stretches.insert(0, (start + rows, end))
                edge = hold.to
            if edge != file.rows:
                raise InvalidEntry(f"The holds of {file.path} do not fill its rows.")
            placed.append(tuple(holds))
        if any(waiting.values()):
            raise InvalidEntry("A compaction does not hold exactly the rows of the files that it removes.")
        return placed

    def _live_inputs(self, paths: list[str]) -> list[LiveFile]:
        if len(set(paths)) != len(paths):
            raise InvalidEntry("A file is removed twice in one entry.")
        missing = [path for path in paths if path not in self.files]
        if missing:
            raise InvalidEntry(f"{missing[0]} is not live, so nothing can be made of it.")
        return [self.files[path] for path in paths]

    def _judge_output(self, file: CompactedFile) -> None:
        folder = file.path.rpartition("/")[0]
        for hold in file.holds:
            if hold.from_ >= hold.to:
                raise InvalidEntry(f"{file.path} holds no rows of {hold.segment} where it says {hold.from_}.")
            if hold.segment.rpartition("/")[0] != folder:
                raise InvalidEntry(f"{file.path} crosses a retention class or a date.")
        if parse_event_path(file.path) is None and parse_dead_letter_path(file.path) is None:
            raise InvalidEntry(f"{file.path} is no place for a segment.")

    def _judge_erased(self, entry: Erase, inputs: set[str]) -> None:
        for segment in sorted(inputs):
            if not self._gone(segment):
                self._judge_not_held(segment)
        for rows in entry.rows:
            original = self.originals.get(rows.segment)
            if original is None or original.expired or rows.segment not in inputs:
                raise InvalidEntry(f"{rows.segment} has no rows to erase in the files that are removed.")
            if rows.indexes and max(rows.indexes) >= original.ref.rows:
                raise InvalidEntry(f"{rows.segment} has no row {max(rows.indexes)}.")

    def _judge_expire(self, entry: Expire) -> None:
        assert self.init is not None  # size > 0, so entry 0 was taken in
        rule = self.init.retention.get(entry.class_)
        if rule is None and "classes" not in self.configs:
            raise InvalidEntry(f"There is no retention class {entry.class_}.")
        for path in entry.paths:
            original = self.originals.get(path)
            if original is None or original.expired:
                raise InvalidEntry(f"{path} is not a live segment, so it cannot expire.")
            day = day_of(path)
            if class_of(path) != entry.class_ or day >= date.fromisoformat(entry.cutoff):
                raise InvalidEntry(f"{path} is not of class {entry.class_} before {entry.cutoff}.")
            # Classes that were sealed later stand in a file: an entry is not judged by it, verify reads it.
            known = rule if "classes" not in self.configs else None
            if known is not None and (known.days is None or (self.clock.date() - day).days <= known.days):
                raise InvalidEntry(f"{path} is not due to expire yet.")
            self._judge_not_held(path)

    def _judge_gc(self, entry: Gc) -> None:
        for path in entry.paths:
            if path in self.files:
                raise InvalidEntry(f"{path} is live; gc takes left-overs only.")

    def _judge_config(self, entry: Config) -> None:
        if f"config/{entry.sha256}" in self.collected:
            raise InvalidEntry(f"config/{entry.sha256} was collected; its name is never used again.")

    def holds_on(self, path: str) -> Iterator[HoldPlaced]:
        """The holds that keep an original segment.

        A hold by trace or actor may cover any segment of its time: only the rows could tell, and an entry is
        judged by entries alone. What cannot be excluded counts as held.
        """
        ref = self.originals[path].ref
        for hold in self.legal_holds.values():
            match = hold.match
            if match.class_ is not None and match.class_ != class_of(path):
                continue
            if isinstance(ref, SegmentRef):
                if match.from_ is not None and ref.max_time < match.from_:
                    continue
                if match.to is not None and ref.min_time >= match.to:
                    continue
            yield hold

    def _judge_not_held(self, path: str) -> None:
        for hold in self.holds_on(path):
            raise InvalidEntry(f"{path} is held by {hold.id}: {hold.reason}.")

    def _gone(self, segment: str) -> bool:
        return self.originals[segment].expired

    def _take_append(self, entry: Append) -> None:
        for row in entry.offsets:
            self.positions[row.key.identity] = Position(row.key, row.to, row.bytes, row.prefix)
        refs: list[SegmentRef | DeadLetterRef] = [*entry.segments, *entry.deadletters]
        for ref in refs:
            self.originals[ref.path] = Original(ref, self.size)
            self._add_file(
                LiveFile(
                    ref.path,
                    ref.sha256,
                    ref.bytes,
                    ref.rows,
                    (HeldRows(segment=ref.path, from_=0, to=ref.rows),),
                    self.size,
                )
            )
        self.replayed.update((replay.path, replay.row) for replay in entry.replays)

    def _take_compact(self, entry: Compact | Erase) -> None:
        placed = self._placed(entry)
        deadline = self._deadline(entry)
        for path in entry.removed:
            self._remove_file(path, deadline)
        for file, holds in zip(entry.files, placed, strict=True):
            self._add_file(LiveFile(file.path, file.sha256, file.bytes, file.rows, holds, self.size))
        if isinstance(entry, Erase):
            for rows in entry.rows:
                self.originals[rows.segment].erased.update(rows.indexes)

    def _take_expire(self, entry: Expire) -> None:
        deadline = self._deadline(entry)
        for path in entry.paths:
            self.originals[path].expired = True
        touched = {file for path in entry.paths for file in self.where.get(path, [])}
        for path in touched:
            if all(self._gone(hold.segment) for hold in self.files[path].holds):
                self._remove_file(path, deadline)

    def _deadline(self, entry: Compact | Erase | Expire) -> datetime:
        """Its grace from the ledger's clock on, as the entry leaves it: idle time before does not count."""
        try:
            return max(self.clock, parse_instant(entry.time)) + timedelta(seconds=entry.grace)
        except OverflowError:
            return END_OF_TIME

    def _add_file(self, file: LiveFile) -> None:
        self.files[file.path] = file
        for segment in {hold.segment for hold in file.holds}:
            self.where.setdefault(segment, []).append(file.path)

    def _remove_file(self, path: str, deadline: datetime) -> None:
        file = self.files.pop(path)
        for segment in {hold.segment for hold in file.holds}:
            self.where[segment].remove(path)
        self.removed[path] = Removed(path, self.size, deadline)


def _judge_counts(row: OffsetsRow) -> None:
    name = f"{row.topic}/{row.partition}"
    if row.to < row.from_:
        raise InvalidEntry(f"Offsets of {name} run backwards, from {row.from_} to {row.to}.")
    if row.topic == ENGINE_TOPIC:
        return
    edge, ranged = row.from_, 0
    for start, end in sorted([*row.skipped, *row.lost]):
        if start < edge or end <= start or end > row.to:
            raise InvalidEntry(f"Offsets of {name} have a range {start}–{end} that overlaps or lies outside.")
        edge, ranged = end, ranged + end - start
    counted = sum(n or 0 for n in (row.accepted, row.duplicate, row.ignored, row.rejected))
    if counted + ranged != row.to - row.from_:
        raise InvalidEntry(
            f"Offsets of {name} do not add up: {counted} messages and {ranged} in ranges, "
            f"but {row.to - row.from_} from {row.from_} to {row.to}."
        )
    _judge_objects(row)


def _judge_objects(row: OffsetsRow) -> None:
    edge = row.from_
    for part in row.objects or ():
        if part.from_ != edge or part.to < part.from_:
            raise InvalidEntry(
                f"Objects of {row.topic} do not follow one another: {part.from_} to {part.to} after {edge}."
            )
        edge = part.to
    if edge != row.to and (row.objects or row.topic.startswith(OBJECTS_PREFIX)):
        raise InvalidEntry(f"Objects of {row.topic} account for records up to {edge}, not {row.to}.")


def _judge_segment(ref: SegmentRef) -> None:
    if parse_event_path(ref.path) != (ref.retention, ref.date):
        raise InvalidEntry(f"{ref.path} is no place for a segment of {ref.retention} on {ref.date}.")
    if sum(ref.kinds.values()) != ref.rows:
        raise InvalidEntry(f"The kinds of {ref.path} do not add up to its {ref.rows} rows.")
    if not (ref.min_time[:10] == ref.max_time[:10] == ref.date and ref.min_time <= ref.max_time):
        raise InvalidEntry(f"The times of {ref.path} do not lie on {ref.date}.")


def _stretches(holds: Iterable[HeldRows]) -> dict[str, list[tuple[int, int]]]:
    """By segment, its row ranges, sorted, with neighbours merged."""
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for hold in holds:
        ranges[hold.segment].append((hold.from_, hold.to))
    merged: dict[str, list[tuple[int, int]]] = {}
    for segment, pairs in ranges.items():
        out: list[tuple[int, int]] = []
        for start, end in sorted(pairs):
            if out and out[-1][1] == start:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        merged[segment] = out
    return merged


def class_of(path: str) -> str:
    """The retention class of an original segment; dead letters are of `standard`."""
    parts = parse_event_path(path)
    return parts[0] if parts else "standard"


def day_of(path: str) -> date:
    """The UTC date of an original segment or file of dead letters."""
    parts = parse_event_path(path)
    text = parts[1] if parts else parse_dead_letter_path(path)
    return date.fromisoformat(text or "9999-12-31")
