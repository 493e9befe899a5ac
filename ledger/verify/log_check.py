"""Whether the commit log is whole: every copy of every entry, every hash tile, and the checkpoint.

Nothing here trusts what it reads: a signature leads from the key to the checkpoint's root, the root
to the leaf hashes, those to the entries, and each entry is judged once more by the rules of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.errors import DamageError
from ledger.format.checkpoint import open_checkpoint
from ledger.format.note import VerifierKey
from ledger.format.tiles import BUNDLE_WIDTH, TILE_WIDTH, TilePath, parse_tile_path
from ledger.log.protocol import CHECKPOINT
from ledger.verify.copies import (
    MAX_MISSING_BUNDLES,
    Bundle,
    Read,
    agree_on,
    believe,
    leaves_of_tile,
    read_bundle,
    views,
)
from ledger.verify.findings import damage
from ledger.verify.keys import bears_name_of, key_of, known_keys, prefer_signed
from ledger.verify.log_replay import LogReplay
from ledger.verify.log_view import LogView
from ledger.verify.tiles_check import judge_bundles, judge_hash_tiles

TILES_FOLDER: Final = "tile"


def check_log(
    listing: Mapping[str, int],
    read: Read,
    *,
    pinned: VerifierKey | None,
    init: bytes | None = None,
    known: int = 0,
) -> LogView:
    """Check all that lies under `tile/`, and the checkpoints.

    `listing` gives the size in bytes of every path of the ledger. `init` is what another file says
    that entry 0 is; it helps to judge the rest where the log's own is damaged. The first `known`
    entries were verified before: their signatures and the tiles below them are not checked again.
    """
    return _LogCheck(listing, read, pinned, init, known).run()


class _LogCheck(LogReplay):
    def __init__(
        self,
        listing: Mapping[str, int],
        read: Read,
        pinned: VerifierKey | None,
        init: bytes | None,
        known: int,
    ) -> None:
        super().__init__(pinned, init, known)
        self.listing = listing
        self.read = read
        self.hash_tiles: list[TilePath] = []
        self.bundle_paths: dict[int, dict[int, str]] = {}
        self.signer: VerifierKey | None = None
        self.foreign_head = False

    def run(self) -> LogView:
        self._sort_paths()
        self._read_bundles()
        self._open_checkpoint(self.read(CHECKPOINT))
        self._fit_bundles()
        self._settle_leaves()
        self.replay()
        self.found += judge_bundles(self.view, self.refused)
        self.found += judge_hash_tiles(self.listing, self.read, self.hash_tiles, self.view, self.known)
        self._judge_keys()
        lost = self.view.head is None or not self.view.complete
        if lost and not any(finding.severity == "damage" for finding in self.found):
            self.found.append(damage("checkpoint", CHECKPOINT, "Nothing that it covers could be verified."))
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

    def _read_bundles(self) -> None:
        """Every bundle that is there, and a place for each that lies between them."""
        present = self.bundle_paths
        bound = len(present) + MAX_MISSING_BUNDLES
        for number in range(max((number for number in present if number < bound), default=-1) + 1):
            paths = present.get(number, {})
            if (number + 1) * BUNDLE_WIDTH <= self.known and BUNDLE_WIDTH in paths:
                paths = {BUNDLE_WIDTH: paths[BUNDLE_WIDTH]}
            self.view.bundles.append(read_bundle(number, paths, self.read))
        for number in sorted(number for number in present if number >= bound):
            self._refuse_beyond(present[number])

    def _fit_bundles(self) -> None:
        """Drop what lies beyond the end of the log, and make room for entries that are missing."""
        bundles = self.view.bundles
        size = self.view.head.size if self.view.head is not None else 0
        bound = (len(bundles) + MAX_MISSING_BUNDLES) * BUNDLE_WIDTH
        if size > bound:
            message = f"It covers {size} entries; the log holds far fewer."
            self.found.append(damage("checkpoint", CHECKPOINT, message))
            size = bound
        for number in range(len(bundles), -(-size // BUNDLE_WIDTH)):
            bundles.append(Bundle(number, {}))
        if self.view.head is None and bundles:
            size = bundles[-1].first + len(bundles[-1].entries)
        for bundle in bundles:
            lacking = min(BUNDLE_WIDTH, size - bundle.first) - len(bundle.entries)
            bundle.entries += [None] * max(0, lacking)
        while bundles and bundles[-1].first >= size and not self._continues(len(bundles) - 1):
            self._refuse_beyond(bundles.pop().paths)

    def _continues(self, number: int) -> bool:
        """Whether bundle `number` holds entries right after those of full bundles."""
        bundles = self.view.bundles
        before = number == 0 or len(bundles[number - 1].entries) == BUNDLE_WIDTH
        return (
            bool(bundles[number].entries)
            and before
            and (number == 0 or self._continues_from_size(number - 1))
        )

    def _continues_from_size(self, number: int) -> bool:
        size = self.view.head.size if self.view.head is not None else 0
        return self.view.bundles[number].first < size or self._continues(number)

    def _refuse_beyond(self, paths: Mapping[int, str]) -> None:
        for path in paths.values():
            self.found.append(damage("extra", path, "It lies beyond the end of the log."))

    def _open_checkpoint(self, note: bytes | None) -> None:
        """Find the key that signed the head; that it was the key in force is judged after the replay."""
        if note is None:
            self.found.append(damage("missing", CHECKPOINT, "The log has no signed head."))
            return
        for key in known_keys(self.view.bundles, self.pinned, key_of(self.init)):
            try:
                self.view.head = open_checkpoint(note, key)
            except DamageError as error:
                if bears_name_of(note, key):
                    self.found.append(damage("changed", CHECKPOINT, error.message))
                    return
            else:
                self.view.note, self.signer = note, key
                return
        self.foreign_head = True

    def _settle_leaves(self) -> None:
        """Decide which leaf hashes to believe, and which of disagreeing copies hold their entries."""
        keys = known_keys(self.view.bundles, self.pinned, key_of(self.init))
        for bundle in self.view.bundles:
            if bundle.copies:
                prefer_signed(bundle, keys)
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

    def _judge_keys(self) -> None:
        if self.foreign_head and not self.key_lost:
            self.found.append(damage("wrong-key", CHECKPOINT, "No key of this ledger signed it."))
        chain = {key.text for key in self.state.keys}
        if self.pinned is not None and self.pinned.text not in chain:
            message = (
                f"This ledger's key is {self.state.key.text if chain else 'lost'}, not {self.pinned.text}."
            )
            self.found.append(damage("wrong-key", CHECKPOINT, message))
        key = self.view.key_after(self.view.size)
        if self.signer is not None and key is not None and self.signer != key:
            message = f"It is signed by {self.signer.text}, but {key.text} signs heads of this size."
            self.found.append(damage("wrong-key", CHECKPOINT, message))
