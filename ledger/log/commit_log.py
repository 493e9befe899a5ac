"""The commit log on storage: performs the steps of the protocol, and reads what is sealed."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

from ledger.errors import DamageError, LedgerError, NotALedger, OutcomeUnknown, UsageError
from ledger.format.checkpoint import Checkpoint, open_checkpoint
from ledger.format.manifest import Entry
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.note import SignedNote, VerifierKey
from ledger.format.state import LogState
from ledger.format.tiles import BUNDLE_WIDTH, bundles_for_size, decode_bundle, entries_path
from ledger.log.catalogue_due import is_due, is_long, signed_catalogue_path
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
    drive,
)
from ledger.log.signing import SigningKey, open_by_any
from ledger.storage.store import Store

if TYPE_CHECKING:
    from ledger.log.catalogue import Catalogue

Result = TypeVar("Result")


class Log:
    """The log as one writer sees it: refreshed from storage, judged, extended."""

    def __init__(self, store: Store, key: SigningKey, *, width: int = BUNDLE_WIDTH) -> None:
        self.store = store
        self.key = key
        self.state = LogState(pinned=None)
        self.commits = CommitLog(self, width=width)
        self._fresh: list[Entry] = []
        self._known = 0
        """Entries that a kept catalogue covered; those are not among the new ones of the first refresh."""

    @property
    def origin(self) -> str:
        """The ledger's name; for an empty log, the key's."""
        return self.state.origin or self.key.signer.name

    @property
    def size(self) -> int:
        """Entries in this view."""
        return self.commits.size

    def read(self, index: int, prev: bytes, data: bytes) -> Entry:
        """Judge one entry (the protocol's receiver)."""
        entry = self.state.read(index, prev, data)
        self._fresh.append(entry)
        return entry

    def refresh(self) -> list[Entry]:
        """Take in what others committed; completes what a crashed writer left. The new entries.

        The first time a long log goes on from this user's catalogue, whose entries are not among them.
        """
        if self.size or not self._resume():
            return self._refresh()
        try:
            return self._refresh()
        except LedgerError:
            # What was kept may be of another ledger, or of another state of this one: the log itself tells.
            self._begin()
            return self._refresh()

    def keep(self) -> None:
        """Keep a catalogue for the next start, where one is due."""
        if self.commits.width == BUNDLE_WIDTH and is_due(self.size, self._known):
            from ledger.log.catalogue import save  # noqa: PLC0415 - short logs need no Arrow

            save(signed_catalogue_path(self.store.url), self.state, self.commits.tree, signed=True)
            self._known = self.size

    def _begin(self) -> None:
        self.state = LogState(pinned=None)
        self.commits = CommitLog(self, width=self.commits.width)
        self._fresh, self._known = [], 0

    def _resume(self) -> bool:
        """Go on from the kept catalogue of entries whose signatures were all checked; False without one."""
        if self.commits.width != BUNDLE_WIDTH:
            return False
        path = signed_catalogue_path(self.store.url)
        if not path.is_file():
            return False
        from ledger.log.catalogue import load  # noqa: PLC0415 - short logs need no Arrow

        known = load(path, signed=True)
        if known is None or known.state.key.text != self.key.verifier.text:
            return False
        first = (known.size - 1) // BUNDLE_WIDTH * BUNDLE_WIDTH
        try:
            # Also where that bundle is full: a log that was rolled back must not be taken for its catalogue.
            bundle = read_entries(self.store, known.size, first)
        except LedgerError:
            return False
        if [known.tree.subtree(0, first + at) for at in range(len(bundle))] != list(map(leaf_hash, bundle)):
            return False
        self.state, self.commits.tree = known.state, known.tree
        self.commits.bundle = bundle if len(bundle) < BUNDLE_WIDTH else []
        self._known = known.size
        return True

    def _refresh(self) -> list[Entry]:
        # Both are read before the log: what they cover must be found in it then.
        kept_note = self.key.kept_note()
        standing = self._standing()
        if (standing.size if standing else 0) < self.commits.published:
            raise DamageError(
                f"The checkpoint covered {self.commits.published} entries and now covers fewer.",
                "The ledger was rolled back; restore it from a newer copy before writing on.",
            )
        self._run(self.commits.refresh(standing.size if standing else 0))
        if standing is not None:
            if standing.size > self.size:
                raise DamageError(
                    f"The checkpoint covers {standing.size} entries, but the log holds {self.size}.",
                    "Entries are missing; restore the ledger from a copy.",
                )
            if self.commits.tree.root(standing.size) != standing.root:
                raise DamageError(
                    "The checkpoint does not fit the log's entries.",
                    "The log was forked or rewritten; compare it with a copy.",
                )
            self.commits.published = max(self.commits.published, standing.size)
        self._check_key()
        if kept_note is not None:
            self.key.check_extends(kept_note, self.commits.head(), self.commits.tree.root, self.state.keys)
        if self.commits.published < self.size:
            self._run(self.commits.publish())
        return self.drain()

    def append(self, entry: bytes, *, new_key: SigningKey | None = None) -> bool:
        """Commit one entry and publish it. False where another writer was first.

        `new_key` is the one that a `key` entry names: it signs the checkpoint that covers the entry already.
        """
        if not self._run(self.commits.append(entry)):
            return False
        self.key = new_key or self.key
        self._run(self.commits.publish())
        return True

    def drain(self) -> list[Entry]:
        """The entries taken in since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def _check_key(self) -> None:
        if self.size and self.state.key.text != self.key.verifier.text:
            if any(key.text == self.key.verifier.text for key in self.state.keys):
                raise UsageError(
                    "The key at hand signed until it was rotated; "
                    f"this ledger's key is {self.state.key.text}.",
                    "Start again with the new key: `key rotate` put it in the place of the old one.",
                )
            raise DamageError(
                f"The key at hand is {self.key.verifier.text}; this ledger's key is {self.state.key.text}.",
                "Name the right one with --key.",
            )

    def _standing(self) -> Checkpoint | None:
        note = self.store.read(CHECKPOINT)
        if note is None:
            return None
        try:
            return open_by_any(note, self.state.keys or [self.key.verifier])
        except DamageError:
            # The key may have been rotated since this view was made: the log itself tells.
            sealed = open_log(self.store)
            if self.state.keys and sealed.state.keys[0].text != self.state.keys[0].text:
                raise
            return sealed.head

    def _run(self, steps: Generator[Step, Answer, Result]) -> Result:
        return drive(steps, self._perform)

    def _perform(self, step: Step) -> Answer:
        match step:
            case Read(path):
                return self.store.read(path)
            case Create(path, data):
                try:
                    return self.store.create(path, data)
                except OutcomeUnknown:
                    return None
            case Sync(path):
                self.store.sync(path)
                return None
            case Delete(path):
                self.store.delete(path)
                return None
            case SignHead(head):
                return self.key.sign_head(head, self.commits.tree.root, self.state.keys)
            case Publish(note, size):
                return self._publish(note, size)

    def _publish(self, note: bytes, size: int) -> int:
        standing = size

        def larger(present: bytes | None) -> bytes | None:
            nonlocal standing
            standing = size
            if present is not None:
                there = open_by_any(present, self.state.keys)
                if there.size >= size:
                    standing = there.size
                    return None
            return note

        self.store.replace(CHECKPOINT, larger)
        return standing


class SealedEntries(Sequence[bytes]):
    """The entries below a head: the newest ones in hand, the others read when they are asked for."""

    def __init__(self, store: Store, tree: Tree, size: int, newest: Sequence[bytes]) -> None:
        self._store = store
        self._tree = tree
        self._size = size
        self._newest = newest
        self._first = size - len(newest)
        self._bundle: tuple[int, list[bytes]] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return self._size

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        """Entry `index`. Raises DamageError where it is not the one that the log's root covers."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(self._size))]
        at = range(self._size)[index]
        return self._newest[at - self._first] if at >= self._first else self._read(at)

    def _read(self, index: int) -> bytes:
        number = index // BUNDLE_WIDTH
        if self._bundle is None or self._bundle[0] != number:
            end = min((number + 1) * BUNDLE_WIDTH, self._size)
            self._bundle = number, read_entries(self._store, end, number * BUNDLE_WIDTH)
        entry = self._bundle[1][index - number * BUNDLE_WIDTH]
        if leaf_hash(entry) != self._tree.subtree(0, index):
            raise DamageError(
                f"Entry {index} is not the one that the log's root covers.",
                "`decision-ledger verify` names what is damaged; restore it from a copy.",
            )
        return entry


@dataclass(slots=True)
class SealedLog:
    """The entries that one signed checkpoint covers, replayed. Never looks past that checkpoint."""

    head: Checkpoint
    note: bytes
    entries: Sequence[bytes]
    tree: Tree
    state: LogState

    def as_of(self, size: int) -> LogState:
        """What the first `size` entries say. Raises UsageError for a size beyond the head."""
        if not 0 < size <= self.head.size:
            raise UsageError(
                f"There is no checkpoint of size {size}; this ledger has 1 to {self.head.size}.",
                "`decision-ledger status` shows the head.",
            )
        return self.state if size == self.head.size else replay(self.entries[:size], signed=False)[0]


def replay(
    entries: Iterable[bytes],
    *,
    pinned: VerifierKey | None = None,
    signed: bool = True,
    onto: tuple[LogState, Tree] | None = None,
) -> tuple[LogState, Tree]:
    """Feed entries to a fresh state, or `onto` one that took in those before them.

    Raises InvalidEntry; `signed=False` skips their signatures.
    """
    state, tree = onto or (LogState(pinned), Tree())
    for data in entries:
        state.read(state.size, tree.root(), data, signed=signed)
        tree.append(leaf_hash(data))
    return state, tree


def first_bundle(store: Store) -> bytes | None:
    """A bundle that begins with entry 0, or None where no ledger was begun."""
    whole = store.read(entries_path(0))
    return store.read(entries_path(0, 1)) if whole is None else whole


def check_there(store: Store) -> None:
    """Raises NotALedger where nothing of a ledger is there, not even its first entry."""
    if store.read(CHECKPOINT) is None and first_bundle(store) is None:
        raise NotALedger(
            f"There is no ledger at {store.url}.", "Make one with `decision-ledger init --origin NAME`."
        )


def open_log(
    store: Store,
    *,
    pinned: VerifierKey | None = None,
    kept: Path | None = None,
    seen: SealedLog | None = None,
) -> SealedLog:
    """Read the log up to its checkpoint, and check it against the checkpoint.

    The checkpoint's signature vouches for all entries below it, so theirs are not checked one by
    one here; `verify` does that. `kept` is where this user's catalogue of the ledger lies: of a long log
    only what is newer is read, and the catalogue is made anew when much is. `seen` is what was read of this
    ledger before; it is given back where the checkpoint is still the same, and the log is not read.

    Raises:
        NotALedger: nothing is there.
        DamageError: the log does not lead to the checkpoint's root, or is not the pinned key's.
    """
    note = store.read(CHECKPOINT)
    if note is None:
        check_there(store)
        raise DamageError(
            f"The checkpoint of the ledger at {store.url} is missing.",
            "Whoever holds its key signs it anew: `decision-ledger compact`. Else restore it from a copy.",
        )
    if seen is not None and seen.note == note:
        return seen
    try:
        size = Checkpoint.parse(SignedNote.parse(note).text).size
    except DamageError as error:
        raise DamageError(
            f"The checkpoint of the ledger at {store.url} is damaged. {error.message}",
            "Restore it from a copy; if it stays like this, treat it as tampered with.",
        ) from None
    if kept is None or not is_long(size):
        return _opened(store, note, size, pinned, None)
    from ledger.log.catalogue import load, save  # noqa: PLC0415 - short logs need no Arrow

    known = load(kept, pinned=pinned)
    sealed = None
    if known is not None and known.size <= size:
        with suppress(LedgerError):  # what is kept may be of another ledger; the log itself tells
            sealed = _opened(store, note, size, pinned, known)
    before = known.size if known is not None and sealed is not None else 0
    if sealed is None:
        sealed = _opened(store, note, size, pinned, None)
    if is_due(size, before):
        save(kept, sealed.state, sealed.tree, signed=False)
    return sealed


def _opened(
    store: Store, note: bytes, size: int, pinned: VerifierKey | None, known: Catalogue | None
) -> SealedLog:
    first = known.size if known is not None else 0
    start = first - first % BUNDLE_WIDTH
    newest = read_entries(store, size, start)[first - start :] if first < size else []
    onto = (known.state, known.tree) if known is not None else None
    state, tree = replay(newest, pinned=pinned, signed=False, onto=onto)
    if not state.keys:
        raise DamageError(
            "The checkpoint covers no entry, not even `init`.", "Restore the ledger from a copy."
        )
    head = open_checkpoint(note, state.key)
    if head.root != tree.root():
        raise DamageError(
            "The checkpoint does not fit the log's entries.",
            "`decision-ledger verify` names what is damaged.",
        )
    return SealedLog(head, note, SealedEntries(store, tree, size, newest), tree, state)


def read_entries(store: Store, size: int, start: int = 0, *, width: int = BUNDLE_WIDTH) -> list[bytes]:
    """Entries `start` … `size`-1 of a log that has at least `size`.

    `start` is a multiple of `width`, the entries of a full bundle.
    """
    entries: list[bytes] = []
    for number, partial in bundles_for_size(size, width):
        if (number + 1) * width <= start:
            continue
        data = None if partial is None else store.read(entries_path(number, partial, width))
        # Looked for after the partial was read, and preferred: once a bundle is full its partials are
        # cleaned away, and a stalled writer may then leave one there that was never committed.
        whole = store.read(entries_path(number))
        data = data if whole is None else whole
        if data is None:
            raise DamageError(
                f"{entries_path(number, partial, width)} is missing.", "Restore the ledger from a copy."
            )
        entries.extend(decode_bundle(data, width)[:partial])
    if len(entries) != size - start:
        raise DamageError(
            f"The log holds {start + len(entries)} of the {size} entries that its checkpoint covers."
        )
    return entries
