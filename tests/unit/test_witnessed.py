"""A ledger has its heads cosigned, works on while witnesses are away, and is told of another history."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.console import run
from ledger.format.note import SignedNote, SignerKey
from ledger.storage.local_store import LocalStore
from ledger.verify.heads import WITNESSED
from ledger.verify.verification import verify
from ledger.witnessing.cosigning import cosigner_key
from ledger.witnessing.memory import WitnessMemory
from ledger.witnessing.server import Witness
from tests.making import Made, make_ledger, row, stretch
from tests.served import served

NAMES = ("one.example", "two.example", "three.example")


class Party:
    """A witness that can be away."""

    def __init__(self, made: Made, name: str, folder: Path, **more: Any) -> None:
        self.signer = SignerKey.generate(name)
        self.vkey = cosigner_key(self.signer).text
        log = made.key.verifier
        memory = WitnessMemory(folder / f"{name}.sqlite")
        self.witness = Witness(self.signer, {log.name: [log]}, memory, **more)

    @contextmanager
    def there(self) -> Iterator[str]:
        with served(self.witness.app()) as url:
            yield url


class Ledgered:
    """A ledger and the commands over it."""

    def __init__(self, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.capsys, self.rows = made, capsys, 0

    def commit(self) -> int:
        writer = self.made.writer()
        writer.commit([stretch([row(self.rows)], self.rows)])
        self.rows += 1
        return writer.state.size

    def said(self, *arguments: str, code: int = 0) -> Any:
        signed = ["--key", str(self.made.key.path)] if arguments[1] in ("add", "remove") else []
        done = run(decision_ledger.app, [*arguments, "--ledger", str(self.made.folder), *signed, "--json"])
        out = self.capsys.readouterr()
        assert done == code, out.err
        return json.loads(out.out) if code in (0, 1, 3) and out.out else out.err


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ledgered:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Ledgered(make_ledger(tmp_path), capsys)


def test_a_quorum_of_witnesses_is_asked_kept_and_verified(ledger: Ledgered, tmp_path: Path) -> None:
    parties = [Party(ledger.made, name, tmp_path) for name in NAMES]
    with ExitStack() as stack:
        urls = [stack.enter_context(party.there()) for party in parties]
        for party, url in zip(parties, urls, strict=True):
            ledger.said("witness", "add", party.vkey, url)
        # The quorum stays 1 unless it is said.
        ledger.said("witness", "remove", NAMES[2])
        ledger.said("witness", "add", parties[2].vkey, urls[2], "--quorum", "2")
        assert ledger.said("witness", "list")["quorum"] == 2
        for _ in range(3):
            size = ledger.commit()
            found = ledger.said("witness", "ask")
            assert (found["size"], found["cosigned"], found["kept"]) == (size, list(NAMES), True)
        assert ledger.said("witness", "ask")["kept"] is False  # nothing is newer
    listed = ledger.said("witness", "list")
    assert (listed["witnessed"]["size"], listed["witnessed"]["names"], listed["behind"]) == (
        size,
        list(NAMES),
        0,
    )
    note = SignedNote.parse((ledger.made.folder / WITNESSED).read_bytes())
    assert len(note.verified_by([cosigner_key(party.signer) for party in parties])) == 3
    assert verify(LocalStore(ledger.made.folder)).ok


def test_a_ledger_works_on_while_witnesses_are_away(ledger: Ledgered, tmp_path: Path) -> None:
    parties = [Party(ledger.made, name, tmp_path) for name in NAMES]
    with parties[0].there() as first, parties[1].there() as second, parties[2].there() as third:
        for party, url in zip(parties, (first, second, third), strict=True):
            ledger.said("witness", "add", party.vkey, url)
        ledger.said("witness", "remove", NAMES[0])
        ledger.said("witness", "add", parties[0].vkey, first, "--quorum", "2")
        ledger.commit()
        whole = ledger.said("witness", "ask")["size"]
        addresses = (first, second, third)
    ledger.commit()
    found = ledger.said("witness", "ask", code=3)
    assert (found["cosigned"], len(found["failures"]), found["kept"]) == ([], 3, False)
    listed = ledger.said("witness", "list")
    assert (listed["witnessed"]["size"], listed["behind"]) == (whole, 1)
    assert verify(LocalStore(ledger.made.folder)).ok
    assert len({*addresses}) == 3


def test_a_rolled_back_and_a_forked_ledger_are_told_by_their_witness(
    ledger: Ledgered, tmp_path: Path
) -> None:
    party = Party(ledger.made, NAMES[0], tmp_path)
    with party.there() as url:
        ledger.said("witness", "add", party.vkey, url)
        ledger.commit()
        ledger.said("witness", "ask")
        shutil.copytree(ledger.made.folder, tmp_path / "older")
        head = ledger.made.key.path.with_name(f"{ledger.made.key.path.name}.head")
        older_head = head.read_bytes()
        size = ledger.commit()
        ledger.said("witness", "ask")
        for fork in (False, True):
            shutil.rmtree(ledger.made.folder)
            shutil.rmtree(tmp_path / "config", ignore_errors=True)
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            shutil.copytree(tmp_path / "older", ledger.made.folder)
            head.write_bytes(older_head)
            if fork:
                for number in range(2):
                    ledger.made.writer().commit([stretch([row(900 + number)], 1 + number)])
            found = ledger.said("witness", "ask", code=1)
            told = found["alarms"][NAMES[0]]
            assert ("another history" if fork else f"It saw {size} entries") in told


def test_what_was_cosigned_by_too_few_or_wrongly_is_damage(ledger: Ledgered, tmp_path: Path) -> None:
    parties = [Party(ledger.made, name, tmp_path) for name in NAMES[:2]]
    with parties[0].there() as first, parties[1].there() as second:
        ledger.said("witness", "add", parties[0].vkey, first)
        ledger.said("witness", "add", parties[1].vkey, second, "--quorum", "2")
        ledger.commit()
        ledger.said("witness", "ask")
    place = ledger.made.folder / WITNESSED
    whole = place.read_bytes()
    lines = whole.splitlines(keepends=True)
    place.write_bytes(b"".join(lines[:-1]))
    report = verify(LocalStore(ledger.made.folder))
    assert [(found.kind, found.path) for found in report.damaged] == [("changed", WITNESSED)]
    assert "1 cosignatures" in report.damaged[0].message
    place.write_bytes(b"".join(lines[:-1]) + lines[-1][:-10] + b"AAAAAAAA=\n")
    assert [found.path for found in verify(LocalStore(ledger.made.folder)).damaged] == [WITNESSED]
    place.write_bytes(whole)
    assert verify(LocalStore(ledger.made.folder)).ok


def test_tokens_are_shown_and_answers_that_make_no_sense_are_failures(
    ledger: Ledgered, tmp_path: Path
) -> None:
    party = Party(ledger.made, NAMES[0], tmp_path, tokens=["t" * 20])
    liar = Party(ledger.made, NAMES[1], tmp_path)
    liar.witness._signer = SignerKey.generate(NAMES[1])  # another key than is named
    with party.there() as url, liar.there() as other:
        ledger.said("witness", "add", party.vkey, url)
        ledger.said("witness", "add", liar.vkey, other)
        ledger.commit()
        assert "HTTP 401" in ledger.said("witness", "ask", code=3)["failures"][NAMES[0]]
        tokens = tmp_path / "tokens.toml"
        tokens.write_text(f'"{NAMES[0]}" = "{"t" * 20}"\n')
        found = ledger.said("witness", "ask", "--tokens", str(tokens))
        assert (found["cosigned"], "no cosignature" in found["failures"][NAMES[1]]) == ([NAMES[0]], True)


def test_what_is_no_witness_is_refused(ledger: Ledgered, tmp_path: Path) -> None:
    party = Party(ledger.made, NAMES[0], tmp_path)
    good = "https://witness.example"
    for vkey, url, words in (
        (ledger.made.key.signer.vkey, good, "no key of cosignatures"),
        ("nonsense", good, "does not have the form"),
        (party.vkey, "http://witness.example", "not encrypted"),
        (party.vkey, "https://a:b@witness.example", "no address"),
        (party.vkey, "ftp://witness.example", "not encrypted"),
    ):
        assert words in ledger.said("witness", "add", vkey, url, code=2)
    assert "none of 1 witnesses" in ledger.said("witness", "add", party.vkey, good, "--quorum", "2", code=2)
    assert "no witness to ask" in ledger.said("witness", "ask", code=2)
    ledger.said("witness", "add", party.vkey, good)
    assert "already" in ledger.said("witness", "add", party.vkey, good, code=2)
    assert "no witness nope" in ledger.said("witness", "remove", "nope", code=2)
    ledger.said("witness", "remove", NAMES[0])
    assert ledger.said("witness", "list")["witnesses"] == []


def test_an_intake_asks_by_itself_and_status_says_how_far_they_are(ledger: Ledgered, tmp_path: Path) -> None:
    party = Party(ledger.made, NAMES[0], tmp_path)
    events = tmp_path / "events.jsonl"
    key = ["--key", str(ledger.made.key.path)]
    status = ["status", "--ledger", str(ledger.made.folder), "--json"]
    told = {"kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "s", "decision": "deny"}

    def ingested(name: str) -> Any:
        events.write_text(json.dumps({"event_id": name, **told}) + "\n")
        assert run(decision_ledger.app, ["ingest", "file", str(events), *status[1:], *key]) == 0
        ledger.capsys.readouterr()
        assert run(decision_ledger.app, status) == 0
        return json.loads(ledger.capsys.readouterr().out)["witnessed"]

    with party.there() as url:
        ledger.said("witness", "add", party.vkey, url)
        seen = ingested("a")
        assert (seen["size"], seen["witnesses"], seen["behind"]) == (3, 1, 0)
    # Away: the ledger goes on, and says how far behind they are.
    assert ingested("b")["behind"] == 1
    assert verify(LocalStore(ledger.made.folder)).ok
