"""The commit protocol under every interleaving of writers, crashes, stalls and lost answers.

The generators of `ledger.log.protocol` run as they are; only what performs their steps is a model. A
state is what the store holds, where each process stands, what each key remembers, and which writes
are still under way. A process stands where its view at the start of the round and the answers since
then put it: feeding the same answers to a fresh generator gives the same next step, so states that
agree in these are one state, and every state within the bounds is visited once. A stall is a process
that is not moved while others are, so it needs no step of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from ledger.errors import DamageError
from ledger.format.manifest import InvalidEntry
from ledger.format.merkle import EMPTY_ROOT, Tree, leaf_hash, root
from ledger.format.tiles import bundles_for_size, decode_bundle, entries_path, hash_tile_path, tiles_added
from ledger.log.commit_log import read_entries
from ledger.log.protocol import (
    CHECKPOINT,
    Answer,
    CommitLog,
    Create,
    Delete,
    Publish,
    Read,
    SignHead,
    Step,
    Sync,
)

Entries = tuple[bytes, ...]
Label = tuple[object, ...]
"""What happened, put into words only where it led to a violation."""
CRASH = "crash"


class Violation(Exception):
    """The protocol broke a promise, in the state that the explorer names."""


@dataclass(frozen=True)
class Bounds:
    """What is explored. `payloads` says how many entries each writer wants committed.

    Without `tiles` hash tiles cost no step: what they hold follows from the entries alone.
    """

    payloads: tuple[int, ...]
    width: int = 3
    tile_bits: int = 8
    tiles: bool = True
    start: int = 1
    crashes: int = 1
    unknowns: int = 0
    shared_key: bool = False
    power_losses: int = 0
    readers: int = 0


@dataclass(frozen=True)
class Kept:
    """Ask for the head that this host's key last signed."""


class View(NamedTuple):
    """What a writer carries from one round into the next."""

    entries: Entries = ()
    published: int = 0
    tiled: int = 0


class Stand(NamedTuple):
    """Where a process stands: its view when the round began, and the answers since."""

    process: int
    view: View
    answers: tuple[Any, ...]


@dataclass(eq=False, slots=True)
class Place:
    """What is known of a stand: the step it waits for (None: done), and the entries it believes in.

    There is one object for each stand, so that comparing and hashing states is cheap.
    """

    stand: Stand
    step: Step | Kept | None
    believed: Entries
    view: View | None = None
    after: dict[Any, Place] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Content:
    """What the store holds, and `volatile` paths that a power loss may take. One object for each."""

    objects: dict[str, bytes]
    volatile: frozenset[str]
    truth: Entries | None = None
    after: dict[Any, Content] = field(default_factory=dict)


class State(NamedTuple):
    """One state of everything. `linked` marks writers between making a file visible and durable."""

    content: Content
    keys: tuple[bytes, ...]
    places: tuple[Place, ...]
    linked: tuple[bool, ...]
    late: frozenset[tuple[str, bytes]]
    crashes: int
    unknowns: int
    power_losses: int


class Journal:
    """A light receiver: an entry is `index|prev|payload`, and a payload is taken once."""

    origin = "model"

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.payloads: set[bytes] = set()

    def read(self, index: int, prev: bytes, data: bytes) -> None:
        """Raises InvalidEntry for a wrong index, a wrong prev, or a payload seen before."""
        stated, before, payload = data.split(b"|")
        if (int(stated), before) != (index, prev.hex().encode()):
            raise InvalidEntry(f"{data!r} does not come at {index} after {prev.hex()}.")
        if payload in self.payloads:
            raise InvalidEntry(f"{payload!r} stands twice.")
        self.payloads.add(payload)
        self.entries.append(data)


MakeLog = Callable[[Journal, Bounds], CommitLog]


def real_log(journal: Journal, bounds: Bounds) -> CommitLog:
    """The protocol as the product runs it."""
    return CommitLog(journal, width=bounds.width, tile_bits=bounds.tile_bits)


def entry_of(before: list[bytes] | Entries, payload: str) -> bytes:
    """The entry that carries `payload` after the entries `before`."""
    return f"{len(before)}|{root(list(map(leaf_hash, before))).hex()}|{payload}".encode()


def note_of(size: int, digest: bytes) -> bytes:
    """A checkpoint of the model; nothing is signed here."""
    return b"%d %s" % (size, digest.hex().encode())


def size_and_root(note: bytes | None) -> tuple[int, bytes]:
    """What a checkpoint says; the empty log where there is none."""
    if note is None:
        return 0, EMPTY_ROOT
    size, digest = note.split(b" ")
    return int(size), bytes.fromhex(digest.decode())


def one_round(log: CommitLog, journal: Journal, payloads: list[str]) -> Generator[Any, Any, bool]:
    """What a writer does between two looks around, as `Log.refresh` and `Writer` do it. False: all done."""
    kept_size, kept_root = size_and_root((yield Kept()))
    size, digest = size_and_root((yield Read(CHECKPOINT)))
    yield from log.refresh(size)
    for what, known, wanted in (("checkpoint", size, digest), ("kept head", kept_size, kept_root)):
        if known > log.size or log.tree.root(known) != wanted:
            raise DamageError(f"The {what} of {known} does not fit the log's {log.size} entries.")
    log.published = max(log.published, size)
    if log.published < log.size:
        yield from log.publish()
    wanted_next = [payload for payload in payloads if payload.encode() not in journal.payloads]
    if not wanted_next:
        return False
    if (yield from log.append(entry_of(journal.entries, wanted_next[0]))):
        yield from log.publish()
    return True


class _Unanswered(BaseException):
    def __init__(self, step: Step) -> None:
        self.step = step


class _AnsweredReads:
    """Lets straight-line reading code be replayed like a generator."""

    def __init__(self, answers: tuple[Any, ...]) -> None:
        self._answers = iter(answers)

    def read(self, path: str) -> bytes | None:
        for answer in self._answers:
            return answer  # type: ignore[no-any-return]  # the answers to Read are bytes or None
        raise _Unanswered(Read(path))


@dataclass
class Model:
    """The transitions and the invariants, both remembered by what they depend on."""

    bounds: Bounds
    make_log: MakeLog = real_log
    places: dict[Stand, Place] = field(default_factory=dict)
    contents: dict[tuple[frozenset[tuple[str, bytes]], frozenset[str]], Content] = field(default_factory=dict)

    @property
    def writers(self) -> int:
        return len(self.bounds.payloads)

    def first(self) -> State:
        """The log as `init` leaves it: `start` entries, tiled and published."""
        log = real_log(Journal(), self.bounds)
        content: dict[str, bytes] = {}
        keys = [b""]

        def perform(step: Step) -> Answer:
            match step:
                case Create(path, data):
                    content[path] = data
                    return True
                case SignHead(head):
                    keys[0] = note_of(head.size, head.root)
                    return keys[0]
                case Publish(note, size):
                    content[CHECKPOINT] = note
                    return size
                case Delete(path):
                    content.pop(path, None)
                    return None
                case _:
                    return None

        assert isinstance(log.receiver, Journal)
        for number in range(self.bounds.start):
            for steps in (log.append(entry_of(log.receiver.entries, f"start{number}")), log.publish()):
                answer: Answer = None
                try:
                    while True:
                        answer = perform(steps.send(answer))
                except StopIteration:
                    pass
        processes = self.writers + self.bounds.readers
        key_count = 1 if self.bounds.shared_key else self.writers
        state = State(
            self.content(content, frozenset()),
            tuple(keys * key_count),
            tuple(self.fresh(number) for number in range(processes)),
            (False,) * processes,
            frozenset(),
            self.bounds.crashes,
            self.bounds.unknowns,
            self.bounds.power_losses,
        )
        for process in range(self.writers):
            state = self._settled(state, process)
        return state

    def content(self, objects: dict[str, bytes], volatile: frozenset[str]) -> Content:
        """The one object for this content."""
        name = (frozenset(objects.items()), volatile)
        return self.contents.setdefault(name, Content(objects, volatile))

    def place(self, stand: Stand) -> Place:
        """Replay a process up to where it stands."""
        known = self.places.get(stand)
        if known is None:
            replayed = self._replay_writer if stand.process < self.writers else self._replay_reader
            known = self.places[stand] = replayed(stand)
        return known

    def fresh(self, process: int) -> Place:
        """A process that has just started."""
        return self.place(Stand(process, View(), ()))

    def answered(self, place: Place, answer: Any) -> Place:
        """Where a process stands after its answer, and after the steps that nobody can notice."""
        known = place.after.get(answer)
        if known is None:
            stand = place.stand._replace(answers=(*place.stand.answers, answer))
            known = self.place(stand)
            if known.view is not None:
                known = self.place(Stand(stand.process, known.view, ()))
            elif isinstance(known.step, Sync) and not self.bounds.power_losses:
                known = self.answered(known, None)
            elif isinstance(known.step, Create) and not self.bounds.tiles and not _is_bundle(known.step.path):
                known = self.answered(known, True)
            place.after[answer] = known
        return known

    def _replay_writer(self, stand: Stand) -> Place:
        journal = Journal()
        log = self.make_log(journal, self.bounds)
        tree = Tree()
        for index, data in enumerate(stand.view.entries):
            journal.read(index, tree.root(), data)
            tree.append(leaf_hash(data))
            log._grow([data])
        log.published, log.tiled = stand.view.published, stand.view.tiled
        payloads = [f"w{stand.process}.{n}" for n in range(self.bounds.payloads[stand.process])]
        steps = one_round(log, journal, payloads)
        try:
            step = next(steps)
            for answer in stand.answers:
                step = steps.send(answer)
        except StopIteration as done:
            view = View(tuple(journal.entries), log.published, log.tiled) if done.value else None
            return Place(stand, None, tuple(journal.entries), view)
        except DamageError as error:
            raise Violation(f"writer {stand.process} refuses a sound log: {error}") from error
        return Place(stand, step, tuple(journal.entries))

    def _replay_reader(self, stand: Stand) -> Place:
        """A reader of the product: the checkpoint, then the entries that it covers."""
        if not stand.answers:
            return Place(stand, Read(CHECKPOINT), ())
        size, digest = size_and_root(stand.answers[0])
        store: Any = _AnsweredReads(stand.answers[1:])
        try:
            entries = read_entries(store, size, width=self.bounds.width)
        except _Unanswered as pending:
            return Place(stand, pending.step, ())
        except DamageError as error:
            raise Violation(f"a reader refuses a sound log: {error}") from error
        if root(list(map(leaf_hash, entries))) != digest:
            raise Violation(f"a reader of checkpoint {size} got other entries than it covers")
        return Place(stand, None, tuple(entries))

    def moved(self, state: State, process: int, answer: Any, **changes: Any) -> State:
        """`state` after `process` got its answer."""
        place = self.answered(state.places[process], answer)
        return self._settled(state._replace(places=_with(state.places, process, place), **changes), process)

    def _settled(self, state: State, process: int) -> State:
        """Nobody else can change what a key remembers, unless it is shared: looking needs no step."""
        if isinstance(state.places[process].step, Kept) and not self.bounds.shared_key:
            return self.moved(state, process, state.keys[process])
        return state

    def _with_object(
        self, content: Content, path: str, data: bytes | None, volatile: bool = False
    ) -> Content:
        """`content` with `path` set, or deleted where `data` is None."""
        change = (path, data, volatile)
        known = content.after.get(change)
        if known is None:
            objects = {name: held for name, held in content.objects.items() if name != path}
            if data is not None:
                objects[path] = data
            unsafe = content.volatile | {path} if volatile else content.volatile - {path}
            known = content.after[change] = self.content(objects, unsafe)
        return known

    def _synced(self, content: Content, path: str) -> Content:
        """`content` once the folder of `path` and the folders above it are durable."""
        if not content.volatile:
            return content
        folder = path.rpartition("/")[0]
        volatile = frozenset(
            name for name in content.volatile if not f"{folder}/".startswith(name.rpartition("/")[0] + "/")
        )
        return self.content(content.objects, volatile)

    def successors(self, state: State) -> Iterator[tuple[Label, State]]:
        """Every state that may come next, with what happens."""
        for process in range(len(state.places)):
            yield from self._steps_of(state, process)
        yield from self._mishaps(state)

    def _steps_of(self, state: State, process: int) -> Iterator[tuple[Label, State]]:
        step = state.places[process].step
        objects = state.content.objects
        name = (process, step)
        match step:
            case None:
                return
            case Kept():
                yield name, self.moved(state, process, state.keys[self._key(process)])
            case Read(path):
                yield name, self.moved(state, process, objects.get(path))
            case Create(path, data):
                yield from self._create(state, process, path, data)
            case Sync(path):
                yield name, self.moved(state, process, None, content=self._synced(state.content, path))
            case Delete(path):
                yield (
                    name,
                    self.moved(state, process, None, content=self._with_object(state.content, path, None)),
                )
            case SignHead():
                yield name, self._sign(state, process, step)
            case Publish(note, size):
                present = objects.get(CHECKPOINT)
                standing = size_and_root(present)[0]
                if present is not None and standing >= size:
                    yield name, self.moved(state, process, standing)
                else:
                    content = self._with_object(state.content, CHECKPOINT, note)
                    yield name, self.moved(state, process, size, content=content)

    def _create(self, state: State, process: int, path: str, data: bytes) -> Iterator[tuple[Label, State]]:
        name = (process, Create.__name__, path)
        if state.linked[process]:
            linked = _with(state.linked, process, False)
            durable = self._synced(state.content, path)
            yield (*name, "durable"), self.moved(state, process, True, linked=linked, content=durable)
            return
        exists = path in state.content.objects
        made = state.content
        if not exists:
            made = self._with_object(state.content, path, data, volatile=bool(self.bounds.power_losses))
        if exists:
            yield (*name, "exists"), self.moved(state, process, False)
        elif self.bounds.power_losses:
            linked = _with(state.linked, process, True)
            yield (*name, "visible"), state._replace(content=made, linked=linked)
        else:
            yield (*name, "created"), self.moved(state, process, True, content=made)
        if state.unknowns:
            fewer = state.unknowns - 1
            if not exists:
                yield (*name, "unknown, done"), self.moved(state, process, None, content=made, unknowns=fewer)
            late = state.late | {(path, data)}
            yield (*name, "unknown, late"), self.moved(state, process, None, late=late, unknowns=fewer)

    def _sign(self, state: State, process: int, step: SignHead) -> State:
        head, believed = step.head, state.places[process].believed
        kept_size, kept_root = size_and_root(state.keys[self._key(process)])
        if kept_size > head.size:
            return self.moved(state, process, None)
        if root(list(map(leaf_hash, believed[:kept_size]))) != kept_root:
            raise Violation(f"writer {process} would sign a head that does not extend its key's last one")
        truth = self.truth(state)
        if root(list(map(leaf_hash, truth[: head.size]))) != head.root or head.size > len(truth):
            raise Violation(f"writer {process} signs a head of {head.size} that is not the log's")
        note = note_of(head.size, head.root)
        return self.moved(state, process, note, keys=_with(state.keys, self._key(process), note))

    def _mishaps(self, state: State) -> Iterator[tuple[Label, State]]:
        for path, data in state.late:
            rest = state.late - {(path, data)}
            content = state.content
            if path not in content.objects:
                content = self._with_object(content, path, data)
            yield ("late", path, "lands"), state._replace(late=rest, content=content)
        if state.crashes:
            for process in range(self.writers):
                # A crash where nothing was done yet changes nothing.
                crashed = self._crashed(state, process)
                if crashed != state:
                    yield (process, CRASH), crashed._replace(crashes=state.crashes - 1)
        if state.power_losses:
            yield from self._power_losses(state)

    def _power_losses(self, state: State) -> Iterator[tuple[Label, State]]:
        """Every process dies, and any part of what was visible but not durable is gone."""
        dead = state
        for process in range(self.writers):
            dead = self._crashed(dead, process)
        objects, volatile = state.content.objects, sorted(state.content.volatile)
        for count in range(len(volatile) + 1):
            for lost in combinations(volatile, count):
                rest = {path: data for path, data in objects.items() if path not in lost}
                yield (
                    ("power loss of", *lost),
                    dead._replace(
                        content=self.content(rest, frozenset()), power_losses=state.power_losses - 1
                    ),
                )

    def _crashed(self, state: State, process: int) -> State:
        places = _with(state.places, process, self.fresh(process))
        state = state._replace(places=places, linked=_with(state.linked, process, False))
        return self._settled(state, process)

    def truth(self, state: State) -> Entries:
        """The log's one history, full bundle first. Raises Violation where the store tells two."""
        content = state.content
        if content.truth is None:
            content.truth = self._judged(content.objects)
        return content.truth

    def _judged(self, objects: dict[str, bytes]) -> Entries:
        width = self.bounds.width
        truth: list[bytes] = []
        full = objects.get(entries_path(0, None, width))
        while full is not None:
            truth += decode_bundle(full, width)
            full = objects.get(entries_path(len(truth) // width, None, width))
        number, held = len(truth) // width, 0
        tail: list[bytes] = []
        for count in range(1, width):
            data = objects.get(entries_path(number, count, width))
            if data is not None:
                entries = decode_bundle(data, width)
                if len(entries) != count or entries[: len(tail)] != tail or held != count - 1:
                    raise Violation(f"the partial bundle {number} of width {count} tells another history")
                tail, held = entries, count
        truth += tail
        payloads = [entry.split(b"|")[2] for entry in truth]
        if len(set(payloads)) != len(payloads):
            raise Violation(f"an entry stands twice: {payloads}")
        self._judge_checkpoint(objects, truth)
        return tuple(truth)

    def _judge_checkpoint(self, objects: dict[str, bytes], truth: list[bytes]) -> None:
        size, digest = size_and_root(objects.get(CHECKPOINT))
        if size > len(truth) or root(list(map(leaf_hash, truth[:size]))) != digest:
            raise Violation(f"the checkpoint of {size} is not the log's")
        needed = [
            entries_path(*bundle, self.bounds.width) for bundle in bundles_for_size(size, self.bounds.width)
        ]
        last = size // self.bounds.width
        needed += [
            entries_path(last, count, self.bounds.width) for count in range(1, size % self.bounds.width)
        ]
        full_width = 1 << self.bounds.tile_bits
        needed += [
            hash_tile_path(tile.level, tile.index, None if tile.width == full_width else tile.width)
            for tile in tiles_added(0, size, self.bounds.tile_bits)
            if self.bounds.tiles
        ]
        missing = [path for path in needed if path not in objects]
        if missing:
            raise Violation(f"the checkpoint of {size} stands without {missing}")

    def check(self, before: State, after: State) -> None:
        """What must hold after every step. Raises Violation."""
        truth = self.truth(after)
        lost_power = before.power_losses != after.power_losses
        if before.content is not after.content:
            past = self.truth(before)
            if not lost_power and truth[: len(past)] != past:
                raise Violation(f"the log had {past} and has {truth}")
            sizes = [size_and_root(state.content.objects.get(CHECKPOINT))[0] for state in (before, after)]
            if sizes[1] < sizes[0]:
                raise Violation(f"the checkpoint went back from {sizes[0]} to {sizes[1]}")
        if lost_power:
            for key in after.keys:
                size, digest = size_and_root(key)
                if size > len(truth) or root(list(map(leaf_hash, truth[:size]))) != digest:
                    raise Violation(f"a head of {size} was signed and power loss took its entries")
        for old, new in zip(before.places, after.places, strict=True):
            if old is not new and truth[: len(new.believed)] != new.believed:
                raise Violation(f"process {new.stand.process} believes {new.believed}, the log is {truth}")

    def check_end(self, state: State) -> None:
        """Where nothing can move any more, all that was wanted stands in the log, published."""
        truth = self.truth(state)
        payloads = {entry.split(b"|")[2].decode() for entry in truth}
        wanted = {f"w{w}.{n}" for w, count in enumerate(self.bounds.payloads) for n in range(count)}
        if not wanted <= payloads:
            raise Violation(f"never committed: {sorted(wanted - payloads)}")
        if size_and_root(state.content.objects.get(CHECKPOINT))[0] != len(truth):
            raise Violation("committed entries were never published")

    def _key(self, process: int) -> int:
        return 0 if self.bounds.shared_key else process


def explore(model: Model, most_states: int = 8_000_000) -> int:
    """Visit every state within the bounds; how many there are. Raises Violation with the way to it."""
    # Millions of small tuples and no cycles among them: the collector would only look at them again.
    gc.disable()
    try:
        return _explore(model, most_states)
    finally:
        gc.enable()


def _explore(model: Model, most_states: int) -> int:
    first = model.first()
    came_from: dict[State, State | None] = {first: None}
    waiting = [first]
    while waiting:
        state = waiting.pop()
        moved = False
        label: Label = ()
        try:
            for label, after in model.successors(state):
                moved = moved or CRASH not in label
                if after not in came_from:
                    came_from[after] = state
                    model.check(state, after)
                    waiting.append(after)
            if not moved:
                model.check_end(state)
        except Violation as violation:
            raise Violation(
                f"{violation}\n{_way_to(model, came_from, state)}\nafter {_words(label)}"
            ) from violation
        assert len(came_from) <= most_states, "the bounds are too wide for this machine"
    return len(came_from)


def _way_to(model: Model, came_from: dict[State, State | None], state: State) -> str:
    labels: list[str] = []
    parent = came_from[state]
    while parent is not None:
        labels.append(next(_words(label) for label, after in model.successors(parent) if after == state))
        state, parent = parent, came_from[parent]
    return "\n".join(reversed(labels))


def _words(label: Label) -> str:
    return " ".join(str(part) if len(str(part)) < 200 else f"{str(part)[:200]}…" for part in label)


def _is_bundle(path: str) -> bool:
    return path.startswith("tile/entries/")


def _with(items: tuple[Any, ...], position: int, item: Any) -> tuple[Any, ...]:
    return (*items[:position], item, *items[position + 1 :])
