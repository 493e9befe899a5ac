"""C2SP signed notes: key texts, signing, and what a strict reader refuses."""

from __future__ import annotations

import base64

import pytest

from ledger.errors import DamageError, UsageError
from ledger.format.note import (
    COSIGNATURE,
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Signature,
    SignedNote,
    SignerKey,
    VerifierKey,
    cosignature_message,
    open_note,
)
from tests.vectors.c2sp import VECTORS

ALICE = SignerKey("alice.example", bytes(range(32)))
BOB = SignerKey("bob.example/läger", bytes(range(1, 33)))
TEXT = "If you think cryptography is the answer,\n\nyou don't know your problem.\n"
# The pair of keys in the documentation of Go's golang.org/x/mod/sumdb/note.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="


def line_of(key: SignerKey, text: str) -> str:
    return Signature(key.name, key.verifier.key_id, key.sign(text.encode())).line


def cosigner(seed: bytes, name: str = "witness.example") -> tuple[VerifierKey, SignerKey]:
    private = SignerKey(name, seed)
    return VerifierKey(name, private.verifier.public_key, COSIGNATURE), private


def test_key_texts_are_those_of_the_vectors() -> None:
    log = VECTORS["log"]
    key = SignerKey.from_text(log["private"])
    assert (key.name, key.seed.hex()) == (log["name"], log["seed"])
    assert key.to_text() == log["private"]
    assert key.vkey == key.verifier.text == log["vkey"]
    assert VerifierKey.from_text(log["vkey"]) == key.verifier


def test_a_note_of_the_go_implementation_opens() -> None:
    note = f"{GO_TEXT}\n— PeterNeumann {GO_SIGNATURE}\n".encode()
    assert open_note(note, [VerifierKey.from_text(GO_VKEY)]) == GO_TEXT


def test_a_generated_key_survives_its_texts() -> None:
    key = SignerKey.generate("ledger.example")
    assert SignerKey.from_text(key.to_text()) == key
    assert VerifierKey.from_text(key.vkey) == key.verifier
    assert SignerKey.generate("ledger.example").seed != key.seed


def test_the_seed_shows_in_no_repr_and_no_error() -> None:
    assert repr(ALICE.seed)[2:-1] not in repr(ALICE)
    broken = ALICE.to_text()[:-4] + "AAA="
    with pytest.raises(UsageError) as raised:
        SignerKey.from_text(broken)
    assert ALICE.to_text().split("+")[4][:10] not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b", "a\u2003b", "a\x00b", "\ud800"]
)
def test_bad_key_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name a key"):
        SignerKey.generate(name)
    with pytest.raises(UsageError, match="cannot name a key"):
        VerifierKey(name, bytes(32))


def broken_vkeys() -> list[str]:
    name, key_id, material = VECTORS["log"]["vkey"].split("+", 2)
    assert key_id != key_id.upper()
    short = base64.b64encode(b"\x01" + bytes(31)).decode()
    other_type = base64.b64encode(b"\x06" + bytes(32)).decode()
    return [
        "",
        name,
        f"{name}+{key_id}",
        f"other.example+{key_id}+{material}",
        f"{name}+00000000+{material}",
        f"{name}+{key_id.upper()}+{material}",
        f"{name}+{key_id}0+{material}",
        f"{name}+{key_id}+{material}\n",
        f"{name}+{key_id}+{material[:-1]}",
        f"{name}+{key_id}+",
        f"{name}+{key_id}+{short}",
        f"{name}+{key_id}+{other_type}",
        f"{name}+{key_id}+é",
        f" {name}+{key_id}+{material}",
        f"+{key_id}+{material}",
    ]


@pytest.mark.parametrize("text", broken_vkeys())
def test_unusable_verifier_key_texts(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        VerifierKey.from_text(text)
    assert raised.value.remedy


@pytest.mark.parametrize("text", [f"PRIVATE+KEY+{text}" for text in broken_vkeys()] + [ALICE.vkey, ""])
def test_unusable_private_key_texts(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        SignerKey.from_text(text)
    assert raised.value.remedy


def test_the_key_id_in_a_private_text_is_checked() -> None:
    with pytest.raises(UsageError, match="id does not belong"):
        SignerKey.from_text(ALICE.to_text().replace(ALICE.verifier.key_id.hex(), "12345678"))


def test_sign_and_open() -> None:
    note = ALICE.sign_note(TEXT)
    assert open_note(note, [ALICE.verifier]) == TEXT
    assert ALICE.verifier.verify(TEXT.encode(), ALICE.sign(TEXT.encode()))
    assert len(ALICE.sign(b"anything")) == 64
    assert not ALICE.verifier.verify(b"else", ALICE.sign(b"anything"))
    assert not ALICE.verifier.verify(b"anything", ALICE.sign(b"anything")[:-1])


@pytest.mark.parametrize("text", ["", "no line feed", "tab\t\n", "nul\x00\n", "return\r\n", "\ud800\n"])
def test_a_text_that_no_note_can_hold_is_not_signed(text: str) -> None:
    with pytest.raises(UsageError, match="note's text"):
        ALICE.sign_note(text)


def test_a_text_too_long_to_open_is_not_signed() -> None:
    with pytest.raises(UsageError, match="at most"):
        ALICE.sign_note("x" * MAX_NOTE_BYTES + "\n")


@pytest.mark.parametrize("text", ["\n", "\n\n", "a\n\n\n", "— not a signature\n", "a\n\n— b c\n"])
def test_the_last_empty_line_divides(text: str) -> None:
    assert open_note(ALICE.sign_note(text), [ALICE.verifier]) == text


def test_unknown_keys_are_ignored() -> None:
    namesake = SignerKey(ALICE.name, bytes(32))
    note = (
        TEXT + "\n" + line_of(namesake, "forged\n") + line_of(BOB, "forged\n") + line_of(ALICE, TEXT)
    ).encode()
    assert open_note(note, [ALICE.verifier]) == TEXT
    assert SignedNote.parse(note).verified_by([ALICE.verifier]) == (ALICE.verifier,)


def test_a_bad_signature_by_a_known_key_rejects_beside_a_good_one() -> None:
    note = (TEXT + "\n" + line_of(ALICE, TEXT) + line_of(BOB, "forged\n")).encode()
    assert open_note(note, [ALICE.verifier]) == TEXT
    with pytest.raises(DamageError, match=r"bob\.example"):
        open_note(note, [ALICE.verifier, BOB.verifier])


def test_a_second_bad_signature_by_the_same_key_rejects() -> None:
    note = (TEXT + "\n" + line_of(ALICE, TEXT) + line_of(ALICE, "forged\n")).encode()
    with pytest.raises(DamageError, match="wrong"):
        open_note(note, [ALICE.verifier])


def test_one_known_good_signature_is_needed() -> None:
    note = ALICE.sign_note(TEXT)
    with pytest.raises(DamageError, match="no signature by"):
        open_note(note, [BOB.verifier])
    with pytest.raises(DamageError, match="no signature by"):
        open_note(note, [])


def test_a_changed_text_does_not_open() -> None:
    with pytest.raises(DamageError, match="wrong"):
        open_note(ALICE.sign_note(TEXT).replace(b"answer", b"errors"), [ALICE.verifier])


def test_two_keys_that_share_name_and_id_are_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.format.note.key_id", lambda *_: b"same")
    keys = [ALICE.verifier, SignerKey(ALICE.name, bytes(32)).verifier]
    with pytest.raises(UsageError, match="share an id"):
        SignedNote(TEXT, ()).verified_by(keys)
    assert SignedNote(TEXT, ()).verified_by([keys[0], keys[0]]) == ()


def test_cosignatures_verify() -> None:
    witness, private = cosigner(bytes(32))
    text = "origin\n1\nroot\n"
    timestamp = 1_700_000_000
    good = timestamp.to_bytes(8, "big") + private.sign(cosignature_message(timestamp, text))
    assert VerifierKey.from_text(witness.text) == witness
    assert witness.verify(text.encode(), good)
    assert not witness.verify(text.encode(), (timestamp + 1).to_bytes(8, "big") + good[8:])
    assert not witness.verify(text.encode(), good[:-1])
    assert not witness.verify(text.encode(), good[8:])
    assert not witness.verify(text.encode(), b"")
    assert not witness.verify(text.encode(), timestamp.to_bytes(8, "big") + private.sign(text.encode()))
    beyond = 2**63
    late = beyond.to_bytes(8, "big") + private.sign(cosignature_message(beyond, text))
    assert not witness.verify(text.encode(), late)


@pytest.mark.parametrize("vector", VECTORS["checkpoints"], ids=lambda vector: str(vector["size"]))
def test_notes_and_cosignatures_of_the_vectors(vector: dict[str, str]) -> None:
    log = SignerKey.from_text(VECTORS["log"]["private"])
    witness = VerifierKey.from_text(VECTORS["witness"]["vkey"])
    assert log.sign_note(vector["text"]).decode() == vector["note"]
    note = SignedNote.parse(vector["cosigned"].encode())
    assert note.text == vector["text"]
    assert note.verified_by([witness, log.verifier]) == (log.verifier, witness)


def malformed_notes() -> dict[str, bytes]:
    good = ALICE.sign_note(TEXT)
    line = line_of(ALICE, TEXT)
    blob = base64.b64encode(ALICE.verifier.key_id + b"x").decode()
    return {
        "empty": b"",
        "text only": TEXT.encode(),
        "no signatures": b"text\n\n",
        "no empty line": b"text\n" + line.encode(),
        "no text": b"\n" + line.encode(),
        "cut at the end": good[:-1],
        "empty line after": good + b"\n",
        "words after": good + b"more\n",
        "carriage returns": good.replace(b"\n", b"\r\n"),
        "NUL": good.replace(b"answer", b"ans\x00er"),
        "tab": good.replace(b"answer", b"ans\ter"),
        "not UTF-8": good.replace(b"answer", b"ans\xffer"),
        "surrogate": good.replace(b"answer", b"an\xed\xa0\x80r"),
        "hyphen": good.replace("—".encode(), b"-"),
        "no space after dash": good.replace("— ".encode(), "—".encode()),
        "no name": f"text\n\n—  {blob}\n".encode(),
        "plus in name": f"text\n\n— a+b {blob}\n".encode(),
        "wide space in name": f"text\n\n— a\u2003b {blob}\n".encode(),
        "no signature": "text\n\n— a\n".encode(),
        "two spaces": f"text\n\n— a  {blob}\n".encode(),
        "three words": f"text\n\n— a {blob} {blob}\n".encode(),
        "key id only": f"text\n\n— a {base64.b64encode(b'four').decode()}\n".encode(),
        "not base64": "text\n\n— a !!!!\n".encode(),
        "unpadded": f"text\n\n— a {base64.b64encode(b'seven77').decode().rstrip('=')}\n".encode(),
        "stray bits": "text\n\n— a MTIzNDV=\n".encode(),
        "too large": b"x" * MAX_NOTE_BYTES + b"\n\n" + line.encode(),
        "too many": (TEXT + "\n" + line * (MAX_SIGNATURES + 1)).encode(),
    }


@pytest.mark.parametrize("data", malformed_notes().values(), ids=malformed_notes().keys())
def test_malformed_notes(data: bytes) -> None:
    with pytest.raises(DamageError, match="not a signed note") as raised:
        open_note(data, [ALICE.verifier])
    assert raised.value.remedy


@pytest.mark.parametrize("count", [1, 16, MAX_SIGNATURES])
def test_many_signatures_are_accepted(count: int) -> None:
    others = "".join(line_of(SignerKey(f"w{number}", bytes(32)), TEXT) for number in range(count - 1))
    assert open_note((TEXT + "\n" + others + line_of(ALICE, TEXT)).encode(), [ALICE.verifier]) == TEXT
