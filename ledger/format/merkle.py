"""RFC 9162 section 2.1 Merkle trees over SHA-256: roots, inclusion and consistency proofs.

A hash is 32 bytes. A leaf hash is SHA-256(0x00 || data), a node hash SHA-256(0x01 || left || right);
the two prefixes keep a node from being passed off as a leaf. Functions that take `leaf_hashes`
take the result of `leaf_hash`, never the data itself. Out-of-range sizes and indexes raise
ValueError; a proof that does not hold makes a verifier return False.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Self

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves (RFC 9162 section 2.1.1)."""

_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hash(data: bytes) -> bytes:
    """The hash of one leaf's data (RFC 9162 section 2.1.1)."""
    return sha256(_LEAF + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node from those of its two children (RFC 9162 section 2.1.1)."""
    return sha256(_NODE + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over the leaf hashes, EMPTY_ROOT for none (RFC 9162 section 2.1.1).

    A lone last node moves up unhashed, which gives the recursive definition's root.
    """
    if not leaf_hashes:
        return EMPTY_ROOT
    digest, prefix = sha256, _NODE
    nodes = leaf_hashes
    while len(nodes) > 1:
        children = iter(nodes)
        parents = [
            digest(prefix + left + right).digest() for left, right in zip(children, children, strict=False)
        ]
        if len(nodes) & 1:
            parents.append(nodes[-1])
        nodes = parents
    return nodes[0]


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The path of leaf `index`, from its sibling up to the root's child (RFC 9162 section 2.1.3.1).

    Raises ValueError unless 0 <= index < number of leaves.
    """
    return Tree(leaf_hashes).inclusion_proof(index)


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """Proof that the tree of the first `old_size` leaves is a prefix (RFC 9162 section 2.1.4.1).

    Raises ValueError unless 0 < old_size <= number of leaves.
    """
    return Tree(leaf_hashes).consistency_proof(old_size)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf hash `leaf` stands at `index` in the tree of `size` leaves under `root`.

    RFC 9162 section 2.1.3.2. Never raises: a bad index, size or hash length makes it False.
    """
    if not 0 <= index < size or not _are_hashes((leaf, root, *proof)):
        return False
    position, last = index, size - 1
    digest = leaf
    for sibling in proof:
        if last == 0:
            return False
        if position & 1 or position == last:
            digest = node_hash(sibling, digest)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            digest = node_hash(digest, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and digest == root


def verify_consistency(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree (new_size, new_root) extends the tree (old_size, old_root).

    RFC 9162 section 2.1.4.2. Never raises. That algorithm starts from a tree that has a leaf, so
    old_size 0 is always False here: a caller that must accept growth from the empty tree (a witness
    answering `old 0`) decides that before it asks.
    """
    if not 0 < old_size <= new_size or not _are_hashes((old_root, new_root, *proof)):
        return False
    if old_size == new_size:
        return not proof and old_root == new_root
    # A complete old tree is itself the first node, and the proof leaves it out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_digest = new_digest = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            old_digest = node_hash(sibling, old_digest)
            new_digest = node_hash(sibling, new_digest)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_digest = node_hash(new_digest, sibling)
        position >>= 1
        last >>= 1
    return last == 0 and old_digest == old_root and new_digest == new_root


def _are_hashes(values: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


class Tree:
    """An append-only tree that remembers the hash of every complete subtree.

    `root`, `inclusion_proof` and `consistency_proof` cost O(log size) hashes for the present size
    and for every earlier one. It holds about two hashes per leaf.
    """

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        # _levels[k][i] is the root of leaves i * 2^k up to (i + 1) * 2^k.
        self._levels: list[list[bytes]] = [[]]
        self.extend(leaf_hashes)

    @classmethod
    def of_levels(cls, levels: Sequence[list[bytes]]) -> Self:
        """A tree from what `levels` gave; nothing is hashed."""
        tree = cls()
        tree._levels = list(levels) or [[]]
        return tree

    def levels(self) -> Sequence[Sequence[bytes]]:
        """The roots of the complete subtrees over 2^k leaves, by k, in order."""
        return self._levels

    @property
    def size(self) -> int:
        """The number of leaves."""
        return len(self._levels[0])

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf hash. Raises ValueError when it is not 32 bytes."""
        self.extend((leaf_hash,))

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaf hashes in order. Raises ValueError, adding none, when one is not 32 bytes."""
        added = list(leaf_hashes)
        if not _are_hashes(added):
            raise ValueError(f"a leaf hash has {HASH_BYTES} bytes")
        self._levels[0].extend(added)
        digest, prefix = sha256, _NODE
        for level in range(self.size.bit_length() - 1):
            if level + 1 == len(self._levels):
                self._levels.append([])
            nodes, parents = self._levels[level], self._levels[level + 1]
            if len(nodes) // 2 == len(parents):
                break
            children = iter(nodes[2 * len(parents) :])
            parents.extend(
                [
                    digest(prefix + left + right).digest()
                    for left, right in zip(children, children, strict=False)
                ]
            )

    def subtree(self, level: int, index: int) -> bytes:
        """The root of the complete subtree over leaves index * 2^level up to (index + 1) * 2^level.

        Raises ValueError when the tree does not hold all those leaves.
        """
        if level < 0 or index < 0 or level >= len(self._levels) or index >= len(self._levels[level]):
            raise ValueError(f"a tree of {self.size} leaves has no complete subtree {index} at level {level}")
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves (default: all). ValueError unless 0 <= size <= self.size."""
        size = self._checked_size(size)
        return self._range_root(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The path of leaf `index` in the tree of the first `size` leaves, as the module function.

        Raises ValueError unless 0 <= index < size <= self.size.
        """
        size = self._checked_size(size)
        if not 0 <= index < size:
            raise ValueError(f"no leaf {index} in a tree of {size} leaves")
        siblings: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _left_width(end - start)
            if index < middle:
                siblings.append(self._range_root(middle, end))
                end = middle
            else:
                siblings.append(self._range_root(start, middle))
                start = middle
        siblings.reverse()
        return siblings

    def consistency_proof(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Proof that the tree of `new_size` leaves extends that of `old_size`, as the module function.

        Raises ValueError unless 0 < old_size <= new_size <= self.size: from the empty tree there
        is nothing to prove, and RFC 9162 defines no proof.
        """
        new_size = self._checked_size(new_size)
        if not 0 < old_size <= new_size:
            raise ValueError(f"no consistency proof from size {old_size} to size {new_size}")
        siblings: list[bytes] = []
        start, end = 0, new_size
        while end != old_size:
            middle = start + _left_width(end - start)
            if old_size <= middle:
                siblings.append(self._range_root(middle, end))
                end = middle
            else:
                siblings.append(self._range_root(start, middle))
                start = middle
        if start:
            siblings.append(self._range_root(start, end))
        siblings.reverse()
        return siblings

    def _checked_size(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError(f"a tree of {self.size} leaves has no state of size {size}")
        return size

    def _range_root(self, start: int, end: int) -> bytes:
        """The root of leaves start..end, where start is a multiple of every complete part's width."""
        digest: bytes | None = None
        while end > start:
            level = _lowest_bit(end - start)
            end -= 1 << level
            part = self._levels[level][end >> level]
            digest = part if digest is None else node_hash(part, digest)
        assert digest is not None, "a range of leaves is never empty"
        return digest


def _left_width(width: int) -> int:
    """The largest power of two below `width`, which is at least 2 (RFC 9162's k)."""
    return 1 << ((width - 1).bit_length() - 1)


def _lowest_bit(value: int) -> int:
    return (value & -value).bit_length() - 1
