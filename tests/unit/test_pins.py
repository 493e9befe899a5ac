"""A reader notices a ledger that was swapped, rolled back or forked since it was last read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import DamageError, UsageError
from ledger.log.named_keys import read_vkey
from ledger.log.pins import Pins
from ledger.reader import Ledger
from tests.making import Made, make_ledger, row, stretch

TRACE = "ab" * 16
BUNDLE = "bundle.json"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for n in range(4):
        writer.commit([stretch([row(n, trace_id=TRACE)], start=n)])
    return made


def other(made: Made, folder: Path) -> Made:
    """Another ledger of the same name, put in the first one's place, with a key of its own."""
    there = make_ledger(folder)
    writer = there.writer()
    for n in range(6):
        writer.commit([stretch([row(n, trace_id=TRACE, decision="deny")], start=n)])
    shutil.rmtree(made.folder)
    shutil.copytree(there.folder, made.folder)
    return there


def reading(made: Made, folder: Path) -> list[list[str]]:
    url = ["--ledger", str(made.folder)]
    return [
        ["status", *url],
        ["sql", "SELECT count(*) FROM events", *url],
        ["trace", TRACE, *url],
        ["evidence", "export", "e0", "-o", str(folder / BUNDLE), *url],
        ["evidence", "tlog-proof", "e0", "-o", str(folder / "proof"), *url],
        ["deadletters", "list", *url],
        ["verify", *url],
    ]


def test_every_reading_command_refuses_a_swapped_ledger_under_a_pinned_key(
    made: Made, tmp_path: Path
) -> None:
    vkey = made.key.signer.vkey
    commands = reading(made, tmp_path)
    assert [run(decision_ledger.app, line) for line in commands] == [0] * len(commands)
    url = ["--ledger", str(made.folder)]
    assert run(decision_ledger.app, ["verify", "--pin", "--vkey", vkey, *url]) == 0
    Pins(str(made.folder)).head_path.unlink()
    (tmp_path / "b").mkdir()
    other(made, tmp_path / "b")
    (tmp_path / "ledger.key").unlink()
    assert [run(decision_ledger.app, line) for line in commands] == [1] * len(commands)
    with pytest.raises(DamageError, match="not the pinned"):
        Ledger.open(str(made.folder))
    # Another pin, given by name, is the user's own word.
    key_file = tmp_path / "vkey"
    key_file.write_text(vkey + "\n", encoding="utf-8")
    for given in (vkey, str(key_file), f"@{key_file}"):
        assert [run(decision_ledger.app, [*line, "--vkey", given]) for line in commands] == [1] * len(
            commands
        )


def test_without_a_pin_the_last_head_that_was_seen_must_be_extended(made: Made, tmp_path: Path) -> None:
    commands = reading(made, tmp_path)
    assert run(decision_ledger.app, commands[0]) == 0
    (tmp_path / "b").mkdir()
    other(made, tmp_path / "b")
    (tmp_path / "ledger.key").unlink()
    (tmp_path / "ledger.key.head").unlink()
    assert [run(decision_ledger.app, line) for line in commands] == [1] * len(commands)
    with pytest.raises(DamageError, match="not those that were read before"):
        Ledger.open(str(made.folder))
    Ledger.open(str(made.folder), remember=False).close()
    Pins(str(made.folder)).head_path.unlink()
    assert run(decision_ledger.app, commands[0]) == 0


def test_looking_again_at_a_ledger_that_has_not_grown_reads_the_checkpoint_alone(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        read: list[str] = []
        real = ledger.store.read
        monkeypatch.setattr(ledger.store, "read", lambda path: (read.append(path), real(path))[1])
        assert not ledger.refresh()
        assert read == ["checkpoint"]


def test_a_rollback_is_refused_and_growth_is_not(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder, tmp_path / "older")
    writer = made.writer()
    for n in range(4, 7):
        with Ledger.open(str(made.folder), vkey=made.key.signer.vkey) as ledger:
            writer.commit([stretch([row(n)], start=n)])
            assert ledger.refresh()
    assert (head := Pins(str(made.folder)).head()) is not None
    assert head.size == 8
    shutil.rmtree(made.folder)
    shutil.copytree(tmp_path / "older", made.folder)
    for vkey in (None, made.key.signer.vkey):
        with pytest.raises(DamageError, match="holds 5 entries, but 8 were read before"):
            Ledger.open(str(made.folder), vkey=vkey)


def test_init_pins_the_new_key_and_forgets_what_was_there_before(tmp_path: Path) -> None:
    url = ["--ledger", str(tmp_path / "l")]
    for origin in ("a.example/x", "b.example/y"):
        assert run(decision_ledger.app, ["init", "--origin", origin, *url]) == 0
        assert run(decision_ledger.app, ["status", *url]) == 0
        pinned = Pins(str(tmp_path / "l")).key()
        assert pinned is not None
        assert pinned.name == origin
        shutil.rmtree(tmp_path / "l")
        (tmp_path / "l.key").unlink()
        (tmp_path / "l.key.head").unlink()


def test_reading_goes_on_where_nothing_can_be_remembered(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(blocked / "config"))
    assert run(decision_ledger.app, ["status", "--ledger", str(made.folder)]) == 0


def test_a_kept_head_that_is_none_is_said(made: Made) -> None:
    path = Pins(str(made.folder)).head_path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="cannot be used"):
        Ledger.open(str(made.folder))


@pytest.mark.parametrize("given", ["nonsense", "@nowhere", "@", "", "@/", "a+b"])
def test_what_is_no_key_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        read_vkey(given)


def test_at_reads_as_of_an_earlier_size(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["status", "--ledger", str(made.folder), "--at", "3", "--json"]
    assert run(decision_ledger.app, line) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["head"]["size"], value["events"]) == (3, 2)
    with Ledger.open(str(made.folder)) as ledger:
        assert value["head"]["root"] == ledger.sealed.tree.root(3).hex()
        with pytest.raises(UsageError, match="No sealed event"):
            ledger.evidence("e3", at=3)
        assert ledger.evidence("e1", at=3)
