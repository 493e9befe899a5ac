"""tlog-proofs: the vectors, the second opinion, and what a strict reader refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import DamageError
from ledger.format.checkpoint import Checkpoint
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.note import SignerKey, VerifierKey
from ledger.format.proof import MAX_EXTRA_BYTES, MAX_PATH_HASHES, TlogProof, verify_proof
from ledger.format.tiles import bundles_for_size, encode_bundle, entries_path, tile_bytes, tiles_added
from tests.c2sp_checker import check_log, check_tlog_proof
from tests.vectors.c2sp import VECTORS
from tests.vectors.make_c2sp_vectors import entry

LOG = SignerKey.from_text(VECTORS["log"]["private"])
ENTRIES = [entry(index) for index in range(600)]
TREE = Tree(list(map(leaf_hash, ENTRIES)))


def signed_head(size: int) -> bytes:
    return Checkpoint(LOG.name, size, TREE.root(size)).sign(LOG)


def prove(index: int, size: int, extra: bytes | None = None) -> bytes:
    return TlogProof(index, tuple(TREE.inclusion_proof(index, size)), signed_head(size), extra).text()


GOOD = prove(5, 8)


@pytest.mark.parametrize(
    "vector", VECTORS["proofs"], ids=lambda vector: f"{vector['index']}of{vector['size']}"
)
def test_the_vectors(vector: dict[str, Any]) -> None:
    data, leaf = vector["proof"].encode(), vector["leaf"].encode()
    assert verify_proof(data, leaf, LOG.verifier).size == vector["size"]
    assert check_tlog_proof(vector["proof"], leaf, LOG.vkey) == vector["index"]
    extra = b"where to look" if vector["size"] == 5 else None
    assert prove(vector["index"], vector["size"], extra) == data
    assert TlogProof.parse(data).text() == data


@pytest.mark.parametrize(
    "vector", VECTORS["consistency"], ids=lambda vector: f"{vector['old']}to{vector['new']}"
)
def test_consistency_vectors(vector: dict[str, Any]) -> None:
    proof = TREE.consistency_proof(vector["old"], vector["new"])
    assert [digest.hex() for digest in proof] == vector["proof"]


def test_another_entry_key_or_size_does_not_check() -> None:
    assert verify_proof(GOOD, ENTRIES[5], LOG.verifier) == Checkpoint(LOG.name, 8, TREE.root(8))
    with pytest.raises(DamageError, match="does not show this entry"):
        verify_proof(GOOD, ENTRIES[4], LOG.verifier)
    with pytest.raises(DamageError, match="not signed by the log's key"):
        verify_proof(GOOD, ENTRIES[5], SignerKey(LOG.name, bytes(32)).verifier)
    for size in (6, 7, 9, 600):
        other = TlogProof(5, tuple(TREE.inclusion_proof(5, 8)), signed_head(size)).text()
        with pytest.raises(DamageError, match="does not show this entry"):
            verify_proof(other, ENTRIES[5], LOG.verifier)


def test_an_index_outside_the_checkpoint_does_not_check() -> None:
    for index in (5, 8, 2**63 - 1):
        beyond = TlogProof(index, tuple(TREE.inclusion_proof(5, 8)), signed_head(5)).text()
        with pytest.raises(DamageError, match="has only 5"):
            verify_proof(beyond, ENTRIES[5], LOG.verifier)
    empty = TlogProof(0, (), signed_head(0)).text()
    with pytest.raises(DamageError, match="has only 0"):
        verify_proof(empty, b"", LOG.verifier)


def test_a_witness_that_signed_another_head_is_damage_to_who_knows_it() -> None:
    witness = VerifierKey.from_text(VECTORS["witness"]["vkey"])
    one, two = VECTORS["checkpoints"][1:3]
    good = TlogProof(0, (), one["cosigned"].encode()).text()
    assert verify_proof(good, ENTRIES[0], LOG.verifier, [witness]).size == 1
    mixed = TlogProof(0, (), (one["note"] + two["cosigned"].split("\n")[-2] + "\n").encode()).text()
    with pytest.raises(DamageError, match=r"witness\.example"):
        verify_proof(mixed, ENTRIES[0], LOG.verifier, [witness])


def changed(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


HASH_LINE = GOOD.split(b"\n")[2]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        changed(b"proof@v1", b"proof@v2"),
        changed(b"c2sp", b" c2sp"),
        changed(b"proof@v1\n", b"proof@v1\r\n"),
        changed(b"index 5\n", b""),
        changed(b"index 5", b"index"),
        changed(b"index 5", b"index  5"),
        changed(b"index 5", b"index 05"),
        changed(b"index 5", b"index -5"),
        changed(b"index 5", b"index 5 "),
        changed(b"index 5", b"index %d" % 2**63),
        changed(b"index 5", "index ٥".encode()),
        changed(b"index 5", b"Index 5"),
        changed(b"index 5", b"index 5\nextra YQ=="),
        changed(b"index 5", b"extra\nindex 5"),
        changed(b"index 5", b"extra !!\nindex 5"),
        changed(b"index 5", b"extra YR==\nindex 5"),
        changed(b"index 5", b"extra YQ==\nextra YQ==\nindex 5"),
        changed(HASH_LINE, HASH_LINE[:-1]),
        changed(HASH_LINE, HASH_LINE + b" "),
        changed(HASH_LINE, b"YQ=="),
        changed(HASH_LINE, (HASH_LINE + b"\n") * (MAX_PATH_HASHES + 1) + HASH_LINE),
        changed(b"\n\n", b"\n"),
        changed(b"index 5", b"extra " + b"AAAA" * (MAX_EXTRA_BYTES // 3 + 1) + b"\nindex 5"),
        GOOD + b"x" * 2_000_000,
    ],
)
def test_malformed_proofs(data: bytes) -> None:
    # Taking the empty line away leaves the checkpoint's own, so that one fails a line later.
    with pytest.raises(DamageError, match="not a log proof") as raised:
        verify_proof(data, ENTRIES[5], LOG.verifier)
    assert raised.value.remedy


def test_a_second_empty_line_belongs_to_the_checkpoint_and_breaks_it() -> None:
    with pytest.raises(DamageError):
        verify_proof(changed(b"\n\n", b"\n\n\n"), ENTRIES[5], LOG.verifier)


def test_no_changed_byte_before_the_checkpoint_checks() -> None:
    for at in range(GOOD.index(b"\n\n") + 1):
        for bit in (1, 32):
            data = bytearray(GOOD)
            data[at] ^= bit
            with pytest.raises(DamageError):
                verify_proof(bytes(data), ENTRIES[5], LOG.verifier)


def test_what_the_format_cannot_hold() -> None:
    head = signed_head(8)
    for index, path, extra in ((-1, (), None), (0, (b"short",), None), (0, (), bytes(MAX_EXTRA_BYTES + 1))):
        with pytest.raises(ValueError, match=r"index|path|extra"):
            TlogProof(index, path, head, extra)
    with pytest.raises(ValueError, match="path"):
        TlogProof(0, (bytes(32),) * (MAX_PATH_HASHES + 1), head)
    with pytest.raises(ValueError, match="checkpoint"):
        TlogProof(0, (), bytes(1_000_001))


def write_log(folder: Path, size: int) -> None:
    contents = {"checkpoint": signed_head(size)}
    for index, width in bundles_for_size(size):
        contents[entries_path(index, width)] = encode_bundle(
            ENTRIES[index * 256 : min(size, index * 256 + 256)]
        )
    for tile in tiles_added(0, size):
        contents[tile.path] = tile_bytes(TREE, tile.level, tile.index, tile.width)
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 600])
def test_the_second_opinion_accepts_our_log(tmp_path: Path, size: int) -> None:
    write_log(tmp_path, size)
    assert check_log(tmp_path, LOG.vkey) == ENTRIES[:size]


def edit(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        (folder / path).write_bytes(change((folder / path).read_bytes()))

    return edited


def move(old: str, new: str) -> Callable[[Path], None]:
    def moved(folder: Path) -> None:
        (folder / new).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).rename(folder / new)

    return moved


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (edit("tile/entries/001", lambda data: data.replace(b"entry 300", b"entry 3OO")), "signed root"),
        (edit("tile/entries/002.p/88", lambda data: data + b"\x00\x00"), "should hold 88"),
        (edit("tile/entries/002.p/88", lambda data: data + b"\x00"), "half a length"),
        (edit("tile/entries/002.p/88", lambda data: data[:-1]), "inside an entry"),
        (edit("tile/0/000", lambda data: bytes(32) + data[32:]), "wrong hash"),
        (edit("tile/0/002.p/88", lambda data: data + bytes(32)), "wrong length"),
        (edit("tile/1/000.p/2", lambda data: data[::-1]), "wrong hash"),
        (edit("checkpoint", lambda data: data.replace(b"600", b"599")), "signature"),
        (
            edit("checkpoint", lambda data: data.rpartition(b"\n\n")[0] + b"\n"),
            "signature line|did not sign|unpack",
        ),
        (move("tile/0/001", "tile/0/003"), "missing"),
        (move("tile/entries/000", "tile/entries/004"), "missing"),
        (move("tile/1/000.p/2", "tile/1/000.p/3"), "missing"),
    ],
)
def test_the_second_opinion_refuses_damage(
    tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    write_log(tmp_path, 600)
    damage(tmp_path)
    with pytest.raises(AssertionError, match=reason):
        check_log(tmp_path, LOG.vkey)


def test_the_second_opinion_looks_at_partials_of_earlier_sizes(tmp_path: Path) -> None:
    write_log(tmp_path, 600)
    partial = tmp_path / entries_path(0, 3)
    partial.parent.mkdir()
    partial.write_bytes(encode_bundle(ENTRIES[:3]))
    assert len(check_log(tmp_path, LOG.vkey)) == 600
    partial.write_bytes(encode_bundle([*ENTRIES[:2], b"forged"]))
    with pytest.raises(AssertionError, match="partial bundle 0/3"):
        check_log(tmp_path, LOG.vkey)


def test_the_second_opinion_refuses_another_entry() -> None:
    assert check_tlog_proof(GOOD, ENTRIES[5], LOG.vkey) == 5
    with pytest.raises(AssertionError, match="signed root"):
        check_tlog_proof(GOOD, ENTRIES[4], LOG.vkey)
