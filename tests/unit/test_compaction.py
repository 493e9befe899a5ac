from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger import compaction
from ledger.errors import DamageError
from ledger.evidence import verify_bundle
from ledger.manifest import InvalidEntry
from ledger.reader import Ledger
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
    entries = compaction.compact(made.writer())
    assert len(entries) == 2
    assert _all(made) == before
    with Ledger.open(str(made.folder)) as ledger:
        assert len(ledger.state.files) == 2
        assert len(ledger.state.originals) == COMMITS


def test_a_query_pinned_before_later_commits_reads_through_the_merged_file(made: Made) -> None:
    compaction.compact(made.writer())
    rows = _all(made, at=4)
    assert [one["event_id"] for one in rows] == [f"e{n}" for n in range(3 * ROWS)]


def test_evidence_holds_before_and_after_a_merge(made: Made) -> None:
    with Ledger.open(str(made.folder)) as ledger:
        earlier = ledger.evidence("e42")
    compaction.compact(made.writer())
    with Ledger.open(str(made.folder)) as ledger:
        later = ledger.evidence("test/pdp#e42")
        vkey = ledger.state.key.text
    assert verify_bundle(earlier, vkey).events == verify_bundle(later, vkey).events


def test_removed_files_go_once_their_grace_is_over_and_not_before(made: Made) -> None:
    writer = made.writer()
    compaction.compact(writer, grace=600)
    there = {file.path for file in made.store.list("events")}
    assert len(there) == COMMITS + 2
    made.clock.advance(601)
    writer.tick()
    assert {file.path for file in made.store.list("events")} == set(writer.state.files)


def test_a_new_writer_sweeps_what_an_earlier_one_left(made: Made) -> None:
    compaction.compact(made.writer(), grace=600)
    made.clock.advance(601)
    made.writer().tick()
    assert len(list(made.store.list("events"))) == 2


def test_changed_rows_are_not_carried_on(made: Made) -> None:
    writer = made.writer()
    victim = next(iter(writer.state.files.values()))
    folder = victim.path.rpartition("/")[0]
    other = next(path for path in writer.state.files if path != victim.path and path.startswith(folder))
    made.store.local_path(victim.path).write_bytes(made.store.local_path(other).read_bytes())
    with pytest.raises(DamageError, match="no longer holds"):
        compaction.compact(writer)


def test_two_writers_that_plan_the_same_merge_carry_it_out_once(made: Made) -> None:
    first, second = made.writer(), made.writer()
    merges = compaction.plan(second.state, fan_in=2)
    compaction.compact(first)
    with pytest.raises(InvalidEntry, match="not live"):
        compaction._merge(second, merges[0], 600)


def test_background_plan_waits_for_eight_files_of_a_size(made: Made) -> None:
    state = made.writer().state
    assert [len(merge.files) for merge in compaction.plan(state)] == [10, 10]
    assert compaction.plan(state, fan_in=11) == []


def test_gc_names_left_overs_before_it_deletes_them(made: Made) -> None:
    writer = made.writer()
    stray = "events/retention=standard/date=2026-11-23/" + "0" * 32 + ".parquet"
    made.store.create(stray, b"half a commit")
    made.clock.now = datetime.now(UTC)
    taken, _ = compaction.gc(writer, age=timedelta(0))
    assert taken == [stray]
    assert stray in writer.state.collected
    assert made.store.read(stray) is None


def test_gc_spares_what_may_belong_to_a_commit_in_flight(made: Made) -> None:
    writer = made.writer()
    stray = "events/retention=standard/date=2026-11-23/" + "0" * 32 + ".parquet"
    made.store.create(stray, b"half a commit")
    made.clock.now = datetime.now(UTC)
    assert compaction.gc(writer)[0] == []
    assert made.store.read(stray) is not None
