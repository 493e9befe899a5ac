"""C2SP tlog-tiles (c2sp.org/tlog-tiles): paths, entry bundles, and which tiles a tree has.

    tile/<L>/<N>[.p/<W>]         W hashes of complete subtrees over 256^L leaves each
    tile/entries/<N>[.p/<W>]     W entries, each as (uint16 big-endian length || entry)

A width is a number of hashes or entries; paths leave it out for a full tile (`width=None`).
Hash tiles are 2^8 wide. The width of a full bundle is a parameter, so that a model of the commit
protocol can fill bundles in a few steps; on disk it is always 256.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.errors import DamageError, UsageError
from ledger.format.merkle import HASH_BYTES, Tree

TILE_BITS = 8
TILE_WIDTH = 1 << TILE_BITS
BUNDLE_WIDTH = 256
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 65_535
"""An entry's length is written as a uint16."""
MAX_BUNDLE_BYTES = BUNDLE_WIDTH * (2 + MAX_ENTRY_BYTES)

_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_BUNDLE_REMEDY = "Restore the entry bundle from a copy; the log's hashes tell which copy is right."


@dataclass(frozen=True, slots=True, order=True)
class HashTile:
    """A tile that a tree has: `width` hashes, the tile's full width where it is complete."""

    level: int
    index: int
    width: int

    @property
    def path(self) -> str:
        """Where the tile lies (for tiles of the one width that is stored, 256)."""
        return hash_tile_path(self.level, self.index, None if self.width == TILE_WIDTH else self.width)


@dataclass(frozen=True, slots=True)
class TilePath:
    """A parsed path: `level` is None for an entry bundle, `width` None for a full tile or bundle."""

    level: int | None
    index: int
    width: int | None

    @property
    def path(self) -> str:
        """The one path of this tile or bundle."""
        place = "entries" if self.level is None else str(self.level)
        return f"tile/{place}/{_index_path(self.index)}{_width_path(self.width)}"


def hash_tile_path(level: int, index: int, width: int | None = None) -> str:
    """`tile/<L>/<N>`, with `.p/<W>` for a partial one.

    ValueError unless 0 <= level <= 63, index >= 0 and width, where given, is 1..255 (256 and more
    would be no partial tile).
    """
    if not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"a tile's level lies between 0 and {MAX_LEVEL}, not {level}")
    _check_place(index, width, TILE_WIDTH)
    return TilePath(level, index, width).path


def entries_path(index: int, width: int | None = None, bundle_width: int = BUNDLE_WIDTH) -> str:
    """`tile/entries/<N>`, with `.p/<W>` for a partial one.

    ValueError unless index >= 0 and width, where given, is 1..bundle_width - 1.
    """
    _check_place(index, width, bundle_width)
    return TilePath(None, index, width).path


def parse_tile_path(path: str, bundle_width: int = BUNDLE_WIDTH) -> TilePath | None:
    """The tile or bundle at this path, or None when it is not the one canonical path of any."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    place, digits, partial = match.groups()
    level = None if place == "entries" else int(place)
    width = None if partial is None else int(partial)
    if level is not None and level > MAX_LEVEL:
        return None
    if width is not None and width >= (bundle_width if level is None else TILE_WIDTH):
        return None
    parsed = TilePath(level, int(digits.replace("/", "").replace("x", "")), width)
    # Needless leading groups (x000/001) parse to the same index but are another path.
    return parsed if parsed.path == path else None


def encode_bundle(entries: Sequence[bytes], bundle_width: int = BUNDLE_WIDTH) -> bytes:
    """The bundle of these entries.

    ValueError for none or more than `bundle_width`; UsageError for an entry over MAX_ENTRY_BYTES.
    """
    if not 0 < len(entries) <= bundle_width:
        raise ValueError(f"a bundle holds 1 to {bundle_width} entries, not {len(entries)}")
    for entry in entries:
        if len(entry) > MAX_ENTRY_BYTES:
            raise UsageError(
                f"A log entry of {len(entry)} bytes is over the limit of {MAX_ENTRY_BYTES}.",
                "Commit fewer segments at once.",
            )
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(data: bytes, bundle_width: int = BUNDLE_WIDTH) -> list[bytes]:
    """The entries of a bundle, 1 to `bundle_width` of them.

    DamageError when it is empty, cut short, followed by bytes that are no entry, or holds more. A
    well-formed extra entry cannot be seen here: the caller compares the count with the width it
    asked for.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        start = at + 2
        at = start + int.from_bytes(data[at:start], "big")
        if start > len(data) or at > len(data):
            raise DamageError(f"An entry bundle ends inside its entry {len(entries)}.", _BUNDLE_REMEDY)
        if len(entries) == bundle_width:
            raise DamageError(f"An entry bundle holds more than {bundle_width} entries.", _BUNDLE_REMEDY)
        entries.append(data[start:at])
    if not entries:
        raise DamageError("An entry bundle holds no entry.", _BUNDLE_REMEDY)
    return entries


def bundles_for_size(size: int, bundle_width: int = BUNDLE_WIDTH) -> Iterator[tuple[int, int | None]]:
    """(index, width) of every bundle that a log of `size` entries needs, width None for full ones.

    ValueError when size < 0.
    """
    full, rest = divmod(_checked_size(size), bundle_width)
    for index in range(full):
        yield index, None
    if rest:
        yield full, rest


def tiles_added(old_size: int, new_size: int, width_bits: int = TILE_BITS) -> list[HashTile]:
    """The hash tiles of the tree of `new_size` leaves that the tree of `old_size` does not have.

    By level, then index: each tile that the growth completed, and the partial at the right edge of
    each level that grew. Partials of sizes between the two are not named: no checkpoint needs them.
    ValueError unless 0 <= old_size <= new_size.
    """
    if _checked_size(old_size) > new_size:
        raise ValueError(f"a tree does not shrink from {old_size} to {new_size}")
    added: list[HashTile] = []
    full_width = 1 << width_bits
    level = 0
    while new_size:
        if new_size > old_size:
            added += [
                HashTile(level, index, full_width)
                for index in range(old_size // full_width, new_size // full_width)
            ]
            if new_size % full_width:
                added.append(HashTile(level, new_size // full_width, new_size % full_width))
        old_size >>= width_bits
        new_size >>= width_bits
        level += 1
    return added


def tile_bytes(tree: Tree, level: int, index: int, width: int, width_bits: int = TILE_BITS) -> bytes:
    """The tile's content: `width` hashes of 32 bytes from `tree`.

    ValueError when the tree does not reach that far or the width is not 1..2^width_bits.
    """
    if not 0 < width <= 1 << width_bits:
        raise ValueError(f"a tile holds 1 to {1 << width_bits} hashes, not {width}")
    first = index << width_bits
    content = b"".join(tree.subtree(level * width_bits, first + place) for place in range(width))
    assert len(content) == width * HASH_BYTES
    return content


def _check_place(index: int, width: int | None, full_width: int) -> None:
    if index < 0:
        raise ValueError(f"a tile's index is not negative: {index}")
    if width is not None and not 0 < width < full_width:
        raise ValueError(f"a partial tile's width lies between 1 and {full_width - 1}, not {width}")


def _checked_size(size: int) -> int:
    if size < 0:
        raise ValueError(f"a tree's size is not negative: {size}")
    return size


def _index_path(index: int) -> str:
    path = f"{index % 1000:03}"
    while index >= 1000:
        index //= 1000
        path = f"x{index % 1000:03}/{path}"
    return path


def _width_path(width: int | None) -> str:
    return "" if width is None else f".p/{width}"
