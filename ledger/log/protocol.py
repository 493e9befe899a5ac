"""The commit protocol, without storage: generators that yield what is to be done and are sent the answer.

The log's state is never in doubt because only one thing decides it: the creation, only if absent,
of the next entries path. Written this way, the very code that the product runs can be driven
through every interleaving of writers, crashes and stalls by a test (docs/ledger-format.md,
"Writing a commit").
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ledger.errors import DamageError, OutsideError
from ledger.format.checkpoint import Checkpoint
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.tiles import (
    BUNDLE_WIDTH,
    TILE_BITS,
    HashTile,
    decode_bundle,
    encode_bundle,
    entries_path,
    hash_tile_path,
    tile_bytes,
    tiles_added,
)

CHECKPOINT = "checkpoint"
MAX_TILE_ATTEMPTS = 5
"""Lost answers to the creation of one hash tile before its writer gives up."""


@dataclass(frozen=True, slots=True)
class Read:
    """Answer: the object's bytes, or None."""

    path: str


@dataclass(frozen=True, slots=True)
class Create:
    """Answer: True created, False existed before, None unknown."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Sync:
    """Make the folder of `path` durable. Answer: None."""

    path: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Answer: None."""

    path: str


@dataclass(frozen=True, slots=True)
class SignHead:
    """Sign this head, if it extends the last one this key signed.

    Answer: the checkpoint note's bytes, or None where the key already signed a larger head.
    """

    head: Checkpoint


@dataclass(frozen=True, slots=True)
class Publish:
    """Replace the checkpoint by `note` of `size` unless a checkpoint of at least that size stands there.

    Answer: the size of the checkpoint that stands there now.
    """

    note: bytes
    size: int


Step = Read | Create | Sync | Delete | SignHead | Publish
Answer = bytes | bool | int | None
Steps = Generator[Step, Answer, None]
Result = TypeVar("Result")


class Receiver(Protocol):
    """Judges entries in order; raises InvalidEntry for one that must not be built on."""

    @property
    def origin(self) -> str:
        """The log's name."""
        ...

    def read(self, index: int, prev: bytes, data: bytes) -> object:
        """Take in entry `index`, whose log before it has root `prev`."""
        ...


class CommitLog:
    """One party's view of the log, and the steps that move it on.

    `receiver` sees every entry exactly once, in order, before it becomes part of the view. `width`
    (entries of a full bundle) and `tile_bits` (a full tile holds 2^tile_bits hashes) are fixed on
    disk; a model makes them small.
    """

    def __init__(self, receiver: Receiver, *, width: int = BUNDLE_WIDTH, tile_bits: int = TILE_BITS) -> None:
        self.receiver = receiver
        self.width = width
        self.tile_bits = tile_bits
        self.tree = Tree()
        self.bundle: list[bytes] = []
        self.published = 0
        self.tiled = 0

    @property
    def size(self) -> int:
        """Entries in this view."""
        return self.tree.size

    def head(self) -> Checkpoint:
        """This view's head, unsigned."""
        return Checkpoint(self.receiver.origin, self.size, self.tree.root())

    def refresh(self, hint: int = 0) -> Steps:
        """Find the head: take in every entry that the log has beyond this view.

        `hint` is a size that the log is known to have reached (its checkpoint's), which saves probing.
        """
        while True:
            first = self.size - len(self.bundle)
            number = first // self.width
            width = max(len(self.bundle) + 1, min(hint - first, self.width - 1))
            partial: Answer = None
            if width < self.width:
                partial = yield Read(self._path(number, width))
            # The full bundle is looked for after the partial was read: a partial that a stalled writer
            # made once the bundle was full and cleaned can so never be believed.
            full = yield Read(self._path(number))
            if isinstance(full, bytes):
                self._take(full, self.width, first)
            elif isinstance(partial, bytes):
                self._take(partial, width, first)
            elif width > len(self.bundle) + 1:
                raise DamageError(
                    f"The checkpoint covers {hint} entries, but {self._path(number, width)} is missing.",
                    "Restore the ledger folder from a copy; `verify` names all that is missing.",
                )
            else:
                return

    def append(self, entry: bytes) -> Generator[Step, Answer, bool]:
        """Try to commit `entry` as the next one. False: another writer was first; refresh and try again."""
        index, width = self.size, len(self.bundle) + 1
        number = (index - len(self.bundle)) // self.width
        full = width == self.width
        path = self._path(number) if full else self._path(number, width)
        data = encode_bundle([*self.bundle, entry], self.width)
        if index:
            # An entry by another writer may be visible before it is durable: fix it before building on it.
            yield Sync(self._path(number, width - 1) if self.bundle else self._path(number - 1))
        created = yield Create(path, data)
        if created is None:
            created = (yield Read(path)) == data
        if not full:
            # A partial of a bundle that has since filled up and been cleaned away proves nothing.
            whole = yield Read(self._path(number))
            if isinstance(whole, bytes):
                held = decode_bundle(whole, self.width)
                if len(held) < width or held[width - 1] != entry:
                    if created:
                        yield Delete(path)
                    return False
                created = True
        if not created:
            return False
        self.receiver.read(index, self.tree.root(), entry)
        self._grow([entry])
        return True

    def publish(self) -> Generator[Step, Answer, int]:
        """Complete the hash tiles, sign the head, replace the checkpoint, and clean what it made redundant.

        Returns the size of the checkpoint that stands. Safe to repeat: it is also how a crashed
        writer's entry is rolled forward.
        """
        target = self.size
        if target and self.published < target:
            last = target % self.width
            yield Sync(
                self._path(target // self.width, last) if last else self._path(target // self.width - 1)
            )
        for size in range(max(self.tiled, self.published) + 1, target + 1):
            for tile in tiles_added(size - 1, size, self.tile_bits):
                yield from self._complete(tile)
            self.tiled = size
        note = yield SignHead(Checkpoint(self.receiver.origin, target, self.tree.root(target)))
        if isinstance(note, bytes):
            standing = yield Publish(note, target)
            before, self.published = self.published, max(self.published, int(standing or 0))
            yield from self._clean(before, min(target, self.published))
        return self.published

    def _complete(self, tile: HashTile) -> Steps:
        """Make one hash tile exist, durably."""
        whole = hash_tile_path(tile.level, tile.index)
        path = whole if tile.width >> self.tile_bits else hash_tile_path(tile.level, tile.index, tile.width)
        data = tile_bytes(self.tree, tile.level, tile.index, tile.width, self.tile_bits)
        for _ in range(MAX_TILE_ATTEMPTS):
            if (yield Create(path, data)):
                return
            held = yield Read(path)
            if held == data:
                # Another writer's tile may be visible before it is durable.
                yield Sync(path)
                return
            if held is None:
                # Another writer's checkpoint covers the full tile, and the partial was cleaned away; or
                # the answer to our write was lost, and it did not happen.
                held = yield Read(whole)
                if isinstance(held, bytes) and held.startswith(data):
                    return
            if held is not None:
                raise DamageError(
                    f"{path} does not hold the hashes of the log's entries.",
                    "Someone changed it; restore it from a copy before writing on.",
                )
        raise OutsideError(
            f"{path} could not be written: {MAX_TILE_ATTEMPTS} answers of the storage were lost.",
            "Nothing is lost; the next commit completes it.",
        )

    def _clean(self, before: int, now: int) -> Steps:
        """Partials may go once a checkpoint covers their full bundle or tile."""
        for number in range(before // self.width, now // self.width):
            for width in range(1, self.width):
                yield Delete(self._path(number, width))
        level, full_width = 0, 1 << self.tile_bits
        span = full_width
        while span <= now:
            for number in range(before // span, now // span):
                for width in range(1, full_width):
                    yield Delete(hash_tile_path(level, number, width))
            level, span = level + 1, span * full_width

    def _path(self, number: int, width: int | None = None) -> str:
        return entries_path(number, width, self.width)

    def _take(self, data: bytes, width: int, first: int) -> None:
        entries = decode_bundle(data, self.width)
        if len(entries) != width:
            raise DamageError(
                f"The entry bundle at {first} holds {len(entries)} entries where its name says {width}."
            )
        if entries[: len(self.bundle)] != self.bundle:
            raise DamageError(
                f"The log has changed below entry {self.size}: an entry that was there is another one now.",
                "It was forked or rewritten; stop writing and compare it with a copy.",
            )
        for entry in entries[len(self.bundle) :]:
            self.receiver.read(self.size, self.tree.root(), entry)
            self._grow([entry])

    def _grow(self, entries: list[bytes]) -> None:
        for entry in entries:
            self.tree.append(leaf_hash(entry))
            self.bundle.append(entry)
        if len(self.bundle) == self.width:
            self.bundle = []


def drive(steps: Generator[Step, Answer, Result], perform: Callable[[Step], Answer]) -> Result:
    """Run a protocol against something that can perform its steps."""
    answer: Answer = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as done:
            result: Result = done.value
            return result
        answer = perform(step)
