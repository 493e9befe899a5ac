"""Tile paths, bundles, and which tiles a tree has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import DamageError, UsageError
from ledger.format.merkle import Tree, leaf_hash, root
from ledger.format.tiles import (
    MAX_ENTRY_BYTES,
    HashTile,
    TilePath,
    bundles_for_size,
    decode_bundle,
    encode_bundle,
    entries_path,
    hash_tile_path,
    parse_tile_path,
    tile_bytes,
    tiles_added,
)
from tests.vectors.c2sp import VECTORS

HASHES = [leaf_hash(b"%d" % index) for index in range(700)]
TREE = Tree(HASHES)


@pytest.mark.parametrize("vector", VECTORS["tile_paths"], ids=lambda vector: str(vector["path"]))
def test_path_vectors(vector: dict[str, Any]) -> None:
    level, index, width, path = vector["level"], vector["index"], vector["width"], vector["path"]
    made = entries_path(index, width) if level is None else hash_tile_path(level, index, width)
    assert made == path
    assert parse_tile_path(path) == TilePath(level, index, width)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/0",
        "tile/0/00",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/x000/x001/000",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/00/000",
        "tile/01/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/entries/000.p/0",
        "tile/entries/000.p/256",
        "tile/entries/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/1/",
        "tile/0/000.p/1\n",
        "tile/0/000/",
        "/tile/0/000",
        "tile//0/000",
        "tile/0/٠٠٠",
        "tile/0/000.tmp",
        "tile/8/0/000",
        "tile/entries/" + "x001/" * 50 + "001",
    ],
)
def test_what_is_no_tile_path(path: str) -> None:
    assert parse_tile_path(path) is None


@given(st.none() | st.integers(0, 63), st.integers(0, 10**18), st.none() | st.integers(1, 255))
def test_paths_survive(level: int | None, index: int, width: int | None) -> None:
    tile = TilePath(level, index, width)
    assert parse_tile_path(tile.path) == tile


def test_narrow_bundles_have_narrow_partials() -> None:
    assert entries_path(2, 3, bundle_width=4) == "tile/entries/002.p/3"
    assert parse_tile_path("tile/entries/002.p/3", bundle_width=4) == TilePath(None, 2, 3)
    assert parse_tile_path("tile/entries/002.p/4", bundle_width=4) is None
    assert parse_tile_path("tile/0/002.p/4", bundle_width=4) == TilePath(0, 2, 4)
    with pytest.raises(ValueError, match="partial"):
        entries_path(2, 4, bundle_width=4)


@pytest.mark.parametrize("place", [(-1, 0, None), (64, 0, None), (0, -1, None), (0, 0, 0), (0, 0, 256)])
def test_impossible_places(place: tuple[int, int, int | None]) -> None:
    with pytest.raises(ValueError, match="tile"):
        hash_tile_path(*place)


def test_bundle_vector() -> None:
    entries = [bytes.fromhex(entry) for entry in VECTORS["bundle"]["entries"]]
    data = bytes.fromhex(VECTORS["bundle"]["data"])
    assert encode_bundle(entries) == data
    assert decode_bundle(data) == entries


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=40))
def test_bundles_survive_and_no_cut_one_passes(entries: list[bytes]) -> None:
    data = encode_bundle(entries)
    assert decode_bundle(data) == entries
    starts = [0]
    for entry in entries:
        starts.append(starts[-1] + 2 + len(entry))
    for cut in range(len(data)):
        if cut in starts[1:]:
            assert decode_bundle(data[:cut]) == entries[: starts.index(cut)]
        else:
            with pytest.raises(DamageError, match=r"ends inside|no entry"):
                decode_bundle(data[:cut])


def test_bytes_after_a_bundle_are_damage() -> None:
    data = encode_bundle([b"one", b"two"])
    for extra in (b"\x00", b"\x00\x01", b"\xff\xff..."):
        with pytest.raises(DamageError, match="ends inside its entry 2"):
            decode_bundle(data + extra)


def test_a_bundle_over_its_width_is_damage() -> None:
    full = encode_bundle([b"x"] * 256)
    assert len(decode_bundle(full)) == 256
    with pytest.raises(DamageError, match="more than 256"):
        decode_bundle(full + b"\x00\x01x")
    with pytest.raises(DamageError, match="more than 4"):
        decode_bundle(full, bundle_width=4)


def test_entry_limits() -> None:
    largest = bytes(MAX_ENTRY_BYTES)
    assert decode_bundle(encode_bundle([largest])) == [largest]
    with pytest.raises(UsageError, match="65536 bytes"):
        encode_bundle([largest + b"x"])
    with pytest.raises(ValueError, match="1 to 256"):
        encode_bundle([])
    with pytest.raises(ValueError, match="1 to 4"):
        encode_bundle([b""] * 5, bundle_width=4)


def test_the_specifications_example_of_70000_leaves() -> None:
    tiles = tiles_added(0, 70_000)
    assert len(tiles) == 273 + 1 + 1 + 1 + 1
    assert tiles[272:] == [
        HashTile(0, 272, 256),
        HashTile(0, 273, 112),
        HashTile(1, 0, 256),
        HashTile(1, 1, 17),
        HashTile(2, 0, 1),
    ]
    assert [tile.path for tile in tiles[-3:]] == ["tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"]
    assert tiles_added(0, 256) == [HashTile(0, 0, 256), HashTile(1, 0, 1)]
    assert tiles_added(0, 0) == []


def test_bundles_for_a_size() -> None:
    assert list(bundles_for_size(0)) == []
    assert list(bundles_for_size(256)) == [(0, None)]
    assert list(bundles_for_size(513)) == [(0, None), (1, None), (2, 1)]
    assert list(bundles_for_size(7, bundle_width=3)) == [(0, None), (1, None), (2, 1)]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 3))
def test_growth_adds_exactly_the_tiles_that_were_not_there(old: int, grown: int, bits: int) -> None:
    new = old + grown
    before, after = set(tiles_added(0, old, bits)), set(tiles_added(0, new, bits))
    added = tiles_added(old, new, bits)
    assert set(added) == after - before
    assert added == sorted(added)
    assert tiles_added(new, new, bits) == []


def test_sizes_that_cannot_be() -> None:
    for old, new in ((-1, 0), (2, 1)):
        with pytest.raises(ValueError, match=r"size|shrink"):
            tiles_added(old, new)
    with pytest.raises(ValueError, match="negative"):
        list(bundles_for_size(-1))


@given(st.integers(0, 700), st.sampled_from([1, 2, 3, 8]))
def test_tiles_hold_the_roots_of_complete_subtrees(size: int, bits: int) -> None:
    for tile in tiles_added(0, size, bits):
        content = tile_bytes(TREE, tile.level, tile.index, tile.width, bits)
        span = 1 << bits * tile.level
        first = (tile.index << bits) * span
        for place in range(tile.width):
            leaves = HASHES[first + place * span : first + (place + 1) * span]
            assert content[place * 32 : place * 32 + 32] == root(leaves)


def test_a_tile_beyond_the_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="no complete subtree"):
        tile_bytes(Tree(HASHES[:300]), 0, 1, 45)
    with pytest.raises(ValueError, match="1 to 256"):
        tile_bytes(TREE, 0, 0, 0)
