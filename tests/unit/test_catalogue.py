"""A kept catalogue says what the log says, is believed only where the log's root bears it out, and may go."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ledger.errors import DamageError
from ledger.format.state import LogState
from ledger.log import catalogue_due
from ledger.log.catalogue import catalogue_bytes, load, parse_catalogue, save
from ledger.log.catalogue_due import catalogue_path, signed_catalogue_path
from ledger.log.commit_log import open_log, replay
from ledger.log.lazy_rows import LazyRows
from ledger.log.signing import SigningKey
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.verify.verification import verify
from ledger.writer import TICK_SECONDS, Writer
from tests.benchmarks.long_log import make_long_log
from tests.faults.ledger_maker import make_ledger as make_rich_ledger
from tests.making import make_ledger, row, stretch


def said(state: LogState) -> dict[str, Any]:
    """Everything that a state holds, as plain values."""
    names = ("size", "origin", "init", "clock", "last_commit", "times", "steady", "reached", "positions",
             "collected", "legal_holds", "configs", "config_files", "replayed")  # fmt: skip
    values = {name: getattr(state, name) for name in names}
    values["keys"] = [key.text for key in state.keys]
    for name in ("originals", "files", "removed"):
        values[name] = list(getattr(state, name).items())
    values["where"] = {path: state.where.get(path, []) for path in state.originals}
    return values


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catalogues are made of short logs too."""
    monkeypatch.setattr(catalogue_due, "MIN_ENTRIES", 2)


def test_a_catalogue_of_any_length_says_what_the_log_says_and_goes_on_with_it(tmp_path: Path) -> None:
    entries = list(open_log(make_rich_ledger(tmp_path).store).entries)
    whole, tree = replay(entries)
    for size in (1, 2, 255, 256, 257, len(entries) - 3, len(entries)):
        state, part = replay(entries[:size])
        data = catalogue_bytes(state, part, signed=True)
        found = parse_catalogue(pa.py_buffer(data))
        assert found is not None
        assert (found.size, found.signed, found.tree.root()) == (size, True, part.root())
        assert said(found.state) == said(state)
        replay(entries[size:], onto=(found.state, found.tree))
        assert said(found.state) == said(whole)
        assert found.tree.root() == tree.root()
        assert found.tree.root(size) == part.root()


def test_changed_bytes_are_no_catalogue(tmp_path: Path) -> None:
    entries = list(open_log(make_rich_ledger(tmp_path).store).entries)
    state, tree = replay(entries)
    data = catalogue_bytes(state, tree, signed=False)
    path = tmp_path / "catalogue"
    for wrong in (b"", data[:50], data[:-1], data + b"x", data.replace(b"standard", b"stAndard", 1)):
        path.write_bytes(wrong)
        assert load(path) is None
    path.write_bytes(data)
    assert load(path) is not None
    assert load(path, signed=True) is None
    assert load(tmp_path / "nowhere") is None
    path.chmod(0o666)
    assert load(path) is None, "anyone could have written it"


@pytest.mark.usefixtures("eager")
def test_a_catalogue_of_another_ledger_is_not_believed(tmp_path: Path) -> None:
    mine, other = make_ledger(tmp_path), make_ledger(tmp_path / "b")
    for made, decision in ((mine, "allow"), (other, "deny")):
        for n in range(5):
            made.writer().commit([stretch([row(n, decision=decision)], start=n)])
    with Ledger.open(str(other.folder)) as ledger:
        for path in (catalogue_path(str(mine.folder)), signed_catalogue_path(str(mine.folder))):
            save(path, ledger.state, ledger.sealed.tree, signed=True)
    with Ledger.open(str(mine.folder), remember=True) as ledger:
        assert ledger.sql("SELECT DISTINCT decision FROM events").to_pylist() == [{"decision": "allow"}]
    assert mine.writer().state.key.text == mine.key.verifier.text


@pytest.mark.usefixtures("eager")
def test_a_catalogue_from_before_a_rollback_is_not_believed(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    for n in range(5):
        made.writer().commit([stretch([row(n)], start=n)])
    with Ledger.open(str(made.folder)) as ledger:
        state, tree = ledger.state, ledger.sealed.tree
    forked = make_ledger(tmp_path / "b")
    for n in range(3):
        forked.writer().commit([stretch([row(n, decision="deny")], start=n)])
    for path in (catalogue_path(str(forked.folder)), signed_catalogue_path(str(forked.folder))):
        save(path, state, tree, signed=True)
    with Ledger.open(str(forked.folder)) as ledger:
        assert ledger.size == 4
        assert ledger.sql("SELECT DISTINCT decision FROM events").to_pylist() == [{"decision": "deny"}]


@pytest.mark.usefixtures("eager")
def test_reader_and_writer_go_on_from_a_catalogue(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for n in range(300):
        writer.commit([stretch([row(n)], start=n)])
    writer.keep_catalogue()
    Compaction(writer).run(fan_in=2, most=1)
    with Ledger.open(str(made.folder)) as ledger:
        expected = said(replay(list(ledger.sealed.entries))[0])
        assert said(ledger.state) == expected
        assert ledger.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 300}]
        assert ledger.sealed.entries[:3] == [ledger.sealed.entries[n] for n in range(3)]
        assert ledger.sql("SELECT count(*) AS n FROM events", at=9).to_pylist() == [{"n": 8}]
        assert ledger.evidence("e7")
    resumed = made.writer()
    assert said(resumed.state) == expected
    (entry,) = resumed.commit([stretch([row(299), row(300)], start=300)]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (1, 1)
    made.clock.advance(3_600)
    resumed.tick()
    assert verify(made.store, vkey=made.key.verifier).findings == []


@pytest.mark.usefixtures("eager")
def test_an_entry_that_was_changed_behind_a_catalogue_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for n in range(260):
        writer.commit([stretch([row(n)], start=n)])
    for _ in range(2):
        with Ledger.open(str(made.folder)) as ledger:
            entries = ledger.sealed.entries
            assert len(entries) == 261
    path = made.folder / "tile/entries/000"
    path.write_bytes(path.read_bytes().replace(b'"rows":1,', b'"rows":2,', 1))
    with Ledger.open(str(made.folder)) as ledger, pytest.raises(DamageError, match="not the one"):
        list(ledger.sealed.entries)


def test_a_long_log_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_long_log(tmp_path / "l", 1_500)
    url = str(tmp_path / "l")
    with Ledger.open(url) as first:
        assert catalogue_path(url).is_file()
    reads: list[str] = []
    real = LocalStore.read

    def read(self: LocalStore, path: str) -> bytes | None:
        reads.append(path)
        return real(self, path)

    monkeypatch.setattr(LocalStore, "read", read)
    with Ledger.open(url) as second:
        assert said(second.state) == said(first.state)
    assert [path for path in reads if "entries" in path] == []
    writer = Writer(LocalStore(tmp_path / "l"), SigningKey(tmp_path / "l.key"), remember=False)
    assert writer.state.size == 1_500
    catalogue_path(url).unlink()
    Ledger.open(url).close()  # which keeps one whose entries' signatures were not checked
    reads.clear()
    writer = Writer(LocalStore(tmp_path / "l"), SigningKey(tmp_path / "l.key"), remember=False)
    assert len([path for path in reads if "entries" in path]) < 6
    assert writer.tick() is not None


def test_lazy_rows_are_a_mapping() -> None:
    rows: LazyRows[list[int]] = LazyRows(
        3, lambda: ["a", "b", "c"], lambda: {"n": [1, 2, 3]}, lambda columns, at: [columns["n"][at]]
    )
    assert dict(rows) == {"a": [1], "b": [2], "c": [3]}
    rows["a"].append(9)
    assert rows["a"] == [1, 9]
    assert rows.pop("b") == [2]
    assert ("b" in rows, "a" in rows, len(rows), list(rows)) == (False, True, 2, ["a", "c"])
    with pytest.raises(KeyError):
        rows["b"]
    rows["b"], rows["a"], rows["d"] = [7], [8], [0]
    assert list(rows.items()) == [("a", [8]), ("c", [3]), ("b", [7]), ("d", [0])]
    del rows["d"], rows["b"]
    assert len(rows) == 2
    assert rows.setdefault("d", [5]) == [5]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("size", [255, 256])
def test_a_writer_notices_a_rollback_behind_its_catalogue(tmp_path: Path, size: int) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    kept: list[tuple[Path, bytes]] = []
    for n in range(size - 1):
        if n == size - 4:
            kept = [(path, path.read_bytes()) for path in made.folder.rglob("*") if path.is_file()]
        made.clock.advance(TICK_SECONDS)
        writer.tick()
    assert writer.state.size == size
    writer.keep_catalogue()
    assert signed_catalogue_path(str(made.folder)).is_file()
    assert made.writer().state.size == size
    shutil.rmtree(made.folder)
    for path, data in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with pytest.raises(DamageError, match=r"rolled back|signed a head of"):
        made.writer()
