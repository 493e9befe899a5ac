"""Whether every file under `tile/` is there and holds what the log that is believed gives it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ledger.format.manifest import check_signature, parse_entry
from ledger.format.tiles import BUNDLE_WIDTH, TILE_WIDTH, TilePath, entries_path, hash_tile_path, tile_bytes
from ledger.verify.copies import Bundle, Read, judge_copies
from ledger.verify.findings import Finding, damage, listed
from ledger.verify.lenient_state import REFUSALS
from ledger.verify.log_view import LogView


def judge_bundles(view: LogView, refused: Collection[str]) -> list[Finding]:
    """Each copy of each entry bundle, and those that are missing.

    `refused` are paths whose entries beyond the log were reported already.
    """
    found: list[Finding] = []
    for bundle in view.bundles:
        leaves = view.leaves[bundle.first : bundle.first + BUNDLE_WIDTH]
        for finding in judge_copies(bundle, leaves):
            if finding.path in refused and (finding.index or 0) >= view.reach:
                continue
            found.append(_lost_race(bundle, finding, view) or finding)
        there = set(bundle.paths.values())
        missing = [path for path in _needed(bundle, view) if path not in there]
        found += [damage("missing", path, "Entries of the log are missing.") for path in missing]
    return found


def judge_hash_tiles(
    listing: Mapping[str, int], read: Read, tiles: Sequence[TilePath], view: LogView, known: int
) -> list[Finding]:
    """Each hash tile, full and partial, byte by byte, and those that are missing.

    A writer makes the tiles of every size, so that each width up to the present one is there until
    the full tile is.
    """
    found = [
        damage("missing", path, "Hashes of the log are missing.")
        for path in _needed_tiles(view.size)
        if path not in listing
    ]
    unknown = [index for index, leaf in enumerate(view.leaves) if leaf is None]
    for tile in tiles:
        level, width = tile.level or 0, tile.width or TILE_WIDTH
        start = tile.index * TILE_WIDTH << (8 * level)
        end = tile.index * TILE_WIDTH + width << (8 * level)
        if end > view.reach:
            found.append(damage("extra", tile.path, "It lies beyond the end of the log."))
        elif end > known and not any(start <= index < end for index in unknown):
            data = read(tile.path)
            if data is None:
                found.append(damage("missing", tile.path, "Hashes of the log are missing."))
            elif data != tile_bytes(view.tree, level, tile.index, width):
                found.append(damage("changed", tile.path, "It does not hold the hashes of the entries."))
    return found


def _needed(bundle: Bundle, view: LogView) -> list[str]:
    """The full bundle where the checkpoint covers it, else every width so far."""
    width = min(BUNDLE_WIDTH, max(view.size, view.reach) - bundle.first)
    whole = bundle.first + BUNDLE_WIDTH <= view.size
    if view.head is None and width == BUNDLE_WIDTH:
        # How far the checkpoint went is not known.
        whole = BUNDLE_WIDTH in bundle.paths or bundle is not view.bundles[-1]
    if whole:
        return [entries_path(bundle.number)]
    widths = range(1, width + 1)
    return [entries_path(bundle.number, None if each == BUNDLE_WIDTH else each) for each in widths]


def _needed_tiles(size: int) -> list[str]:
    needed: list[str] = []
    level = 0
    while count := size >> (8 * level):
        full, rest = divmod(count, TILE_WIDTH)
        needed += [hash_tile_path(level, index) for index in range(full)]
        needed += [hash_tile_path(level, full, width) for width in range(1, rest + 1)]
        level += 1
    return needed


def _lost_race(bundle: Bundle, finding: Finding, view: LogView) -> Finding | None:
    """A partial beside its full bundle that differs in its last entry only, which a writer signed."""
    copy = next((copy for copy in bundle.copies if copy.path == finding.path), None)
    if copy is None or copy.problem is not None or BUNDLE_WIDTH not in bundle.paths:
        return None
    place = copy.width - 1
    index = bundle.first + place
    if copy.width == BUNDLE_WIDTH or finding.index != index or copy.entries[:place] != bundle.entries[:place]:
        return None
    key = view.key_after(index)
    try:
        entry = parse_entry(copy.entries[place])
        if key is None or (entry.index, entry.prev) != (index, view.tree.root(index).hex()):
            return None
        check_signature(entry, copy.entries[place], view.state.origin, key)
    except REFUSALS:
        return None
    message = "A writer that lost the race for this entry left it; the full bundle counts."
    return listed("lost-race", copy.path, message, index=index)
