"""Every proof of every tree up to 600 leaves, pymerkle as oracle, and tampered proofs."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from ledger.format.merkle import Tree, leaf_hash, root, verify_consistency, verify_inclusion
from ledger.format.merkle import consistency_proof as consistency_proof_of
from ledger.format.merkle import inclusion_proof as inclusion_proof_of
from tests.vectors.make_c2sp_vectors import subproof

MOST = 600
DATA = [b"leaf %d" % index for index in range(MOST)]
HASHES = [leaf_hash(data) for data in DATA]
TREE = Tree(HASHES)
ROOTS = [root(HASHES[:size]) for size in range(MOST + 1)]

sizes = st.integers(1, MOST)


def oracle() -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for data in DATA:
        tree.append_entry(data)
    return tree


ORACLE = oracle()


def test_a_tree_knows_the_root_of_every_earlier_size() -> None:
    grown = Tree()
    for size in range(MOST + 1):
        assert TREE.root(size) == ROOTS[size]
        assert grown.root() == ROOTS[size]
        if size < MOST:
            grown.append(HASHES[size])


def test_every_inclusion_proof_of_every_size_verifies() -> None:
    for size in range(1, MOST + 1):
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            assert verify_inclusion(HASHES[index], index, size, proof, ROOTS[size]), (index, size)


def test_every_consistency_proof_between_every_two_sizes_verifies() -> None:
    for new in range(1, MOST + 1):
        for old in range(1, new + 1):
            proof = TREE.consistency_proof(old, new)
            assert verify_consistency(old, new, ROOTS[old], ROOTS[new], proof), (old, new)


def test_the_oracle_has_the_same_roots() -> None:
    for size in range(1, MOST + 1):
        assert ORACLE.get_root(size) == ROOTS[size]


@given(sizes, st.data())
def test_the_oracle_makes_the_same_inclusion_proofs(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    theirs = ORACLE.prove_inclusion(index + 1, size)
    assert theirs.path == [HASHES[index], *TREE.inclusion_proof(index, size)]
    assert inclusion_proof_of(HASHES[:size], index) == TREE.inclusion_proof(index, size)


@given(sizes, st.data())
def test_consistency_proofs_are_those_of_the_recursive_definition(new: int, data: st.DataObject) -> None:
    # pymerkle is no oracle here: its consistency paths go down to single leaves and are no RFC 9162 proofs.
    old = data.draw(st.integers(1, new))
    assert TREE.consistency_proof(old, new) == subproof(old, HASHES[:new], True)
    assert consistency_proof_of(HASHES[:new], old) == TREE.consistency_proof(old, new)


@given(st.lists(st.integers(0, 40), max_size=12))
def test_growing_in_steps_gives_the_same_tree(steps: list[int]) -> None:
    grown, at = Tree(), 0
    for step in steps:
        grown.extend(HASHES[at : at + step])
        at += step
    assert grown.size == at
    assert [grown.root(size) for size in range(at + 1)] == ROOTS[: at + 1]


@given(sizes, st.data())
def test_a_tampered_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = TREE.inclusion_proof(index, size)
    tampered = data.draw(tampered_paths(proof))
    assert not verify_inclusion(HASHES[index], index, size, tampered, ROOTS[size])
    other = data.draw(
        st.integers(0, size - 1).filter(lambda place: place != index) if size > 1 else st.just(size)
    )
    assert not verify_inclusion(HASHES[index], other, size, proof, ROOTS[size])
    assert not verify_inclusion(HASHES[(index + 1) % MOST], index, size, proof, ROOTS[size])
    assert not verify_inclusion(HASHES[index], index, size, proof, ROOTS[size - 1])


@given(sizes, st.data())
def test_a_tampered_consistency_proof_is_refused(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new))
    proof = TREE.consistency_proof(old, new)
    tampered = data.draw(tampered_paths(proof))
    assert not verify_consistency(old, new, ROOTS[old], ROOTS[new], tampered)
    assert not verify_consistency(old, new, ROOTS[old - 1], ROOTS[new], proof)
    assert not verify_consistency(old, new, ROOTS[old], ROOTS[new - 1], proof)


@given(st.integers(2, MOST), st.data())
def test_a_fork_has_no_consistency_proof(new: int, data: st.DataObject) -> None:
    old = data.draw(st.integers(1, new - 1))
    changed = data.draw(st.integers(0, old - 1))
    fork = Tree([*HASHES[:changed], leaf_hash(b"another"), *HASHES[changed + 1 : new]])
    assume(fork.root(old) != ROOTS[old])
    for proof in (fork.consistency_proof(old, new), TREE.consistency_proof(old, new)):
        assert not verify_consistency(old, new, ROOTS[old], fork.root(new), proof)


def tampered_paths(path: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    """The path with a flipped bit, a lost hash or one too many."""
    longer = st.integers(0, len(path)).map(lambda at: [*path[:at], leaf_hash(b"extra"), *path[at:]])
    if not path:
        return longer
    places = st.integers(0, len(path) - 1)
    shorter = places.map(lambda at: path[:at] + path[at + 1 :])
    flipped = st.tuples(places, st.integers(0, 255)).map(
        lambda choice: [flip(hash_, choice[1]) if at == choice[0] else hash_ for at, hash_ in enumerate(path)]
    )
    return st.one_of(longer, shorter, flipped)


def flip(hash_: bytes, bit: int) -> bytes:
    return (int.from_bytes(hash_, "big") ^ 1 << bit).to_bytes(32, "big")
