"""A signing key under a passphrase: opened by the right words alone, and never found in the file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import UsageError
from ledger.format.note import SignerKey
from ledger.log import protected_key
from ledger.log.protected_key import is_protected, open_protected, protect
from ledger.log.signing import PASSPHRASE_VARIABLE, SigningKey
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from tests.making import Made, make_ledger, row, stretch

WORDS = "correct horse battery staple"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes guessing slow would make the tests slow."""
    monkeypatch.setattr(protected_key, "SCRYPT_N", 2**14)
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


def test_what_is_protected_opens_with_its_words_and_no_other() -> None:
    key = SignerKey.generate("log.example")
    text = protect(key, WORDS)
    assert is_protected(text)
    assert not is_protected(key.to_text())
    assert open_protected(text, WORDS) == key
    assert base64.b64encode(key.seed).decode() not in text
    assert key.seed.hex() not in text
    with pytest.raises(UsageError, match="is wrong"):
        open_protected(text, f"{WORDS} ")
    with pytest.raises(UsageError, match="less than 12"):
        protect(key, "short")
    assert protect(key, WORDS) != text


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other.example"}, {"vkey": "x"}, {"n": 2**15}, {"n": 2**14 + 1}, {"n": 2**40},
        {"salt": "AAAA"}, {"salt": "?"}, {"sealed": "AAAA"},
        {"format": "decision-ledger-key/2"}, {"more": 1}, {"nonce": None},
    ],
)  # fmt: skip
def test_no_part_of_the_file_can_be_exchanged(change: dict[str, Any]) -> None:
    value = {**json.loads(protect(SignerKey.generate("log.example"), WORDS)), **change}
    with pytest.raises(UsageError):
        open_protected(json.dumps(value), WORDS)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def said(made: Made, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    given = ["--ledger", str(made.folder), "--key", str(made.key.path), "--json"]
    assert run(decision_ledger.app, [*arguments, *given]) == code
    out = capsys.readouterr()
    return out.err if code else json.loads(out.out)


def test_a_ledger_is_written_and_rotated_with_a_protected_key(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tmp_path / "words"
    words.write_text(f"{WORDS}\n")
    plain = made.key.path.read_text().strip()
    before = SigningKey(made.key.path).signer.vkey
    assert said(made, capsys, "key", "protect", "--passphrase-file", str(words))["vkey"] == before
    assert plain.rpartition("+")[2] not in made.key.path.read_text()
    assert made.key.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="under a passphrase"):
        SigningKey(made.key.path)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(words))
    made.writer().commit([stretch([row(1)])])
    rotated = said(made, capsys, "key", "rotate")
    assert is_protected(made.key.path.read_text())
    assert is_protected(Path(rotated["retired"]).read_text())
    made.writer().commit([stretch([row(2)], 1)])
    assert verify(LocalStore(made.folder)).ok
    # Under other words.
    other = tmp_path / "other"
    other.write_text("another long passphrase\n")
    said(made, capsys, "key", "protect", "--passphrase-file", str(other))
    with pytest.raises(UsageError, match="is wrong"):
        SigningKey(made.key.path)
    words.write_text("short\n")
    monkeypatch.setenv(PASSPHRASE_VARIABLE, str(other))
    assert "less than 12" in said(made, capsys, "key", "protect", "--passphrase-file", str(words), code=2)
    assert "cannot be read" in said(made, capsys, "key", "protect", "--passphrase-file", "none", code=2)
    assert SigningKey(made.key.path).signer.vkey == rotated["vkey"]
    assert not list(tmp_path.glob("*.tmp"))
