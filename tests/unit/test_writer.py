from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import DamageError, UsageError
from ledger.format.manifest import OffsetKey
from ledger.log.signing import SigningKey, create_key
from ledger.reader import Ledger
from ledger.sealing import kept_events
from ledger.sealing.batch import ACCEPTED, IGNORED, REJECTED, SetAside
from ledger.sealing.kept_events import kept_events_path
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.writer import TICK_SECONDS, Writer, create_ledger
from tests.making import NOON, Made, make_ledger, row, stretch


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def test_a_batch_becomes_one_entry_that_accounts_for_every_message(made: Made) -> None:
    writer = made.writer()
    batch = stretch(
        [], messages=[[row(0)], [], [], [row(1), row(2)]], status=[ACCEPTED, IGNORED, REJECTED, ACCEPTED],
        aside={1: SetAside("blank line"), 2: SetAside("not JSON", payload=b"{")},
    )  # fmt: skip
    (entry,) = writer.commit([batch]).entries
    (offsets,) = entry.offsets
    assert (offsets.accepted, offsets.ignored, offsets.rejected, offsets.duplicate) == (2, 1, 1, 0)
    assert (offsets.from_, offsets.to) == (0, 4)
    assert sum(ref.rows for ref in entry.segments) == 3
    with Ledger.open(str(made.folder)) as ledger:
        letters = ledger.sql("SELECT * FROM dead_letters ORDER BY record_offset").to_pylist()
    assert [(one["status"], one["reason"], one["payload"]) for one in letters] == [
        ("ignored", "blank line", None), ("rejected", "not JSON", "ew=="),
    ]  # fmt: skip
    assert letters[1]["digest"] == batch.digest(2)


def test_the_same_event_again_is_a_duplicate_wherever_it_comes_from(made: Made) -> None:
    writer = made.writer()
    writer.commit([stretch([row(0), row(1)])])
    again = [row(1), row(2)]
    (entry,) = writer.commit([stretch(again, key=OffsetKey("file:other"))]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (1, 1)
    assert entry.deadletters[0].rows == 1


def test_duplicates_are_known_to_a_new_writer(made: Made) -> None:
    made.writer().commit([stretch([row(0)])])
    (entry,) = made.writer().commit([stretch([row(0)], key=OffsetKey("file:other"))]).entries
    assert entry.offsets[0].duplicate == 1
    assert entry.segments == []


def test_two_writers_that_know_nothing_of_each_other_seal_an_event_once(made: Made) -> None:
    first, second = made.writer(name="a"), made.writer(name="b")
    first.commit([stretch([row(0), row(1)])])
    (entry,) = second.commit([stretch([row(1), row(3)], key=OffsetKey("file:other"))]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (1, 1)


def test_same_key_other_content_is_kept_and_marked_once_per_content(made: Made) -> None:
    writer = made.writer()
    writer.commit([stretch([row(0)])])
    changed = row(0, decision="deny")
    writer.commit([stretch([changed, changed, row(0)], start=1)])
    with Ledger.open(str(made.folder)) as ledger:
        rows = ledger.sql("SELECT decision, conflict FROM events ORDER BY record_offset").to_pylist()
    assert rows == [{"decision": "allow", "conflict": None}, {"decision": "deny", "conflict": True}]


def test_repeats_inside_one_batch_are_duplicates(made: Made) -> None:
    (entry,) = made.writer().commit([stretch([row(0), row(0), row(1)])]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (2, 1)


def test_a_message_with_one_new_event_is_accepted(made: Made) -> None:
    writer = made.writer()
    writer.commit([stretch([row(0)])])
    (entry,) = writer.commit([stretch([], start=1, messages=[[row(0), row(1)]])]).entries
    assert (entry.offsets[0].accepted, entry.segments[0].rows) == (1, 1)


def test_coordinates_and_raw_do_not_make_another_content(made: Made) -> None:
    writer = made.writer()
    writer.commit([stretch([row(0, raw="first")])])
    (entry,) = writer.commit([stretch([row(0, raw="second")], start=1)]).entries
    assert entry.offsets[0].duplicate == 1


def test_offsets_that_moved_on_are_fenced_and_others_sealed(made: Made) -> None:
    writer, late = made.writer(), OffsetKey("t", 0, "id", "c")
    writer.commit([stretch([row(0), row(1)], key=late)])
    outcome = made.writer().commit([stretch([row(5)], start=1, key=late), stretch([row(6)])])
    assert outcome.fenced == [late]
    assert [o.topic for entry in outcome.entries for o in entry.offsets] == ["file:test"]


def test_a_batch_over_many_days_is_cut_before_64_segments(made: Made) -> None:
    rows = [row(n, time=NOON - timedelta(days=n)) for n in range(200)]
    outcome = made.writer().commit([stretch(rows)])
    assert len(outcome.entries) > 1
    assert all(len(entry.segments) <= 64 for entry in outcome.entries)
    edges = [(entry.offsets[0].from_, entry.offsets[0].to) for entry in outcome.entries]
    assert edges[0][0] == 0
    assert edges[-1][1] == 200
    assert all(a[1] == b[0] for a, b in pairwise(edges))


def test_one_message_over_too_many_days_is_set_aside(made: Made) -> None:
    many = [row(n, time=NOON - timedelta(days=n)) for n in range(65)]
    (entry,) = made.writer().commit([stretch([], messages=[many])]).entries
    assert entry.offsets[0].rejected == 1
    assert entry.segments == []


def test_ranges_too_many_for_one_entry_are_cut_by_offset(made: Made) -> None:
    batch = stretch([row(n) for n in range(10_000)])
    batch.offsets = batch.offsets * 2
    batch.end = 20_000
    batch.skipped = [(n, n + 1) for n in range(1, 20_000, 2)]
    outcome = made.writer().commit([batch])
    assert len(outcome.entries) > 1
    assert sum(end - start for e in outcome.entries for start, end in e.offsets[0].skipped) == 10_000
    assert outcome.entries[-1].offsets[0].to == 20_000


def test_an_idle_ledger_ticks_once_a_minute(made: Made) -> None:
    writer = made.writer()
    assert writer.tick() is None
    made.clock.advance(TICK_SECONDS)
    assert writer.tick() is not None
    assert writer.tick() is None


def test_a_second_ledger_at_the_same_place_is_refused(made: Made) -> None:
    with pytest.raises(UsageError, match="already"):
        create_ledger(made.store, made.key)


def test_a_writer_needs_a_ledger(tmp_path: Path) -> None:
    create_key(tmp_path / "new.key", "test.example/other")
    with pytest.raises(UsageError, match="no ledger"):
        Writer(LocalStore(tmp_path / "nothing"), SigningKey(tmp_path / "new.key"))


def test_a_ledger_that_vanished_behind_its_key_is_a_rollback(tmp_path: Path, made: Made) -> None:
    made.folder = tmp_path / "nothing"
    with pytest.raises(DamageError, match="rolled back"):
        made.writer()


def test_one_clock_that_is_days_ahead_makes_nobody_forget(made: Made) -> None:
    made.writer().commit([stretch([row(1), row(2)])])
    astray = made.writer()
    astray.clock = lambda: made.clock() + timedelta(days=8)
    astray.commit([stretch([row(3)], start=2)])
    again = made.writer()  # a restart: what is remembered is built anew from the log
    outcome = again.commit([stretch([row(1), row(2, decision="deny"), row(3)], start=3)])
    (entry,) = outcome.entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (1, 2)
    with Ledger.open(str(made.folder)) as ledger:
        assert ledger.sql("SELECT event_id, conflict FROM events WHERE conflict").to_pylist() == [
            {"event_id": "e2", "conflict": True}
        ]
        assert ledger.verify().findings == []


def test_with_time_events_are_forgotten_all_the_same(made: Made) -> None:
    made.writer().commit([stretch([row(1)])])
    ticking = made.writer(remember=False)
    for _ in range(9 * 24):
        made.clock.advance(3_600)
        ticking.tick()
    (entry,) = made.writer().commit([stretch([row(1)], start=1)]).entries
    assert entry.offsets[0].accepted == 1
    with Ledger.open(str(made.folder)) as ledger:
        assert ledger.verify().findings == []


def test_verify_lists_an_event_that_was_sealed_twice_within_the_horizon(made: Made) -> None:
    forgetful = made.writer(remember=False)
    forgetful.commit([stretch([row(1), row(2)])])
    forgetful.commit([stretch([row(9), row(2)], start=2)])
    with Ledger.open(str(made.folder)) as ledger:
        report = ledger.verify()
    assert report.ok
    (finding,) = report.findings
    assert (finding.kind, finding.row) == ("repeated", 1)
    assert "row 1 of" in finding.message
    assert "entry 1" in finding.message


def test_a_start_reads_only_segments_that_were_sealed_since_the_last_end(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_events, "KEEP_FROM_EVENTS", 1)
    writer = made.writer()
    for n in range(6):
        writer.commit([stretch([row(n)], start=n)])
    writer.keep_catalogue()
    Compaction(writer).run(fan_in=2)
    made.writer().commit([stretch([row(6)], start=6)])
    read: list[str] = []
    real = Writer._read

    def noted(self: Writer, path: str, columns: list[str] | None = None) -> Any:
        read.append(path)
        return real(self, path, columns)

    monkeypatch.setattr(Writer, "_read", noted)
    again = made.writer()
    assert len(read) == 1
    rows = [row(0), row(3, decision="deny"), row(6), row(7)]
    (entry,) = again.commit([stretch(rows, start=7)]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (2, 2)
    with Ledger.open(str(made.folder)) as ledger:
        conflicts = ledger.sql("SELECT event_id FROM events WHERE conflict").to_pylist()
        assert conflicts == [{"event_id": "e3"}]
        assert {finding.kind for finding in ledger.verify().findings} == {"pending"}


@pytest.mark.parametrize("harm", ["cut", "another ledger's", "nonsense", "another version's"])
def test_kept_keys_that_do_not_fit_are_not_believed(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(kept_events, "KEEP_FROM_EVENTS", 1)
    writer = made.writer()
    for n in range(3):
        writer.commit([stretch([row(n)], start=n)])
    writer.keep_catalogue()
    path = kept_events_path(made.store.url)
    data = path.read_bytes()
    if harm == "another ledger's":
        other = make_ledger(tmp_path / "b")
        for n in range(2):
            other.writer().commit([stretch([row(100 + n)], start=n)])
        other.writer().keep_catalogue()
        data = kept_events_path(other.store.url).read_bytes()
    changed = {
        "cut": data[:-200],
        "nonsense": b"PK",
        "another version's": data.replace(b"polars ", b"polarz "),
    }
    path.write_bytes(changed.get(harm, data))
    (entry,) = made.writer().commit([stretch([row(0), row(9)], start=3)]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (1, 1)


def test_after_an_idle_time_nothing_of_the_last_minutes_is_forgotten(made: Made) -> None:
    made.writer().commit([stretch([row(0)])])
    made.clock.advance(60 * 86_400)
    writer = made.writer()
    fresh = [row(n, time=made.clock()) for n in range(1, 402)]
    for n, one in enumerate(fresh[:400], start=1):
        made.clock.advance(1)
        writer.commit([stretch([one], start=n)])
    for start, late in enumerate((writer, made.writer()), start=401):
        (entry,) = late.commit([stretch([fresh[0]], start=start)]).entries
        assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (0, 1)
