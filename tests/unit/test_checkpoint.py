"""Checkpoints: the vectors, and what a strict reader refuses."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ledger.errors import DamageError, UsageError
from ledger.format.checkpoint import MAX_SIZE, Checkpoint, cosignature_message, open_checkpoint
from ledger.format.merkle import EMPTY_ROOT, leaf_hash
from ledger.format.note import SignerKey, VerifierKey
from tests.vectors.c2sp import VECTORS
from tests.vectors.make_c2sp_vectors import make

LOG = SignerKey.from_text(VECTORS["log"]["private"])
WITNESS = VerifierKey.from_text(VECTORS["witness"]["vkey"])
ROOT = leaf_hash(b"")
ROOT_TEXT = base64.b64encode(ROOT).decode()


def test_the_vectors_are_what_their_generator_makes() -> None:
    assert make() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["checkpoints"], ids=lambda vector: str(vector["size"]))
def test_the_vectors(vector: dict[str, Any]) -> None:
    checkpoint = Checkpoint(LOG.name, vector["size"], bytes.fromhex(vector["root"]))
    assert checkpoint.text() == vector["text"]
    assert Checkpoint.parse(vector["text"]) == checkpoint
    assert checkpoint.sign(LOG).decode() == vector["note"]
    assert open_checkpoint(vector["note"].encode(), LOG.verifier) == checkpoint
    assert open_checkpoint(vector["cosigned"].encode(), LOG.verifier, [WITNESS]) == checkpoint


def test_extension_lines_are_read_over_and_never_written() -> None:
    text = f"{LOG.name}\n1\n{ROOT_TEXT}\nextension one\nextension two\n"
    checkpoint = open_checkpoint(LOG.sign_note(text), LOG.verifier)
    assert checkpoint == Checkpoint(LOG.name, 1, ROOT)
    assert checkpoint.text() == f"{LOG.name}\n1\n{ROOT_TEXT}\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "origin\n1\n",
        f"origin\n1\n{ROOT_TEXT}",
        f"\n1\n{ROOT_TEXT}\n",
        f"origin\n\n1\n{ROOT_TEXT}\n",
        f"origin\n1\n{ROOT_TEXT}\n\n",
        f"origin\n1\n{ROOT_TEXT}\n\nextension\n",
        f"origin\n01\n{ROOT_TEXT}\n",
        f"origin\n-1\n{ROOT_TEXT}\n",
        f"origin\n+1\n{ROOT_TEXT}\n",
        f"origin\n 1\n{ROOT_TEXT}\n",
        f"origin\n1_0\n{ROOT_TEXT}\n",
        f"origin\n١\n{ROOT_TEXT}\n",
        f"origin\n0x1\n{ROOT_TEXT}\n",
        f"origin\n{MAX_SIZE + 1}\n{ROOT_TEXT}\n",
        f"origin\n{'9' * 5000}\n{ROOT_TEXT}\n",
        f"origin\n0\n{ROOT_TEXT}\n",
        f"origin\n1\n{ROOT_TEXT[:-1]}\n",
        f"origin\n1\n{ROOT_TEXT[:-2]}/=\n",
        f"origin\n1\n{base64.b64encode(ROOT[:31]).decode()}\n",
        f"origin\n1\n{base64.b64encode(ROOT + b'x').decode()}\n",
        f"origin\n1\n{ROOT.hex()}\n",
        f"ori\x00gin\n1\n{ROOT_TEXT}\n",
    ],
)
def test_malformed_texts(text: str) -> None:
    with pytest.raises(DamageError, match="not a checkpoint") as raised:
        Checkpoint.parse(text)
    assert raised.value.remedy


def test_the_largest_size() -> None:
    checkpoint = Checkpoint("origin", MAX_SIZE, ROOT)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    ("origin", "size", "root"),
    [
        ("", 1, ROOT),
        ("a\nb", 1, ROOT),
        ("origin", -1, ROOT),
        ("origin", MAX_SIZE + 1, ROOT),
        ("origin", 1, ROOT[:31]),
        ("origin", 0, ROOT),
    ],
)
def test_impossible_values(origin: str, size: int, root: bytes) -> None:
    with pytest.raises(UsageError) as raised:
        Checkpoint(origin, size, root)
    assert raised.value.remedy


def test_a_key_signs_only_for_the_origin_that_is_its_name() -> None:
    with pytest.raises(UsageError, match="cannot sign for"):
        Checkpoint("other.example", 0, EMPTY_ROOT).sign(LOG)


def test_another_logs_checkpoint_under_the_right_key_is_refused() -> None:
    with pytest.raises(DamageError, match=r"other\.example"):
        open_checkpoint(LOG.sign_note(Checkpoint("other.example", 1, ROOT).text()), LOG.verifier)


def test_a_witness_alone_does_not_make_a_checkpoint() -> None:
    note = VECTORS["checkpoints"][3]["cosigned"].split("\n")
    witnessed = "\n".join(note[:4] + note[5:]).encode()
    assert b"witness.example" in witnessed
    with pytest.raises(DamageError, match="not signed by the log's key"):
        open_checkpoint(witnessed, LOG.verifier, [WITNESS])


def test_a_cosignature_over_another_head_is_damage_to_who_knows_the_witness() -> None:
    one, two = VECTORS["checkpoints"][1:3]
    mixed = (one["note"] + two["cosigned"].split("\n")[-2] + "\n").encode()
    assert open_checkpoint(mixed, LOG.verifier).size == 1
    with pytest.raises(DamageError, match=r"witness\.example"):
        open_checkpoint(mixed, LOG.verifier, [WITNESS])


def test_the_cosigned_message() -> None:
    text = VECTORS["checkpoints"][1]["text"]
    assert cosignature_message(1679315147, text) == b"cosignature/v1\ntime 1679315147\n" + text.encode()
