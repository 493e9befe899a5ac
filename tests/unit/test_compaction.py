from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.config_cli import seal_config
from ledger.errors import OutsideError
from ledger.format.manifest import Config, InvalidEntry, OffsetKey
from ledger.log.sealed_config import config_data
from ledger.query.evidence import verify_bundle
from ledger.reader import Ledger
from ledger.sealing.segment import read_events
from ledger.storage.local_store import LocalStore
from ledger.upkeep import compaction, left_overs
from ledger.upkeep.compaction import Compaction
from ledger.verify.verification import verify
from tests.making import NOON, Made, make_ledger, row, stretch

COMMITS = 20
ROWS = 5


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for commit in range(COMMITS):
        rows = [row(commit * ROWS + n, time=NOON - timedelta(days=commit % 2)) for n in range(ROWS)]
        writer.commit([stretch(rows, start=commit * ROWS)])
    return made


def _all(made: Made, at: int | None = None) -> list[dict[str, object]]:
    with Ledger.open(str(made.folder)) as ledger:
        rows: list[dict[str, object]] = ledger.sql(
            "SELECT * FROM events ORDER BY record_offset", at=at
        ).to_pylist()
    return rows


def test_merging_keeps_every_row_and_never_crosses_a_date(made: Made) -> None:
    before = _all(made)
    entries = Compaction(made.writer()).run(fan_in=2)
    assert len(entries) == 2
    assert _all(made) == before
    with Ledger.open(str(made.folder)) as ledger:
        assert len(ledger.state.files) == 2
        assert len(ledger.state.originals) == COMMITS


def test_a_query_pinned_before_later_commits_reads_through_the_merged_file(made: Made) -> None:
    Compaction(made.writer()).run(fan_in=2)
    rows = _all(made, at=4)
    assert [one["event_id"] for one in rows] == [f"e{n}" for n in range(3 * ROWS)]


def test_evidence_holds_before_and_after_a_merge(made: Made) -> None:
    with Ledger.open(str(made.folder)) as ledger:
        earlier = ledger.evidence("e42")
    Compaction(made.writer()).run(fan_in=2)
    with Ledger.open(str(made.folder)) as ledger:
        later = ledger.evidence("test/pdp#e42")
        vkey = ledger.state.key.text
    assert verify_bundle(earlier, vkey).events == verify_bundle(later, vkey).events


def test_removed_files_go_once_their_grace_is_over_and_not_before(made: Made) -> None:
    writer = made.writer()
    Compaction(writer, grace=600).run(fan_in=2)
    there = {file.path for file in made.store.list("events")}
    assert len(there) == COMMITS + 2
    made.clock.advance(601)
    writer.tick()
    assert {file.path for file in made.store.list("events")} == set(writer.state.files)


def test_a_new_writer_sweeps_what_an_earlier_one_left(made: Made) -> None:
    Compaction(made.writer(), grace=600).run(fan_in=2)
    made.clock.advance(601)
    made.writer().tick()
    assert len(list(made.store.list("events"))) == 2


@pytest.mark.parametrize("harm", ["exchanged", "removed"])
def test_a_damaged_file_is_named_and_the_others_are_merged_without_it(made: Made, harm: str) -> None:
    writer = made.writer()
    victim = next(iter(writer.state.files.values()))
    folder = victim.path.rpartition("/")[0]
    other = next(path for path in writer.state.files if path != victim.path and path.startswith(folder))
    if harm == "removed":
        made.store.delete(victim.path)
    else:
        made.store.local_path(victim.path).write_bytes(made.store.local_path(other).read_bytes())
    compaction = Compaction(writer)
    assert sorted(len(entry.removed) for entry in compaction.run(fan_in=2)) == [9, 10]
    assert list(compaction.damaged) == [victim.path]
    assert victim.path in writer.state.files
    assert compaction.run(fan_in=2) == []


def test_two_writers_that_plan_the_same_merge_carry_it_out_once_and_leave_no_file(made: Made) -> None:
    second = Compaction(made.writer())
    merges = second._due(2)
    writer = made.writer()
    Compaction(writer).run(fan_in=2)
    assert [second._merge(merge) for merge in merges] == [None, None]
    named = {*writer.state.files, *writer.state.removed}
    assert {file.path for file in made.store.list("events")} == named


def test_more_files_than_one_entry_can_name_are_merged_in_several(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    for commit in range(330):
        writer.commit([stretch([row(commit)], start=commit)])
    before = _all(made)
    entries = Compaction(writer).run(fan_in=2)
    assert len(entries) == 2
    assert len(writer.state.files) == 2
    assert _all(made) == before
    assert {f.path for f in made.store.list("events")} == {*writer.state.files, *writer.state.removed}


def test_wide_rows_are_merged_in_parts_that_fit_in_memory(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made.writer()
    table = read_events(made.store.read(next(iter(writer.state.files))))
    monkeypatch.setattr(compaction, "TARGET_BYTES", 3 * table.nbytes)
    entries = Compaction(writer).run(fan_in=2, most=4)
    assert entries
    assert all(len(entry.removed) <= 3 for entry in entries)


def test_a_worker_may_commit_while_merges_are_planned(made: Made) -> None:
    writer = made.writer()
    before = writer.live_files()
    writer.commit([stretch([row(999)], start=COMMITS * ROWS)])
    assert len(writer.live_files()) == len(before) + 1
    assert isinstance(before, tuple)


def test_gc_names_left_overs_before_it_deletes_them(made: Made) -> None:
    writer = made.writer()
    stray = "events/retention=standard/date=2026-11-23/" + "0" * 32 + ".parquet"
    made.store.create(stray, b"half a commit")
    made.clock.now = datetime.now(UTC)
    taken, _ = left_overs.gc(writer, age=timedelta(0))
    assert taken == [stray]
    assert stray in writer.state.collected
    assert made.store.read(stray) is None


def test_gc_spares_what_may_belong_to_a_commit_in_flight(made: Made) -> None:
    writer = made.writer()
    stray = "events/retention=standard/date=2026-11-23/" + "0" * 32 + ".parquet"
    made.store.create(stray, b"half a commit")
    made.clock.now = datetime.now(UTC)
    assert left_overs.gc(writer)[0] == []
    assert made.store.read(stray) is not None


def test_gc_counts_each_file_once(made: Made) -> None:
    Compaction(made.writer(), grace=600).run(fan_in=2)
    made.clock.advance(601)
    _, swept = left_overs.gc(made.writer())
    assert len(swept) == COMMITS
    assert left_overs.gc(made.writer()) == ([], [])


def test_a_configuration_that_gc_took_as_a_left_over_can_be_sealed_still(made: Made) -> None:
    writer = made.writer()
    data = b'{"tier":1}'
    digest = hashlib.sha256(data).hexdigest()
    made.store.create(f"config/{digest}", data)
    made.clock.now = datetime.now(UTC)
    assert left_overs.gc(writer, age=timedelta(0))[0] == [f"config/{digest}"]
    assert seal_config(writer, "tiers", data)
    assert not seal_config(writer, "tiers", data)
    left_overs.gc(made.writer(), age=timedelta(0))
    assert config_data(made.store, writer.state.configs["tiers"], "tiers").rstrip() == data
    assert verify(made.store, vkey=made.key.verifier).ok
    with pytest.raises(InvalidEntry, match="never used again"):
        writer.put(Config, {"name": "tiers", "sha256": digest})


def test_a_file_that_cannot_be_deleted_stops_no_commit(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = made.writer()
    Compaction(writer, grace=600).run(fan_in=2)
    made.clock.advance(601)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", _refuse)
        assert writer.commit([stretch([row(900)], start=COMMITS * ROWS)]).entries
    assert len(writer.undeleted) == COMMITS
    assert "read-only" in next(iter(writer.undeleted.values()))
    writer.tick()
    made.clock.advance(61)
    writer.tick()
    assert not writer.undeleted
    assert {file.path for file in made.store.list("events")} == set(writer.state.files)


def test_a_deletion_is_durable_before_the_entry_that_ends_its_grace(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut brings the file back, and `verify` calls it damage."""
    writer = made.writer()
    Compaction(writer, grace=600).run(fan_in=2)
    made.clock.advance(601)
    done: list[str] = []
    for name in ("create", "delete", "sync"):
        real = getattr(LocalStore, name)

        def call(store: LocalStore, path: str, *more: bytes, name: str = name, real: Any = real) -> Any:
            done.append(f"{name} {path.rpartition('/')[0] if name == 'sync' else path}")
            return real(store, path, *more)

        monkeypatch.setattr(LocalStore, name, call)
    gone = sorted(writer.state.removed)
    writer.tick()
    entry = next(at for at, one in enumerate(done) if one.startswith("create tile/entries/"))
    assert {f"delete {path}" for path in gone} <= set(done[:entry])
    last = max(done.index(f"delete {path}") for path in gone)
    assert {f"sync {path.rpartition('/')[0]}" for path in gone} <= set(done[last:entry])


def _refuse(*_: object) -> None:
    raise OutsideError("The file system is read-only.")


def test_a_handle_older_than_the_grace_answers_everything(made: Made) -> None:
    with Ledger.open(str(made.folder)) as one, Ledger.open(str(made.folder)) as two:
        Compaction(made.writer(), grace=0).run(fan_in=2)
        made.clock.advance(61)
        made.writer().tick()
        assert verify_bundle(one.evidence("e42"), made.key.signer.vkey).events
        assert list(two.evidence_each(["e41"])) == ["e41"]


@pytest.mark.parametrize("when", ["opened", "refreshed", "asked what is sealed"])
def test_files_that_are_merged_away_while_a_writer_reads_them_are_no_damage(
    made: Made, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer leaves no grace, and comes between reading the log and reading the files it names."""
    writer = made.writer(remember=when != "opened")
    finding = LocalStore.local_path
    merged: list[str] = []

    def find(store: LocalStore, path: str) -> Path:
        if path.startswith("events/") and not merged:
            merged.append(path)
            Compaction(other, grace=0).run(fan_in=2)
            assert path in other.sweep(early=True) or path not in other.state.files
        return finding(store, path)

    other = made.writer()
    if when == "refreshed":
        other.commit([stretch([row(901)], start=COMMITS * ROWS)])
    monkeypatch.setattr(LocalStore, "local_path", find)
    if when == "opened":
        writer = made.writer()
    again = [row(901 if when == "refreshed" else 0, time=NOON, action="another")]
    writer.refresh()
    entry = writer.commit([stretch(again, key=OffsetKey("other"))]).entries[0]
    assert merged
    assert entry.offsets[0].to == 1
    assert verify(made.store, vkey=made.key.verifier).ok
