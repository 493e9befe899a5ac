"""RFC 9162 trees against the published eight-leaf test tree of Certificate Transparency."""

from __future__ import annotations

import pytest

from ledger.format.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAF_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
NODE_2_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
NODE_4_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
LEAF_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
NODE_4_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
NODE_6_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
INCLUSION = [
    (0, 1, []),
    (0, 8, [LEAF_1, NODE_2_3, NODE_4_7]),
    (5, 8, [LEAF_4, NODE_6_7, ROOTS[4]]),
    (2, 3, [ROOTS[2]]),
    (1, 5, [ROOTS[1], NODE_2_3, LEAF_4]),
]
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [LEAF_1, NODE_2_3, NODE_4_7]),
    (6, 8, [NODE_4_5, NODE_6_7, ROOTS[4]]),
    (2, 5, [NODE_2_3, LEAF_4]),
]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]


def unhex(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


@pytest.mark.parametrize("size", range(9))
def test_published_roots(size: int) -> None:
    assert root(HASHES[:size]).hex() == ROOTS[size]
    assert Tree(HASHES).root(size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "path"), INCLUSION)
def test_published_inclusion_proofs(index: int, size: int, path: list[str]) -> None:
    assert inclusion_proof(HASHES[:size], index) == unhex(path)
    assert Tree(HASHES).inclusion_proof(index, size) == unhex(path)
    assert verify_inclusion(HASHES[index], index, size, unhex(path), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "path"), CONSISTENCY)
def test_published_consistency_proofs(old: int, new: int, path: list[str]) -> None:
    assert consistency_proof(HASHES[:new], old) == unhex(path)
    assert Tree(HASHES).consistency_proof(old, new) == unhex(path)
    old_root, new_root = bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new])
    assert verify_consistency(old, new, old_root, new_root, unhex(path))


def test_hash_leaves_is_leaf_hash_of_each() -> None:
    assert list(map(leaf_hash, iter(LEAVES))) == HASHES
    assert list(map(leaf_hash, [])) == []


def test_a_node_is_not_a_leaf() -> None:
    assert leaf_hash(HASHES[0] + HASHES[1]) != node_hash(HASHES[0], HASHES[1])


def test_the_empty_tree() -> None:
    tree = Tree()
    assert (tree.size, tree.root(), root([])) == (0, EMPTY_ROOT, EMPTY_ROOT)
    with pytest.raises(ValueError, match="no leaf 0"):
        tree.inclusion_proof(0)
    with pytest.raises(ValueError, match="no consistency proof"):
        tree.consistency_proof(0)


def test_root_leaves_its_argument_alone() -> None:
    hashes = list(HASHES)
    root(hashes)
    assert hashes == HASHES


def test_out_of_range_is_refused() -> None:
    tree = Tree(HASHES)
    for index, size in ((-1, 8), (8, 8), (3, 3), (0, 0), (0, 9), (0, -1)):
        with pytest.raises(ValueError, match=r"no leaf|no state"):
            tree.inclusion_proof(index, size)
    for old, new in ((0, 8), (-1, 8), (5, 4), (9, 9), (1, 9)):
        with pytest.raises(ValueError, match=r"no consistency proof|no state"):
            tree.consistency_proof(old, new)
    for size in (-1, 9):
        with pytest.raises(ValueError, match="no state"):
            tree.root(size)
    for level, index in ((-1, 0), (0, -1), (0, 8), (3, 1), (4, 0)):
        with pytest.raises(ValueError, match="no complete subtree"):
            tree.subtree(level, index)


def test_a_leaf_hash_has_32_bytes_and_a_bad_one_adds_none() -> None:
    tree = Tree(HASHES)
    with pytest.raises(ValueError, match="32 bytes"):
        tree.append(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        tree.extend([HASHES[0], b""])
    assert tree.size == 8
    assert tree.root().hex() == ROOTS[8]


def test_subtrees_are_complete_ones() -> None:
    tree = Tree(HASHES[:7])
    assert tree.subtree(0, 6) == HASHES[6]
    assert tree.subtree(1, 2).hex() == NODE_4_5
    assert tree.subtree(2, 0).hex() == ROOTS[4]
    with pytest.raises(ValueError, match="no complete subtree"):
        tree.subtree(2, 1)


def test_consistency_from_the_empty_tree_is_left_to_the_caller() -> None:
    new_root = bytes.fromhex(ROOTS[8])
    assert not verify_consistency(0, 8, EMPTY_ROOT, new_root, [])
    assert not verify_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])


def test_verifiers_refuse_what_makes_no_sense() -> None:
    tree = Tree(HASHES)
    path, new_root = tree.inclusion_proof(5), tree.root()
    for index, size in ((-1, 8), (8, 8), (5, 0), (5, 5), (5, -8)):
        assert not verify_inclusion(HASHES[5], index, size, path, new_root)
    assert not verify_inclusion(HASHES[5], 5, 8, [*path, path[0]], new_root)
    assert not verify_inclusion(HASHES[5], 5, 8, path[:-1], new_root)
    assert not verify_inclusion(HASHES[5], 5, 8, [path[0][:31], *path[1:]], new_root)
    assert not verify_inclusion(b"", 5, 8, path, new_root)
    same = verify_consistency(8, 8, new_root, new_root, [])
    assert same
    assert not verify_consistency(8, 8, new_root, tree.root(7), [])
    assert not verify_consistency(8, 8, new_root, new_root, path)
    assert not verify_consistency(8, 6, new_root, tree.root(6), tree.consistency_proof(6))
    assert not verify_consistency(6, 8, tree.root(6), new_root, [])
    assert not verify_consistency(4, 8, tree.root(4), new_root, [])


def test_an_inclusion_proof_is_bound_to_its_size() -> None:
    """A path that happens to fit another shape must not pass for a tree of that other size."""
    tree = Tree(HASHES)
    for size in range(1, 9):
        for index in range(size):
            path = tree.inclusion_proof(index, size)
            for other in range(index + 1, 9):
                if other != size:
                    assert not verify_inclusion(HASHES[index], index, other, path, tree.root(other))


def test_an_index_beyond_the_tree_does_not_alias_a_leaf_inside() -> None:
    """Folding leaf 0's path with index 8 turns left at every level, as with index 0."""
    tree = Tree(HASHES)
    for index in range(8):
        for alias in (index + 8, index + 16, index - 8):
            assert not verify_inclusion(HASHES[index], alias, 8, tree.inclusion_proof(index), tree.root())


def test_a_path_that_stops_at_a_subtree_is_no_proof() -> None:
    tree = Tree(HASHES)
    path = tree.inclusion_proof(0)
    for length in range(3):
        assert not verify_inclusion(HASHES[0], 0, 8, path[:length], tree.subtree(length, 0))
    growth = tree.consistency_proof(1)
    for length in range(1, 3):
        assert not verify_consistency(1, 8, tree.root(1), tree.subtree(length, 0), growth[:length])


def test_both_roots_of_a_consistency_proof_are_checked() -> None:
    tree = Tree(HASHES)
    for old in range(1, 8):
        proof = tree.consistency_proof(old)
        assert not verify_consistency(old, 8, leaf_hash(b"other"), tree.root(), proof)
        assert not verify_consistency(old, 8, tree.root(old), leaf_hash(b"other"), proof)
