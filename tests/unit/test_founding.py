"""`init` that was stopped between any two steps is finished by `init`, and nothing is written over."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import OutsideError
from ledger.log.signing import SigningKey
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify

INIT = ["init", "--origin", "test.example/cut", "--ledger", "place/ledger"]
WRITES = ("create", "replace")


class Stopped(BaseException):
    """The process ended here."""


def _init_stopped_before(writes: int) -> bool:
    """Whether `init` was stopped before it wrote so many times."""
    done = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            real = getattr(LocalStore, name)

            def write(self: LocalStore, *arguments: Any, real: Any = real) -> Any:
                nonlocal done
                if not self.url.endswith("pins"):  # what this user remembers is no part of the ledger
                    if done == writes:
                        raise Stopped
                    done += 1
                return real(self, *arguments)

            patch.setattr(LocalStore, name, write)
        try:
            assert run(decision_ledger.app, INIT) == 0
        except Stopped:
            return True
    return False


def test_init_goes_on_wherever_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for writes in count():
        place = tmp_path / str(writes)
        place.mkdir()
        monkeypatch.chdir(place)
        if not _init_stopped_before(writes):
            assert writes >= 4, "an entry, a tile, a checkpoint, ledger.json"
            return
        key = Path("place/ledger.key").read_bytes()
        assert run(decision_ledger.app, INIT) == 0
        assert Path("place/ledger.key").read_bytes() == key
        report = verify(LocalStore(Path("place/ledger")), vkey=SigningKey(Path("place/ledger.key")).verifier)
        assert report.ok, report.text()
        assert Path("place/ledger/ledger.json").is_file()
        before = {path: path.read_bytes() for path in Path("place").rglob("*") if path.is_file()}
        assert run(decision_ledger.app, INIT) == 2
        assert {path: path.read_bytes() for path in Path("place").rglob("*") if path.is_file()} == before


def test_what_a_stopped_store_leaves_is_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("place/ledger/tile/entries/000.p")
    folder.mkdir(parents=True)
    (folder / ("0" * 32 + ".tmp")).write_bytes(b"half")
    Path("place/ledger.key").touch()
    assert run(decision_ledger.app, INIT) == 0
    assert SigningKey(Path("place/ledger.key")).signer.name == "test.example/cut"
    Path("other").mkdir()
    Path("other/photo.jpg").touch()
    assert run(decision_ledger.app, [*INIT[:-1], "other"]) == 2
    assert "other files" in capfd.readouterr().err


def test_an_unfinished_ledger_is_left_alone_by_another_key_or_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(decision_ledger.app, INIT) == 0
    Path("place/ledger/ledger.json").unlink()
    assert run(decision_ledger.app, [*INIT, "--origin", "test.example/another"]) == 2
    Path("place/ledger.key").rename("kept.key")
    assert run(decision_ledger.app, INIT) == 2
    assert not Path("place/ledger.key").exists()
    assert run(decision_ledger.app, [*INIT, "--key", "kept.key"]) == 0
    assert Path("place/ledger/ledger.json").is_file()


def test_the_head_of_a_key_that_is_gone_is_no_head_of_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(decision_ledger.app, INIT) == 0
    head = Path("place/ledger.key.head").read_bytes()
    shutil.rmtree("place/ledger")
    Path("place/ledger.key").unlink()
    assert run(decision_ledger.app, INIT) == 0
    assert Path("place/ledger.key.head").read_bytes() != head
    key = SigningKey(Path("place/ledger.key"))
    assert key.kept_head() is not None
    assert verify(LocalStore(Path("place/ledger")), vkey=key.verifier).ok


def test_a_key_that_signed_a_ledger_which_is_gone_begins_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(decision_ledger.app, INIT) == 0
    shutil.rmtree("place/ledger")
    before = sorted(Path("place").iterdir())
    assert run(decision_ledger.app, INIT) == 1
    assert "restore it" in capfd.readouterr().err
    assert sorted(Path("place").iterdir()) == before


def test_an_init_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def full(*_: Any) -> bool:
        raise OutsideError("No space left on the device.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStore, "create", full)
        assert run(decision_ledger.app, INIT) == 3
    assert list(tmp_path.rglob("*")) == [tmp_path / "place"]
    assert run(decision_ledger.app, INIT) == 0
