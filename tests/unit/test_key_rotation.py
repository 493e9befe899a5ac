"""The key that signs a ledger is replaced: recorded, followed from the first key, finished when cut short."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import DamageError, UsageError
from ledger.format.manifest import Key, parse_entry
from ledger.log import signing
from ledger.log.signing import SigningKey, create_key, next_key_path, put_in_place
from ledger.query.evidence import export
from ledger.query.evidence_bundle import verify_bundle
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from ledger.writer import Writer
from tests.making import ORIGIN, Made, make_ledger, row, stretch
from tests.reliability.recorded_disk import RecordedDisk


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    found = make_ledger(tmp_path)
    found.writer().commit([stretch([row(1)])])
    return found


def rotate(made: Made, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    arguments = ["key", "rotate", "--ledger", str(made.folder), "--key", str(made.key.path), "--json"]
    assert run(decision_ledger.app, arguments) == code
    out = capsys.readouterr()
    return json.loads(out.out) if not code else out.err


def test_entries_and_heads_are_signed_by_the_new_key_and_followed_from_the_first(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made.key.verifier
    for number in range(2, 5):
        said = rotate(made, capsys)
        writer = made.writer()
        assert writer.state.key.text == said["vkey"] == SigningKey(made.key.path).signer.vkey
        writer.commit([stretch([row(number)], number - 1)])
    assert len(writer.state.keys) == 4
    report = verify(LocalStore(made.folder), vkey=first)
    assert report.ok, report.text()
    with Ledger.open(str(made.folder), vkey=first.text, remember=False) as ledger:
        assert ledger.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 4}]
        bundle = export(ledger, ["e1"])
        newest = ledger.state.key.text
    # What was sealed under the first key is proved under the newest checkpoint, which the newest key signed.
    verify_bundle(bundle, newest)
    with pytest.raises(DamageError):
        verify_bundle(bundle, first.text)
    kinds = [parse_entry(data).kind for data in writer.entries()]
    assert kinds == ["init", "append", *["key", "append"] * 3]


def test_the_old_key_is_kept_apart_and_signs_nothing_any_more(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    running = made.writer()
    said = rotate(made, capsys)
    retired = Path(said["retired"])
    assert retired.read_text() != made.key.path.read_text()
    assert {path.stat().st_mode & 0o777 for path in (retired, made.key.path)} == {0o600}
    assert not next_key_path(made.key.path).exists()
    # One that runs stops with a sentence, and loses nothing: the next one takes what it had.
    with pytest.raises(UsageError, match="until it was rotated"):
        running.commit([stretch([row(2)], 1)])
    with pytest.raises(UsageError, match="Start again with the new key"):
        Writer(LocalStore(made.folder), SigningKey(retired))
    made.writer().commit([stretch([row(2)], 1)])
    assert verify(LocalStore(made.folder)).ok


@pytest.mark.parametrize("after", ["the new key", "the log", "the old key was kept", "the head was moved"])
def test_a_rotation_that_was_cut_short_is_finished_by_the_next(
    made: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    if after == "the new key":
        create_key(next_key_path(made.key.path), ORIGIN)
    else:
        new = create_key(next_key_path(made.key.path), ORIGIN)
        made.writer().rotate(SigningKey(next_key_path(made.key.path)))
        assert made.folder.exists()
        if after != "the log":
            os.link(
                made.key.path,
                made.key.path.with_name(f"{made.key.path.name}.retired-{made.key.verifier.key_id.hex()}"),
            )
        if after == "the head was moved":
            head = made.key.path.with_name(f"{next_key_path(made.key.path).name}.head")
            head.rename(made.key.path.with_name(f"{made.key.path.name}.head"))
    said = rotate(made, capsys)
    if after != "the new key":
        assert said["vkey"] == new.vkey
    made.writer().commit([stretch([row(2)], 1)])
    report = verify(LocalStore(made.folder))
    assert report.ok, report.text()
    assert sum(isinstance(parse_entry(data), Key) for data in made.writer().entries()) == 1


def test_a_writer_that_died_before_the_checkpoint_is_rolled_forward_by_the_new_key(
    made: Made, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = create_key(next_key_path(made.key.path), ORIGIN)
    before = (made.folder / "checkpoint").read_bytes()
    made.writer().rotate(SigningKey(next_key_path(made.key.path)))
    (made.folder / "checkpoint").write_bytes(before)
    (made.key.path.with_name(f"{next_key_path(made.key.path).name}.head")).unlink()
    assert rotate(made, capsys)["vkey"] == new.vkey
    assert verify(LocalStore(made.folder)).ok


def test_another_ledgers_next_key_is_refused(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    create_key(next_key_path(made.key.path), "other.example/x")
    assert "must be the ledger's origin" in rotate(made, capsys, code=1)
    assert verify(LocalStore(made.folder)).ok


def test_a_key_that_others_can_read_is_closed_to_them(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.key.path.chmod(0o644)
    SigningKey(made.key.path)
    assert made.key.path.stat().st_mode & 0o777 == 0o600
    assert "Rotate it" in capsys.readouterr().err


def test_putting_in_place_may_be_repeated(tmp_path: Path) -> None:
    create_key(tmp_path / "a.key", ORIGIN)
    create_key(next_key_path(tmp_path / "a.key"), ORIGIN)
    old = SigningKey(tmp_path / "a.key")
    copy = shutil.copy(next_key_path(tmp_path / "a.key"), tmp_path / "copy")
    retired = put_in_place(tmp_path / "a.key", old)
    shutil.copy(copy, next_key_path(tmp_path / "a.key"))
    assert put_in_place(tmp_path / "a.key", old) == retired
    assert SigningKey(retired).signer.vkey == old.signer.vkey
    assert signing.MAX_KEY_BYTES


def test_a_key_is_there_for_good_before_anything_can_name_it(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    disk = RecordedDisk(folder)
    with disk.recording():
        signer = create_key(folder / "ledger.key", ORIGIN)
    disk.after(len(disk.calls), random.Random(0), 0.0).put(tmp_path / "after")
    assert SigningKey(tmp_path / "after" / "ledger.key").signer == signer


@pytest.mark.parametrize("before", ["", "\n", "  "])
def test_a_key_that_begins_with_blanks_is_closed_too_and_another_file_is_left(
    made: Made, before: str
) -> None:
    made.key.path.write_text(before + made.key.path.read_text())
    made.key.path.chmod(0o644)
    SigningKey(made.key.path)
    assert made.key.path.stat().st_mode & 0o777 == 0o600
    other = made.key.path.with_name("diary.txt")
    other.write_text("dear diary\n")
    other.chmod(0o644)
    with pytest.raises(UsageError, match="holds no signing key"):
        SigningKey(other)
    assert other.stat().st_mode & 0o777 == 0o644
