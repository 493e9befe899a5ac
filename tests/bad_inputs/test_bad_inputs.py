"""Each case is given to the command; it answers as the case says, in one sentence, and loses nothing."""

from __future__ import annotations

import re
import shutil
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run, shared
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from tests.bad_inputs.surroundings import prepare
from tests.making import Made, make_ledger, row, stretch

CASES_FILE = Path(__file__).with_name("cases.toml")
_REPEATED = re.compile(r"<<(.{1,2}?)\*(\d+)>>", re.DOTALL)
_SENTENCE = re.compile(r"decision-ledger: .+[.?!)`'\"…] .{6,}", re.DOTALL)
"""What happened, and a remedy after it."""
GROWS = ("checkpoint", ".lock", "cache/")


@dataclass
class Case:
    name: str
    run: list[str]
    exit: int
    says: str
    files: dict[str, str] = field(default_factory=dict)
    do: list[str] = field(default_factory=list)


CASES = [Case(**one) for one in tomllib.loads(CASES_FILE.read_text("utf-8"))["case"]]


def unfolded(text: str) -> str:
    return _REPEATED.sub(lambda match: match[1] * int(match[2]), text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    made = make_ledger(tmp_path_factory.mktemp("whole"))
    writer = made.writer()
    writer.commit([stretch([row(n) for n in range(5)])])
    writer.commit([stretch([row(n) for n in range(5, 9)], start=5)])
    (made.folder.parent / "vkey").write_text(made.key.signer.vkey)
    return made


def sealed_bytes(ledger: Path) -> dict[str, bytes]:
    files = {str(one.relative_to(ledger)): one for one in ledger.rglob("*") if one.is_file()}
    return {name: one.read_bytes() for name, one in files.items() if not any(word in name for word in GROWS)}


def test_there_are_as_many_cases_as_were_promised() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_said_in_one_sentence_and_nothing_is_lost(
    case: Case,
    whole: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "place"
    shutil.copytree(whole.folder.parent, place)
    for name, text in case.files.items():
        file = place / name.removesuffix(".hex")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = unfolded(text)
        file.write_bytes(bytes.fromhex(content) if name.endswith(".hex") else content.encode())
    for step in case.do:
        prepare(place, step)
    monkeypatch.chdir(place)
    monkeypatch.setattr(shared, "json", False)
    monkeypatch.setattr(shared, "ledger", None)
    before = sealed_bytes(place / "ledger")
    code = run(decision_ledger.app, [unfolded(word) for word in case.run])
    out, err = (text.replace(f"{place}/", "") for text in capfd.readouterr())
    assert code == case.exit, (out, err)
    assert case.says in out + err
    assert "Traceback" not in out + err
    if code in (2, 3):
        told = [line for line in err.splitlines() if line.startswith("decision-ledger: ")]
        assert "Usage: " in err or (len(told) == 1 and _SENTENCE.fullmatch(told[0])), err
    if not case.do:
        after = sealed_bytes(place / "ledger")
        assert {name: after.get(name) for name in before} == before
        assert verify(LocalStore(place / "ledger"), vkey=whole.key.verifier).ok
    if case.says.startswith("refused as"):
        with Ledger.open(place / "ledger", remember=False) as ledger:
            (letter,) = ledger.sql("SELECT * FROM dead_letters").to_pylist()
            assert kept(letter)


def kept(letter: dict[str, Any]) -> bool:
    """Something of the message, and why it was refused."""
    return bool(letter["payload"]) and bool(letter["reason"])
