"""`doctor` names what a deployment lacks, each with a remedy, and nothing that is not so."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import decision_ledger
from ledger.checkup import Check, checks
from ledger.console import run
from ledger.defaults import DEMO_ORIGIN
from ledger.format.manifest import OffsetKey
from ledger.log.signing import create_key, next_key_path
from ledger.query.lag import note_lag
from ledger.reader import Ledger
from ledger.sealing.batch import REJECTED, SetAside
from tests.making import NOON, ORIGIN, Made, make_ledger, row, stretch


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def disk(monkeypatch: pytest.MonkeyPatch, free_gib: int) -> None:
    usage = Usage(100 * 1024**3, 0, free_gib * 1024**3)
    monkeypatch.setattr("ledger.checkup.shutil.disk_usage", lambda folder: usage)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    disk(monkeypatch, 50)
    found = make_ledger(tmp_path)
    found.folder.chmod(0o755)
    found.writer().commit([stretch([row(1)])])
    return found


def found(made: Made, minutes: float = 1, *brokers: str) -> dict[str, Check]:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        told = checks(
            ledger, made.folder, made.key.path, brokers, now=lambda: NOON + timedelta(minutes=minutes)
        )
        return {one.name: one for one in told}


def test_a_sound_deployment_has_no_finding_but_that_nobody_cosigns(made: Made) -> None:
    told = found(made)
    assert {name for name, one in told.items() if one.verdict != "fine"} == {"witnesses"}
    assert {*told} == {
        "clock", "worker", "dead letters", "lost", "retention", "witnesses", "disk", "folder", "key",
    }  # fmt: skip


def test_each_thing_that_is_wrong_is_named_with_a_remedy(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made.writer()
    writer.commit([
        stretch([], 1, messages=[[]], status=[REJECTED], aside={0: SetAside("bad")}),
        stretch([row(9, time=NOON - timedelta(days=900))], 2),
    ])  # fmt: skip
    lost = stretch([row(3)], 10, OffsetKey("topic"))
    lost.start, lost.lost = 4, [(4, 10)]
    writer.commit([lost])
    note_lag(made.store, "w", NOON, {OffsetKey("topic"): 7})
    made.folder.chmod(0o777)
    create_key(next_key_path(made.key.path), ORIGIN)
    made.key.path.with_name(f"{made.key.path.name}.retired-00000000").write_text("x")
    disk(monkeypatch, 1)
    told = found(made, 60, "127.0.0.1:1", "nonsense")
    assert {name: one.verdict for name, one in told.items()} == {
        "clock": "fine", "worker": "wrong", "dead letters": "look", "lost": "wrong", "retention": "look",
        "witnesses": "look", "disk": "wrong", "folder": "wrong", "key": "wrong", "retired keys": "look",
        "broker": "wrong",
    }  # fmt: skip
    assert all(one.remedy for one in told.values() if one.verdict != "fine")
    assert "7 messages waited" in told["worker"].said
    assert "cut short" in told["key"].said


def test_clocks_keys_and_brokers(made: Made, tmp_path: Path) -> None:
    assert found(made, -30)["clock"].verdict == "wrong"
    assert found(made, 60)["worker"].verdict == "look"
    made.key.path.chmod(0o640)
    assert found(made)["key"].verdict == "wrong"
    made.key.path.chmod(0o600)
    text = made.key.path.read_text()
    made.key.path.unlink()
    assert found(made)["key"].verdict == "look"
    create_key(made.key.path, ORIGIN)
    assert "not the key" in found(made)["key"].said
    made.key.path.write_text("nonsense")
    assert found(made)["key"].verdict == "wrong"
    made.key.path.write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        broker = f"127.0.0.1:{listening.getsockname()[1]}"
        assert found(made, 1, broker)["broker"].verdict == "fine"


def test_the_command_ends_with_one_where_something_is_wrong(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["doctor", "--ledger", str(made.folder), "--key", str(made.key.path), "--json"]
    assert run(decision_ledger.app, arguments) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    made.folder.chmod(0o777)
    assert run(decision_ledger.app, arguments) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_the_demos_key_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 50)
    events = tmp_path / "events.jsonl"
    events.write_text("{}\n")
    decision_ledger.seal_files(tmp_path / "ledger", [str(events)], "native", "demo", remember=False)
    with Ledger.open(str(tmp_path / "ledger"), remember=False) as ledger:
        assert ledger.state.key.name == DEMO_ORIGIN
        told = {one.name: one for one in checks(ledger, tmp_path / "ledger", tmp_path / "ledger.key", ())}
    assert (told["key"].verdict, told["key"].said) == (
        "look",
        "This is the demo's key, made without a care.",
    )
