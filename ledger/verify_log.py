"""Whether the commit log is whole: every copy of every entry, every hash tile, and the checkpoint.

Nothing here trusts what it reads: a signature leads from the key to the checkpoint's root, the root
to the leaf hashes, those to the entries, and each entry is judged once more by the rules of the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from ledger.checkpoint import Checkpoint, open_checkpoint
from ledger.copies import (
    MAX_MISSING_BUNDLES,
    Bundle,
    Leaves,
    Read,
    agree_on,
    believe,
    judge_copies,
    leaves_of_tile,
    read_bundle,
    views,
)
from ledger.errors import DamageError, LedgerError
from ledger.findings import Finding, damage, listed
from ledger.manifest import Append, Config, Entry, check_signature, parse_entry
from ledger.merkle import HASH_BYTES, Tree, leaf_hash
from ledger.note import SignedNote, VerifierKey
from ledger.protocol import CHECKPOINT
from ledger.state import LogState
from ledger.tiles import (
    BUNDLE_WIDTH,
    TILE_WIDTH,
    TilePath,
    entries_path,
    hash_tile_path,
    parse_tile_path,
    tile_bytes,
)

WITNESSED: Final = "checkpoint.witnessed"
TILES_FOLDER: Final = "tile"

# What a state machine fed a hostile entry may raise beside the errors of this package: dates and
# durations out of range, nesting that a parser refuses, references to what no entry named.
_REFUSALS: Final = (LedgerError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)
_NO_LEAF: Final = bytes(HASH_BYTES)


class _Replay(LogState):
    """A state that can go on after an entry that must not be: `lenient`, it takes in what it can."""

    lenient = False

    def judge(self, entry: Entry) -> None:
        """As the log's rules say; when lenient, everything may pass."""
        try:
            super().judge(entry)
        except _REFUSALS:
            if not self.lenient:
                raise

    def skip(self) -> None:
        """Count an entry of which nothing is known: from here on any offset may come next."""
        self.size += 1
        self.times.append(self.times[-1] if self.times else "")
        self.positions.clear()
        self.lenient = True

    def take_leniently(self, entry: Entry) -> None:
        """Take in an entry that must not be, as far as it makes sense."""
        before, strict = self.size, not self.lenient
        self.lenient = True
        try:
            self.apply(entry)
        except _REFUSALS:
            strict = False
        if self.size == before:
            self.size += 1
            self.times.append(entry.time)
        self.lenient = not strict


@dataclass(slots=True)
class LogView:
    """The log as it was found. `size` entries are covered by the checkpoint, `reach` are believed."""

    state: LogState
    tree: Tree
    bundles: list[Bundle] = field(default_factory=list)
    size: int = 0
    reach: int = 0
    head: Checkpoint | None = None
    note: bytes | None = None
    findings: list[Finding] = field(default_factory=list)
    appends: dict[int, Append] = field(default_factory=dict)
    configs: dict[str, int] = field(default_factory=dict)
    leaves_first: bytes | None = None
    """The leaf hash of entry 0."""
    complete: bool = True
    """False where entries are lost, so that not every file's entry is known."""

    def entry_bytes(self, index: int) -> bytes | None:
        """Entry `index` as it is believed, None where it is lost or beyond the log."""
        number, place = divmod(index, BUNDLE_WIDTH)
        if index >= self.reach or number >= len(self.bundles):
            return None
        entries = self.bundles[number].entries
        return entries[place] if place < len(entries) else None

    def path_of(self, index: int) -> str:
        """The bundle that readers take entry `index` from."""
        number, place = divmod(index, BUNDLE_WIDTH)
        if number < len(self.bundles):
            path = self.bundles[number].path_of(place)
            if path is not None:
                return path
        return entries_path(number)


def check_log(
    listing: Mapping[str, int],
    read: Read,
    *,
    pinned: VerifierKey | None,
    hint: VerifierKey | None,
    known: int = 0,
) -> LogView:
    """Check all that lies under `tile/`, and the checkpoints.

    `listing` gives the size in bytes of every path of the ledger. `hint` is a key to try where the
    log does not tell its own. The first `known` entries were verified before: their signatures and
    the tiles below them are not checked again.
    """
    return _LogCheck(listing, read, pinned, hint, known).run()


class _LogCheck:
    def __init__(
        self,
        listing: Mapping[str, int],
        read: Read,
        pinned: VerifierKey | None,
        hint: VerifierKey | None,
        known: int,
    ) -> None:
        self.listing = listing
        self.read = read
        self.pinned = pinned
        self.hint = hint
        self.known = known
        self.state = _Replay()
        self.view = LogView(self.state, Tree())
        self.found = self.view.findings
        self.hash_tiles: list[TilePath] = []
        self.bundle_paths: dict[int, dict[int, str]] = {}
        self.signer: VerifierKey | None = None
        self.leaves: list[Leaves] = []
        self.proven = False
        self.in_force: list[tuple[int, VerifierKey]] = []

    def run(self) -> LogView:
        self._sort_paths()
        note = self.read(CHECKPOINT)
        claimed = _claimed_size(note)
        self._read_bundles(claimed)
        self._open_checkpoint(note)
        self._settle_leaves()
        self._replay()
        self._judge_copies()
        self._judge_presence()
        self._judge_hash_tiles()
        self._judge_keys()
        self._judge_witnessed()
        return self.view

    def _sort_paths(self) -> None:
        for path in self.listing:
            if not path.startswith(TILES_FOLDER + "/") or path.endswith(".tmp"):
                continue
            tile = parse_tile_path(path)
            if tile is None:
                self.found.append(damage("extra", path, "Nothing in the format has this name."))
            elif tile.level is None:
                self.bundle_paths.setdefault(tile.index, {})[tile.width or BUNDLE_WIDTH] = path
            else:
                self.hash_tiles.append(tile)

    def _read_bundles(self, claimed: int | None) -> None:
        present = self.bundle_paths
        bound = len(present) + MAX_MISSING_BUNDLES
        if claimed is not None:
            wanted = claimed
            if wanted > bound * BUNDLE_WIDTH:
                self.found.append(
                    damage("checkpoint", CHECKPOINT, f"It covers {wanted} entries; the log holds far fewer.")
                )
                wanted = bound * BUNDLE_WIDTH
        else:
            last = max((number for number in present if number < bound), default=-1)
            wanted = last * BUNDLE_WIDTH + 1 if last >= 0 else 0
        number = 0
        while number * BUNDLE_WIDTH < wanted or (number in present and self._full_before(number)):
            paths = present.get(number, {})
            if (number + 1) * BUNDLE_WIDTH <= self.known and BUNDLE_WIDTH in paths:
                paths = {BUNDLE_WIDTH: paths[BUNDLE_WIDTH]}
            bundle = read_bundle(number, paths, self.read)
            lacking = min(BUNDLE_WIDTH, wanted - bundle.first) - len(bundle.entries)
            bundle.entries += [None] * max(0, lacking)
            self.view.bundles.append(bundle)
            number += 1
        for stray in sorted(set(present) - set(range(number))):
            for path in present[stray].values():
                self.found.append(damage("extra", path, "It lies beyond the end of the log."))

    def _full_before(self, number: int) -> bool:
        return number == 0 or len(self.view.bundles[number - 1].entries) == BUNDLE_WIDTH

    def _open_checkpoint(self, note: bytes | None) -> None:
        if note is None:
            if CHECKPOINT not in self.listing:
                self.found.append(damage("missing", CHECKPOINT, "The log has no signed head."))
            return
        refusal: DamageError | None = None
        for key in self._known_keys():
            try:
                self.view.head = open_checkpoint(note, key)
            except LedgerError as error:
                if _is_signed_by(note, key) or refusal is None:
                    refusal = error if isinstance(error, DamageError) else refusal
                continue
            self.view.note, self.signer = note, key
            return
        try:
            signed_by_known = any(_names(note, key) for key in self._known_keys())
        except DamageError:
            signed_by_known = True
        message = refusal.message if refusal is not None else "No key is known that could have signed it."
        self.found.append(damage("changed" if signed_by_known else "wrong-key", CHECKPOINT, message))

    def _known_keys(self) -> list[VerifierKey]:
        """Every key that may have signed here, the newest last to come first: none is believed by this."""
        texts: dict[str, None] = {}
        for bundle in self.view.bundles:
            firsts = [copy.entries[0] for copy in bundle.copies if copy.entries] if bundle.number == 0 else []
            for entry in (*bundle.entries, *firsts):
                if entry is not None and (b'"kind":"key"' in entry or b'"kind":"init"' in entry):
                    texts.update(dict.fromkeys(_vkeys(entry)))
        keys = [key for text in reversed(texts) if (key := read_key(text)) is not None]
        return [*keys, *(key for key in (self.pinned, self.hint) if key is not None and key not in keys)]

    def _settle_leaves(self) -> None:
        """Decide which leaf hashes to believe, and which of disagreeing copies hold their entries."""
        keys = self._known_keys()
        for bundle in self.view.bundles:
            if bundle.copies:
                _prefer_signed(bundle, keys)
        base = [[views(bundle, ())[0]] for bundle in self.view.bundles]
        self.leaves = [options[0] for options in base]
        head = self.view.head
        if head is None:
            return
        chosen = agree_on(base, head.size, head.root)
        if chosen is None:
            opinions = [views(bundle, self._tile_leaves(bundle.number)) for bundle in self.view.bundles]
            chosen = agree_on(opinions, head.size, head.root)
        if chosen is None:
            return
        self.proven, self.leaves = True, chosen
        for bundle, leaves in zip(self.view.bundles, chosen, strict=True):
            believe(bundle, leaves)

    def _tile_leaves(self, number: int) -> list[list[bytes]]:
        tiles = [tile for tile in self.hash_tiles if tile.level == 0 and tile.index == number]
        tiles.sort(key=lambda tile: tile.width or TILE_WIDTH, reverse=True)
        return [leaves_of_tile(data) for tile in tiles if (data := self.read(tile.path)) is not None]

    def _replay(self) -> None:
        view = self.view
        entries = [entry for bundle in view.bundles for entry in bundle.entries]
        leaves = [leaf for view_leaves in self.leaves for leaf in view_leaves]
        size = view.size = min(view.head.size, len(entries)) if view.head is not None else len(entries)
        view.reach = size
        view.leaves_first = leaves[0] if leaves else None
        tree = view.tree
        broken = False
        explained = False
        for index, (data, leaf) in enumerate(zip(entries, leaves, strict=True)):
            if data is None:
                if index >= size:
                    break
                view.complete = False
                explained = True
                broken = broken or not self.proven
                self.state.skip()
            else:
                intact = leaf is None or leaf_hash(data) == leaf
                problem = self._take(index, data, broken=broken, covered=index < size, quiet=not intact)
                if problem is not None:
                    if index >= size:
                        self._refuse_next(index, problem)
                        break
                    explained = True
                    if intact:
                        self.found.append(damage("entry", view.path_of(index), problem, index=index))
                    broken = broken or not self.proven
            tree.append(leaf or _NO_LEAF)
            view.reach = index + 1
        if view.head is not None and not self.proven and not explained:
            message = f"Its root is not that of the log's first {view.head.size} entries."
            self.found.append(damage("checkpoint", CHECKPOINT, message))
        self._list_next()

    def _take(self, index: int, data: bytes, *, broken: bool, covered: bool, quiet: bool) -> str | None:
        """Judge one entry and take it in; the problem with it, if any."""
        if index and not self.state.keys:
            self._assume_key()
        signed = index >= self.known and bool(self.state.keys or index == 0)
        try:
            prev = bytes.fromhex(parse_entry(data).prev) if broken else self.view.tree.root()
            entry = self.state.read(index, prev, data, signed=signed)
        except _REFUSALS as error:
            if covered:
                self._take_leniently(index, data)
            return error.message if isinstance(error, LedgerError) else f"It is not valid: {error}."
        self._note(index, entry)
        return "It is not the entry that the checkpoint covers." if quiet else None

    def _take_leniently(self, index: int, data: bytes) -> None:
        """Take in what an invalid entry says, so that its neighbours are not blamed for it."""
        try:
            entry = parse_entry(data)
        except _REFUSALS:
            self.state.skip()
            self.view.complete = False
            return
        self.state.take_leniently(entry)
        self._note(index, entry)

    def _assume_key(self) -> None:
        """Where entry 0 is lost, go on with the key that is known from elsewhere."""
        key = self.pinned or self.hint
        if key is not None:
            self.state.keys.append(key)
            self.state.origin = key.name

    def _note(self, index: int, entry: Entry) -> None:
        if self.state.keys and (not self.in_force or self.in_force[-1][1] != self.state.key):
            self.in_force.append((index + 1, self.state.key))
        if isinstance(entry, Append):
            self.view.appends[index] = entry
        elif isinstance(entry, Config):
            self.view.configs.setdefault(entry.sha256, index)

    def _refuse_next(self, index: int, problem: str) -> None:
        number = index // BUNDLE_WIDTH
        for bundle in self.view.bundles[number:]:
            for width, path in bundle.paths.items():
                if bundle.first + width > index:
                    self.found.append(damage("entry", path, problem, index=index))

    def _list_next(self) -> None:
        view = self.view
        for index in range(view.size, view.reach):
            self.found.append(
                listed(
                    "uncovered",
                    view.path_of(index),
                    "A valid next entry; the next writer completes its commit.",
                    index=index,
                )
            )
        if view.reach > view.size + 1:
            # A writer appends only to a log whose head it signed: the checkpoint was put back.
            message = f"It covers {view.size} entries, but {view.reach} were committed one after the other."
            self.found.append(damage("rollback", CHECKPOINT, message, index=view.size))

    def _judge_copies(self) -> None:
        for bundle, leaves in zip(self.view.bundles, self.leaves, strict=True):
            for finding in judge_copies(bundle, leaves):
                if finding.index is None or finding.index < self.view.reach:
                    self.found.append(self._lost_race(bundle, finding) or finding)
                elif finding.index == self.view.reach and finding.message.startswith(
                    ("It holds more", "The entry")
                ):
                    self.found.append(finding)

    def _lost_race(self, bundle: Bundle, finding: Finding) -> Finding | None:
        """A partial beside its full bundle that differs in its last entry, which a writer signed."""
        copy = next((copy for copy in bundle.copies if copy.path == finding.path), None)
        if (
            copy is None
            or BUNDLE_WIDTH not in bundle.paths
            or copy.width == BUNDLE_WIDTH
            or finding.index is None
        ):
            return None
        place = copy.width - 1
        if copy.problem is not None or finding.index != bundle.first + place:
            return None
        if copy.entries[:place] != bundle.entries[:place]:
            return None
        key = self._key_after(finding.index)
        try:
            entry = parse_entry(copy.entries[place])
            if key is None or entry.index != finding.index:
                return None
            if entry.prev != self.view.tree.root(finding.index).hex():
                return None
            check_signature(entry, copy.entries[place], self.state.origin, key)
        except _REFUSALS:
            return None
        message = "A writer that lost the race for this entry left it; the full bundle counts."
        return listed("lost-race", copy.path, message, index=finding.index)

    def _key_after(self, size: int) -> VerifierKey | None:
        """The key that signs after `size` entries."""
        return next((key for since, key in reversed(self.in_force) if since <= size), None)

    def _judge_presence(self) -> None:
        end = max(self.view.size, self.view.reach)
        for bundle in self.view.bundles:
            width = min(BUNDLE_WIDTH, end - bundle.first)
            whole = bundle.first + BUNDLE_WIDTH <= self.view.size
            if self.view.head is None and width == BUNDLE_WIDTH:
                whole = BUNDLE_WIDTH in bundle.paths or bundle is not self.view.bundles[-1]
            for needed in (BUNDLE_WIDTH,) if whole else range(1, width + 1):
                path = entries_path(bundle.number, None if needed == BUNDLE_WIDTH else needed)
                if path not in self.listing or (needed not in bundle.paths and not self._skipped(bundle)):
                    self._missing(path, "Entries of the log are missing.")

    def _skipped(self, bundle: Bundle) -> bool:
        return bundle.first + BUNDLE_WIDTH <= self.known

    def _missing(self, path: str, message: str) -> None:
        # What is there and cannot be read was already reported as that.
        if path not in self.listing:
            self.found.append(damage("missing", path, message))

    def _judge_hash_tiles(self) -> None:
        size, reach = self.view.size, self.view.reach
        present = {tile.path for tile in self.hash_tiles}
        level = 0
        while size >> (8 * level):
            count = size >> (8 * level)
            full, rest = divmod(count, TILE_WIDTH)
            needed = [hash_tile_path(level, index) for index in range(full)]
            needed += [hash_tile_path(level, full, width) for width in range(1, rest + 1)]
            for path in needed:
                if path not in present:
                    self._missing(path, "Hashes of the log are missing.")
            level += 1
        unknown = [
            index for index, leaf in enumerate(leaf for part in self.leaves for leaf in part) if leaf is None
        ]
        for tile in self.hash_tiles:
            assert tile.level is not None
            width = tile.width or TILE_WIDTH
            start, end = (
                tile.index * TILE_WIDTH << (8 * tile.level),
                (tile.index * TILE_WIDTH + width) << (8 * tile.level),
            )
            if end > reach:
                self.found.append(damage("extra", tile.path, "It lies beyond the end of the log."))
            elif end <= self.known or any(start <= index < end for index in unknown):
                continue
            else:
                data = self.read(tile.path)
                if data is not None and data != tile_bytes(self.view.tree, tile.level, tile.index, width):
                    self.found.append(
                        damage("changed", tile.path, "It does not hold the hashes of the entries.")
                    )

    def _judge_keys(self) -> None:
        chain = {key.text for key in self.state.keys}
        if self.pinned is not None and self.pinned.text not in chain:
            message = (
                f"This ledger's key is {self.state.key.text if chain else 'lost'}, not {self.pinned.text}."
            )
            self.found.append(damage("wrong-key", CHECKPOINT, message))
        key = self._key_after(self.view.size)
        if self.signer is not None and key is not None and self.signer != key:
            message = f"It is signed by {self.signer.text}, but {key.text} signs heads of this size."
            self.found.append(damage("wrong-key", CHECKPOINT, message))

    def _judge_witnessed(self) -> None:
        note = self.read(WITNESSED) if WITNESSED in self.listing else None
        if note is None:
            return
        size = _claimed_size(note) or 0
        key = self._key_after(min(size, self.view.reach))
        try:
            head = open_checkpoint(note, key) if key is not None else None
        except LedgerError as error:
            self.found.append(damage("changed", WITNESSED, error.message))
            return
        if head is None:
            return
        if head.size > self.view.reach:
            message = f"Witnesses saw {head.size} entries; the log holds {self.view.reach}."
            self.found.append(damage("rollback", CHECKPOINT, message, index=self.view.reach))
        elif self.view.complete and self.view.tree.root(head.size) != head.root:
            self.found.append(damage("fork", WITNESSED, "Witnesses saw another history than the log's."))


def read_key(text: str) -> VerifierKey | None:
    """A verifier key, or None for text that is none."""
    try:
        return VerifierKey.from_text(text)
    except LedgerError:
        return None


def _claimed_size(note: bytes | None) -> int | None:
    """The size that a checkpoint claims, signed or not; None where it has no such form."""
    if note is None:
        return None
    try:
        return Checkpoint.parse(SignedNote.parse(note).text).size
    except LedgerError:
        return None


def _is_signed_by(note: bytes, key: VerifierKey) -> bool:
    try:
        return _names(note, key)
    except DamageError:
        return True


def _names(note: bytes, key: VerifierKey) -> bool:
    """Whether a signature line bears this key's name and id, whatever it is worth."""
    lines = SignedNote.parse(note).signatures
    return any((line.name, line.key_id) == (key.name, key.key_id) for line in lines)


def _vkeys(entry: bytes) -> list[str]:
    try:
        value = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return []
    text = value.get("vkey") if isinstance(value, dict) else None
    return [text] if isinstance(text, str) else []


def _prefer_signed(bundle: Bundle, keys: Sequence[VerifierKey]) -> None:
    """Where copies disagree on an entry, take one that a key of the ledger signed."""
    for place, present in enumerate(bundle.entries):
        candidates = dict.fromkeys(copy.entries[place] for copy in bundle.copies if place < len(copy.entries))
        if present is not None and len(candidates) > 1:
            signed = (entry for entry in candidates if _is_signed(entry, bundle.first + place, keys))
            bundle.entries[place] = next(signed, present)


def _is_signed(data: bytes, index: int, keys: Sequence[VerifierKey]) -> bool:
    try:
        entry = parse_entry(data)
    except _REFUSALS:
        return False
    if entry.index != index:
        return False
    for key in keys:
        try:
            check_signature(entry, data, key.name, key)
        except _REFUSALS:
            continue
        return True
    return False
