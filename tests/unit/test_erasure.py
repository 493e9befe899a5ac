"""What is erased is in no file any more, whatever reads it; everything else verifies as before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

import decision_ledger
from ledger.console import run
from ledger.errors import UsageError
from ledger.log.signing import SigningKey
from ledger.query.evidence import export, locate
from ledger.query.evidence_bundle import verify_bundle
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.storage.user_folders import cache_folder
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.erasure import MAX_ROWS, erase
from ledger.verify.verification import verify
from ledger.writer import Writer

SECRET = "zaphod-beeblebrox"
WITH = ["--by", "user:dpo", "--reason", "request 17"]


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "kind": "decision", "time": "2026-11-23T11:00:00Z", "source": "shop",
        "actor": f"user:{number}", "retention": "personal", **more,
    }  # fmt: skip


class Shop:
    """A ledger with an erasable class, and what is ingested into it by the commands."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "classes.toml").write_text("[personal]\ndays = 90\nerasable = true\n")
        (folder / "intake.toml").write_text('[intake]\nretention_classes = ["personal", "standard"]\n')
        self.ledger, self.key = folder / "ledger", folder / "ledger.key"
        self.said("init", "--origin", "test.example/shop", "--retention", str(folder / "classes.toml"),
                  "--key", str(self.key))  # fmt: skip

    def said(self, *arguments: str, code: int = 0) -> Any:
        signed = ["--key", str(self.key)] if arguments[0] in ("ingest", "erase", "hold", "compact") else []
        done = run(decision_ledger.app, [*arguments, "--ledger", str(self.ledger), *signed, "--json"])
        out = self.capsys.readouterr()
        assert done == code, out.err
        return json.loads(out.out) if code == 0 else out.err

    def ingest(self, events: Iterable[dict[str, Any] | str]) -> Any:
        path = self.folder / "in.jsonl"
        path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events))
        return self.said("ingest", "file", str(path), "--intake", str(self.folder / "intake.toml"))

    def erase(self, *ids: str, code: int = 0) -> Any:
        named = [part for one in ids for part in ("--event", one)]
        return self.said("erase", *named, *WITH, "--grace", "0", code=code)

    def rows(self, query: str = "SELECT event_id FROM events ORDER BY event_id") -> list[dict[str, Any]]:
        with Ledger.open(str(self.ledger), remember=False) as ledger:
            found: list[dict[str, Any]] = ledger.sql(query).to_pylist()
        return found

    def check(self) -> None:
        report = verify(LocalStore(self.ledger))
        assert report.ok, report.text()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shop:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Shop(tmp_path, capsys)


def traces_of(folder: Path, word: str) -> list[str]:
    """Where a word is: in the bytes of any file, or in what a Parquet file says, filters too."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        name = str(path.relative_to(folder))
        if word.encode() in path.read_bytes():
            found.append(f"{name}: bytes")
        if path.suffix != ".parquet":
            continue
        file = pq.ParquetFile(path)
        if word in repr(file.read().to_pylist()):
            found.append(f"{name}: rows")
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
        said = repr([group.column(at).statistics for group in groups for at in range(group.num_columns)])
        if word in said:
            found.append(f"{name}: statistics")
        with duckdb.connect() as database:
            filtered = database.execute(
                "SELECT DISTINCT path_in_schema FROM parquet_metadata(?)"
                " WHERE bloom_filter_offset IS NOT NULL",
                [str(path)],
            ).fetchall()
            for (column,) in filtered:
                probed = database.execute(
                    "SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe(?, ?, ?)",
                    [str(path), column, word],
                ).fetchone()
                if probed != (True,):
                    found.append(f"{name}: filter of {column}")
    return found


def test_what_is_erased_is_in_no_byte_and_everything_else_verifies(shop: Shop) -> None:
    more = {"event_id": SECRET, "actor": f"user:{SECRET}", "attributes": {"name": SECRET}}
    secret = event(7, trace_id="ab" * 16, **more)
    shop.ingest([event(1), event(2), secret, event(3)])
    shop.ingest([event(11), secret | {"event_id": "other"}])
    before = {row["event_id"] for row in shop.rows()}
    seen = {trace.split(": ")[1] for trace in traces_of(shop.ledger, SECRET)}
    assert seen >= {"rows", "filter of event_id"}
    shop.said("sql", "SELECT * FROM events")
    shop.said("compact")
    shop.said("status", "--gaps")
    done = shop.erase(f"shop#{SECRET}", "other")
    assert done["rows"] == 2
    assert {row["event_id"] for row in shop.rows()} == before - {SECRET, "other"}
    assert traces_of(shop.ledger, SECRET) == []
    assert not cache_folder(str(shop.ledger)).exists()
    shop.check()
    # Merged again, the hashes are carried on.
    shop.ingest([event(21)])
    shop.ingest([event(22)])
    shop.said("compact")
    shop.check()
    assert traces_of(shop.ledger, SECRET) == []


def test_events_of_erasable_classes_carry_a_nonce_and_others_none(shop: Shop) -> None:
    shop.ingest([event(n) for n in range(50)] + [event(90, retention="standard")])
    rows = shop.rows("SELECT retention, nonce FROM events")
    nonces = [row["nonce"] for row in rows if row["retention"] == "personal"]
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in nonces)
    assert len({*nonces}) == 50
    assert [row["nonce"] for row in rows if row["retention"] == "standard"] == [None]
    # It is no part of what is compared: the same event again is a duplicate.
    path = shop.folder / "again.jsonl"
    path.write_text(json.dumps(event(1)) + "\n" + json.dumps(event(2)) + "\n")
    assert (
        shop.said("ingest", "file", str(path), "--intake", str(shop.folder / "intake.toml"))["duplicate"] == 2
    )


def test_evidence_from_before_verifies_and_none_can_be_made_anew(shop: Shop) -> None:
    shop.ingest([event(1), event(2)])
    with Ledger.open(str(shop.ledger), remember=False) as ledger:
        bundle, vkey = export(ledger, ["e1"]), ledger.state.key.text
    shop.erase("e1")
    assert verify_bundle(bundle, vkey).origin == "test.example/shop"
    with Ledger.open(str(shop.ledger), remember=False) as ledger:
        verify_bundle(export(ledger, ["e2"]), vkey)
        with pytest.raises(UsageError, match="No sealed event"):
            export(ledger, ["e1"])


def test_only_erasable_live_and_unheld_events_can_be_erased(shop: Shop) -> None:
    shop.ingest([event(1), event(2), event(3, retention="standard")])
    assert "not erasable" in shop.erase("e3", code=2)
    assert "No sealed event" in shop.erase("e9", code=2)
    assert "Nothing is named" in shop.said("erase", *WITH, code=2)
    held = shop.said("hold", "add", "--class", "personal", "--by", "user:counsel", "--reason", "case 17")
    assert "is held by" in shop.erase("e1", code=2)
    shop.said("hold", "release", held["id"], "--by", "user:counsel", "--reason", "closed")
    shop.erase("e1")
    assert "No sealed event" in shop.erase("e1", code=2)
    shop.check()


def test_a_message_that_was_set_aside_can_be_erased_too(shop: Shop) -> None:
    shop.ingest([event(1), event(2, time=SECRET), event(3)])
    (letter,) = shop.said("deadletters", "list")
    word = letter["id"]
    assert shop.said("erase", "--letter", word, *WITH, "--grace", "0")["rows"] == 1
    assert shop.said("deadletters", "list") == []
    assert "no dead letter" in shop.said("erase", "--letter", "nope:0", *WITH, code=2)
    shop.check()


def test_more_rows_than_an_entry_names(tmp_path: Path, shop: Shop) -> None:
    shop.ingest(event(n) for n in range(MAX_ROWS + 10))
    with Ledger.open(str(shop.ledger), remember=False) as ledger:
        places = locate(ledger, ["e0"])
    writer = Writer(LocalStore(shop.ledger), SigningKey(shop.key), remember=False)
    rows = {places[0].segment: range(MAX_ROWS + 10)}
    entries = list(erase(writer, rows, by="user:dpo", reason="all of it", grace=0))
    assert [sum(len(part.indexes) for part in entry.rows) for entry in entries] == [MAX_ROWS, 10]
    writer.sweep()
    assert shop.rows() == []
    shop.check()


def test_rows_that_another_writer_merged_meanwhile_are_found_where_they_are(shop: Shop) -> None:
    for number in range(4):
        shop.ingest([event(number)])
    first = Writer(LocalStore(shop.ledger), SigningKey(shop.key), remember=False)
    with Ledger.open(str(shop.ledger), remember=False) as ledger:
        places = locate(ledger, ["e0", "e1", "e2", "e3"])
    rows = {place.segment: {place.index} for place in places}
    steps = erase(first, rows, by="user:dpo", reason="r", grace=0)
    next(steps)
    second = Writer(LocalStore(shop.ledger), SigningKey(shop.key), remember=False)
    assert Compaction(second).run(fan_in=2)
    list(steps)
    first.sweep()
    assert shop.rows() == []
    shop.check()
