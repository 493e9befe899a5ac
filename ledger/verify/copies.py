"""The many copies of a log's entries and leaf hashes on storage, and which of them are right.

An entry stands in its full bundle or in every partial one from its width on, and its leaf hash in
as many hash tiles. Where copies disagree, the checkpoint's root tells which ones to believe, so that
damage is named where it is, and not in the copies that are whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from math import prod
from typing import Final

from ledger.format.merkle import HASH_BYTES, leaf_hash, root
from ledger.format.tiles import BUNDLE_WIDTH
from ledger.verify.findings import MAX_ROW_FINDINGS, Finding, damage

MAX_VIEWS: Final = 4_096
"""Combinations of disagreeing copies that are tried against the checkpoint's root."""
MAX_MIXED: Final = 64
"""Mixtures of the copies of one bundle that are tried; beyond it, each copy only as a whole."""
MAX_MISSING_BUNDLES: Final = 1_024
"""Bundles that are named one by one where a checkpoint covers more than the log holds."""

Read = Callable[[str], bytes | None]
Leaves = tuple[bytes | None, ...]


@dataclass(slots=True)
class Copy:
    """One bundle file: what it holds of its `width` entries, and what is wrong with its form."""

    path: str
    width: int
    entries: list[bytes]
    problem: Finding | None


@dataclass(slots=True)
class Bundle:
    """Entries 256·number … of the log. `entries` are the ones believed, None where no copy has one.

    `copies` are kept only while they disagree or are malformed; `paths` names all of them by width.
    """

    number: int
    paths: dict[int, str]
    entries: list[bytes | None] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)

    @property
    def first(self) -> int:
        """The log index of its first entry."""
        return self.number * BUNDLE_WIDTH

    def path_of(self, place: int) -> str | None:
        """The file that readers take entry `place` of this bundle from: the full or the widest one."""
        return next((self.paths[width] for width in sorted(self.paths, reverse=True) if width > place), None)


def read_bundle(number: int, paths: dict[int, str], read: Read) -> Bundle:
    """All copies of one bundle, widest first; those that agree are not kept."""
    bundle = Bundle(number, dict(paths))
    entries: list[bytes] = []
    agree = True
    for width in sorted(paths, reverse=True):
        data = read(paths[width])
        if data is None:
            del bundle.paths[width]
            continue
        copy = _read_copy(paths[width], width, data, bundle.first)
        agree = agree and copy.problem is None
        if bundle.copies:
            agree = agree and copy.entries == entries[: len(copy.entries)]
        bundle.copies.append(copy)
        entries += copy.entries[len(entries) :]
    bundle.entries = list(entries)
    if agree:
        bundle.copies = []
    return bundle


def views(bundle: Bundle, tiles: Iterable[Sequence[bytes]]) -> list[Leaves]:
    """The distinct opinions on a bundle's leaf hashes: of each copy, and of each hash tile over it."""
    base: Leaves = tuple(None if entry is None else leaf_hash(entry) for entry in bundle.entries)
    opinions: list[Sequence[bytes]] = [list(map(leaf_hash, copy.entries)) for copy in bundle.copies]
    opinions += tiles
    choices: list[dict[bytes | None, None]] = [{} if leaf is None else {leaf: None} for leaf in base]
    for opinion in opinions:
        for choice, leaf in zip(choices, opinion, strict=False):
            choice.setdefault(leaf)
    if prod(max(1, len(choice)) for choice in choices) <= MAX_MIXED:
        return [tuple(view) for view in product(*(choice or (None,) for choice in choices))]
    found: dict[Leaves, None] = {base: None}
    for opinion in opinions:
        seen = tuple(opinion[: len(base)])
        found.setdefault((*seen, *base[len(seen) :]))
    return list(found)


def agree_on(opinions: Sequence[Sequence[Leaves]], size: int, wanted: bytes) -> list[Leaves] | None:
    """The choice of one view per bundle whose first `size` leaves have the root `wanted`, if any.

    The first views are tried first; what is tried is bounded by MAX_VIEWS.
    """
    needed = opinions[: -(-size // BUNDLE_WIDTH)]
    rooted = [
        [(view, top) for view in bundle if (top := _top(view, size - number * BUNDLE_WIDTH)) is not None]
        for number, bundle in enumerate(needed)
    ]
    for choice in islice(product(*rooted), MAX_VIEWS):
        if root([top for _, top in choice]) == wanted:
            return [view for view, _ in choice] + [bundle[0] for bundle in opinions[len(needed) :]]
    return None


def believe(bundle: Bundle, leaves: Sequence[bytes | None]) -> None:
    """Take, for each place, an entry that has the leaf hash to believe; keep the present one else."""
    for place, leaf in enumerate(leaves[: len(bundle.entries)]):
        for copy in bundle.copies:
            if place < len(copy.entries) and leaf_hash(copy.entries[place]) == leaf:
                bundle.entries[place] = copy.entries[place]
                break


def judge_copies(bundle: Bundle, leaves: Sequence[bytes | None]) -> list[Finding]:
    """What is wrong with each copy, measured against the leaf hashes that are believed."""
    found: list[Finding] = []
    if not bundle.copies:
        wrong = {place for place, entry in enumerate(bundle.entries) if _differs(entry, leaves, place)}
        for width, path in bundle.paths.items():
            found += _changed(path, bundle.first, sorted(place for place in wrong if place < width))
        return found
    for copy in bundle.copies:
        wrong = {place for place, entry in enumerate(copy.entries) if _differs(entry, leaves, place)}
        found += _changed(copy.path, bundle.first, sorted(wrong))
        if copy.problem is not None and not wrong:
            found.append(copy.problem)
    return found


def leaves_of_tile(data: bytes) -> list[bytes]:
    """The hashes of a tile; bytes beyond the last whole one are left to the tile's own check."""
    whole = len(data) // HASH_BYTES * HASH_BYTES
    return [data[at : at + HASH_BYTES] for at in range(0, whole, HASH_BYTES)]


def _read_copy(path: str, width: int, data: bytes, first: int) -> Copy:
    entries: list[bytes] = []
    at = 0
    cut = False
    # One more than a bundle may hold, to see that there is more.
    while at < len(data) and len(entries) <= width:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            cut = True
            break
        entries.append(data[at + 2 : end])
        at = end
    if cut:
        # One wrong length shifts all that follows: what comes after it are no entries.
        whole = next((at for at, entry in enumerate(entries) if not _looks_whole(entry)), len(entries))
        cut = len(entries) < width or whole < len(entries)
        entries = entries[:whole] if whole < width else entries
    problem = None
    if len(entries) > width or (at < len(data) and len(entries) == width):
        message = f"It holds more than the {width} entries that its name says."
        problem = damage("changed", path, message, index=first + width)
    elif len(entries) < width:
        what = "is cut short or malformed" if cut else f"holds {len(entries)} entries, not {width}"
        problem = damage("changed", path, f"The entry bundle {what}.", index=first + len(entries))
    return Copy(path, width, entries[:width], problem)


def _looks_whole(entry: bytes) -> bool:
    return entry[:1] == b"{" and entry[-1:] == b"}"


def _top(view: Leaves, size: int) -> bytes | None:
    leaves = [leaf for leaf in view[:size] if leaf is not None]
    return root(leaves) if len(leaves) == min(size, BUNDLE_WIDTH) else None


def _differs(entry: bytes | None, leaves: Sequence[bytes | None], place: int) -> bool:
    leaf = leaves[place] if place < len(leaves) else None
    return entry is not None and leaf is not None and leaf_hash(entry) != leaf


def _changed(path: str, first: int, places: Sequence[int]) -> list[Finding]:
    return [
        damage("changed", path, "It holds another entry than the log does.", index=first + place)
        for place in places[:MAX_ROW_FINDINGS]
    ]
