"""Signing keys that are in no file of ours: a program keeps them, or the environment holds them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import OutsideError, UsageError
from ledger.format.note import SignerKey
from ledger.log.signing import TEXT_VARIABLE, SigningKey, create_key
from ledger.storage.local_store import LocalStore
from ledger.storage.user_folders import config_folder
from ledger.verify.verification import verify
from tests.making import ORIGIN

PROGRAM = """
import base64, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
made = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(sys.argv[1])).sign(sys.stdin.buffer.read())
sys.stdout.buffer.write(made if sys.argv[2] == "raw" else base64.b64encode(made) + b"\\n")
"""
EVENT = {
    "event_id": "a",
    "kind": "decision",
    "time": "2026-11-23T11:00:00Z",
    "source": "s",
    "decision": "deny",
}


def kept_by_program(folder: Path, signer: SignerKey, form: str = "raw", name: str = "kms.toml") -> Path:
    """The key file of a program that holds the key, as a service does."""
    program = folder / "sign.py"
    program.write_text(PROGRAM)
    path = folder / name
    command = json.dumps([sys.executable, str(program), signer.seed.hex(), form])
    path.write_text(f'vkey = "{signer.vkey}"\ncommand = {command}\n')
    path.chmod(0o600)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    done = run(decision_ledger.app, [*arguments, "--json"])
    out = capsys.readouterr()
    assert done == code, out.err
    return json.loads(out.out) if code == 0 else out.err


def ingest(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Any:
    events = folder / "in.jsonl"
    events.write_text(json.dumps(EVENT) + "\n")
    return said(capsys, "ingest", "file", str(events), "--ledger", str(folder / "ledger"), *more)


@pytest.mark.parametrize("form", ["raw", "base64"])
def test_a_program_signs_and_nothing_of_the_key_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    signer = SignerKey.generate(ORIGIN)
    key = kept_by_program(tmp_path, signer, form)
    ledger = str(tmp_path / "ledger")
    made = said(capsys, "init", "--origin", ORIGIN, "--ledger", ledger, "--key", str(key))
    assert made["vkey"] == signer.vkey
    assert ingest(tmp_path, capsys, "--key", str(key))["accepted"] == 1
    assert verify(LocalStore(tmp_path / "ledger"), vkey=signer.verifier).ok
    assert (tmp_path / "kms.toml.head").exists()


def test_a_ledger_is_handed_over_to_a_program_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = ["--ledger", str(tmp_path / "ledger")]
    first = said(capsys, "init", "--origin", ORIGIN, *ledger)["vkey"]
    service = SignerKey.generate(ORIGIN)
    handed = said(capsys, "key", "rotate", "--new-key", str(kept_by_program(tmp_path, service)), *ledger)
    assert handed["vkey"] == service.vkey
    assert ingest(tmp_path, capsys)["accepted"] == 1
    # A program's key is not ours to make: a new one has to be named.
    assert "not kept in a file of ours" in said(capsys, "key", "rotate", *ledger, code=2)
    create_key(tmp_path / "again.key", ORIGIN)
    said(capsys, "key", "rotate", "--new-key", str(tmp_path / "again.key"), *ledger)
    assert said(capsys, "verify", "--vkey", first, *ledger)["ok"]


def test_a_key_in_the_environment_writes_no_key_to_the_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = SignerKey.generate(ORIGIN)
    monkeypatch.setenv(TEXT_VARIABLE, signer.to_text())
    ledger = ["--ledger", str(tmp_path / "ledger")]
    assert said(capsys, "init", "--origin", ORIGIN, *ledger)["vkey"] == signer.vkey
    assert ingest(tmp_path, capsys)["accepted"] == 1
    assert verify(LocalStore(tmp_path / "ledger"), vkey=signer.verifier).ok
    secret = signer.to_text().rpartition("+")[2].encode()
    kept = [*tmp_path.rglob("*"), *config_folder().rglob("*")]
    assert any(one.name.endswith(".environment-key.head") for one in kept)
    assert not [one for one in kept if one.is_file() and secret in one.read_bytes()]
    assert "in the environment" in said(capsys, "key", "rotate", *ledger, code=2)
    assert "not kept in a file" in said(
        capsys, "key", "protect", "--passphrase-file", str(tmp_path / "in.jsonl"), *ledger, code=2
    )


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["false"], "ended with 1"),
        (["/nowhere/at-all"], "gave no signature"),
        (["echo", "c2lnbmF0dXJl"], "no signature by"),
        (["cat"], "no signature by"),
    ],
)
def test_a_program_that_does_not_sign_seals_nothing(tmp_path: Path, command: list[str], what: str) -> None:
    path = tmp_path / "kms.toml"
    path.write_text(f'vkey = "{SignerKey.generate(ORIGIN).vkey}"\ncommand = {json.dumps(command)}\n')
    with pytest.raises(OutsideError, match=what):
        SigningKey(path).signer.sign(b"message")


@pytest.mark.parametrize(
    "text",
    ['command = ["x"]', 'vkey = "x"\ncommand = []', 'vkey = "v"\ncommand = ["x"]\nmore = 1', "command = 3"],
)
def test_a_wrong_key_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kms.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        SigningKey(path)
