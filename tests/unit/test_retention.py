"""What outlives its class goes, and nothing else: classes, holds, grace, compacted files, old evidence."""

from __future__ import annotations

import json
import threading
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from dashboard.access import Viewer, local_viewer
from dashboard.answers import integrity
from dashboard.pool import Pool
from dashboard.statements import Statements
from detections.following import Following
from ingest.maintenance import Maintenance
from ledger.console import run
from ledger.errors import UsageError
from ledger.format.manifest import (
    Compact,
    Config,
    Expire,
    HoldMatch,
    HoldPlaced,
    InvalidEntry,
    Note,
    Release,
    RetentionClass,
    SegmentRef,
    instant,
)
from ledger.log.retention_classes import classes_json
from ledger.log.signing import SigningKey
from ledger.query.evidence import export
from ledger.query.evidence_bundle import verify_bundle
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.keeping import Keeping
from ledger.upkeep.retention import MAX_PATHS, apply, plan, totals
from ledger.verify.verification import verify
from ledger.writer import Writer, create_ledger
from tests.making import NOON, Clock, Made, make_ledger, row, stretch

CLASSES = {
    "standard": RetentionClass(days=30, erasable=False),
    "legal": RetentionClass(days=None, erasable=False),
    "short": RetentionClass(days=2, erasable=False),
}
TRACE = "a" * 32


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A ledger of an event a day and class over the last forty days, sealed when they happened."""
    from ledger.log.signing import create_key

    create_key(tmp_path / "ledger.key", "test.example/ledger")
    found = Made(
        tmp_path / "ledger", LocalStore(tmp_path / "ledger"), SigningKey(tmp_path / "ledger.key"), Clock()
    )
    found.clock.now = NOON - timedelta(days=40)
    create_ledger(found.store, found.key, retention=CLASSES, clock=found.clock)
    writer = found.writer()
    for day in range(40):
        found.clock.now = NOON - timedelta(days=39 - day)
        rows = [
            row(day * 10 + at, time=found.clock.now, retention=name, actor=f"user:{day}",
                trace_id=TRACE if day == 5 else None)
            for at, name in enumerate(CLASSES)
        ]  # fmt: skip
        writer.commit([stretch(rows, day * 3)])
    return found


def dates(made: Made, name: str) -> list[date]:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        rows = ledger.sql(
            f"SELECT DISTINCT date FROM events WHERE retention = '{name}' ORDER BY 1"
        ).to_pylist()
    return [one["date"] for one in rows]


def day(back: int) -> date:
    return (NOON - timedelta(days=back)).date()


def applied(made: Made, writer: Writer | None = None, **more: Any) -> list[Expire]:
    writer = writer or made.writer()
    found = list(apply(writer, by="user:dpo", **more))
    made.clock.advance(120)
    writer.sweep()
    return found


def test_the_plan_names_what_is_older_than_its_class_is_kept(made: Made) -> None:
    writer = made.writer()
    standard, legal, short = sorted(
        plan(writer.state, writer.classes()), key=lambda one: list(CLASSES).index(one.name)
    )
    assert [one.date for one in standard.due] == [day(back) for back in range(39, 30, -1)]
    assert (standard.kept, standard.next, standard.cutoff) == (31, day(-1), day(30))
    assert (legal.due, legal.kept, legal.next) == ([], 40, None)
    assert [one.date for one in short.due] == [day(back) for back in range(39, 2, -1)]
    assert totals([standard, legal, short])["due_segments"] == 9 + 37
    assert not totals([standard, legal, short])["held_segments"]


def test_what_is_due_goes_with_its_files_and_nothing_else(made: Made) -> None:
    before = sum(path.stat().st_size for path in made.folder.rglob("*.parquet"))
    entries = applied(made)
    assert sorted(entry.class_ for entry in entries) == ["short", "standard"]
    assert {entry.cutoff for entry in entries} == {day(30).isoformat(), day(2).isoformat()}
    assert dates(made, "standard") == [day(back) for back in range(30, -1, -1)]
    assert dates(made, "short") == [day(2), day(1), day(0)]
    assert len(dates(made, "legal")) == 40
    assert sum(path.stat().st_size for path in made.folder.rglob("*.parquet")) < before
    assert len(list(made.folder.rglob("*.parquet"))) == 31 + 3 + 40
    assert verify(LocalStore(made.folder)).ok
    assert applied(made) == []


def test_evidence_that_was_handed_out_verifies_for_ever(made: Made) -> None:
    with Ledger.open(str(made.folder), remember=False) as ledger:
        bundle = export(ledger, ["e0"])
        proved = verify_bundle(bundle, ledger.state.key.text)
        vkey = ledger.state.key.text
    applied(made)
    assert verify_bundle(bundle, vkey) == proved
    with Ledger.open(str(made.folder), remember=False) as ledger, pytest.raises(UsageError):
        export(ledger, ["e0"])


def test_files_stay_for_their_grace_and_readers_in_it_are_served(made: Made) -> None:
    writer = made.writer()
    with Ledger.open(str(made.folder), remember=False) as early:
        assert len(list(apply(writer, by="user:dpo", grace=60))) == 2
        made.clock.advance(30)
        assert writer.sweep() == []
        assert early.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": 120}]
        assert {finding.kind for finding in verify(LocalStore(made.folder)).listed} == {"pending"}
    made.clock.advance(31)
    assert len(writer.sweep()) == 46
    assert verify(LocalStore(made.folder)).ok


def test_a_hold_keeps_what_it_covers_and_its_release_lets_it_go(made: Made) -> None:
    writer = made.writer()
    five = NOON - timedelta(days=34)
    match = HoldMatch(
        class_="standard", trace_id=TRACE, from_=instant(five), to=instant(five + timedelta(days=2))
    )
    writer.put(HoldPlaced, {"id": "case-17", "match": match, "by": "user:counsel", "reason": "case 17"})
    (one,) = [one for one in plan(writer.state, writer.classes()) if one.name == "standard"]
    assert [(held.date, held.holds) for held in one.held] == [
        (day(34), ("case-17",)),
        (day(33), ("case-17",)),
    ]
    applied(made, writer)
    assert dates(made, "standard")[:3] == [day(34), day(33), day(30)]
    assert len(dates(made, "short")) == 3
    # Whoever names them all the same is refused, the writer itself not excepted.
    held = [segment.path for segment in one.held]
    with pytest.raises(InvalidEntry, match="held by case-17"):
        writer.put(Expire, {"paths": held, "class": "standard", "cutoff": day(30).isoformat(), "by": "x",
                            "reason": "x", "grace": 0})  # fmt: skip
    writer.put(Release, {"id": "case-17", "by": "user:counsel", "reason": "closed"})
    (entry,) = applied(made, writer)
    assert sorted(entry.paths) == sorted(held)
    assert verify(LocalStore(made.folder)).ok


def test_compacted_files_go_when_all_that_they_hold_has_expired(made: Made) -> None:
    writer = made.writer()
    clock = made.clock
    for number in range(4):
        writer.commit([stretch([row(1_000 + number, time=NOON, retention="short")], 120 + number)])
    merged = Compaction(writer).run(fan_in=2)
    assert any(isinstance(entry, Compact) for entry in merged)
    clock.advance(5 * 86_400)
    writer.tick()
    entries = applied(made, writer)
    assert entries
    assert dates(made, "short") == []
    assert not list(made.folder.rglob("retention=short/**/*.parquet"))
    assert verify(LocalStore(made.folder)).ok


def test_a_segment_that_is_not_due_or_of_another_class_cannot_expire(made: Made) -> None:
    writer = made.writer()
    paths = {one.ref.date + one.ref.retention: path for path, one in writer.state.originals.items()
             if isinstance(one.ref, SegmentRef)}  # fmt: skip
    for back, name, cutoff in ((30, "standard", 29), (39, "legal", 0), (39, "standard", 39)):
        path = paths[day(back).isoformat() + name]
        with pytest.raises(InvalidEntry):
            writer.put(Expire, {"paths": [path], "class": name, "cutoff": day(cutoff).isoformat(), "by": "x",
                                "reason": "x", "grace": 0})  # fmt: skip


def test_classes_that_were_sealed_later_decide_and_verify_holds_expiries_against_them(made: Made) -> None:
    writer = made.writer()
    longer = classes_json({**CLASSES, "standard": RetentionClass(days=35, erasable=False)})
    import hashlib

    digest = hashlib.sha256(longer).hexdigest()
    writer.store.create(f"config/{digest}", longer)
    writer.put(Config, {"name": "classes", "sha256": digest})
    (one,) = [one for one in plan(writer.state, writer.classes()) if one.name == "standard"]
    assert [due.date for due in one.due] == [day(back) for back in range(39, 35, -1)]
    applied(made, writer)
    report = verify(LocalStore(made.folder))
    assert report.ok
    early = next(
        path for path, found in writer.state.originals.items()
        if path.startswith("events/retention=standard/") and f"date={day(33)}" in path and not found.expired
    )  # fmt: skip
    # An entry alone does not tell that it is too early: the sealed file does.
    writer.put(Expire, {"paths": [early], "class": "standard", "cutoff": day(32).isoformat(), "by": "x",
                        "reason": "x", "grace": 0})  # fmt: skip
    writer.sweep()
    found = [finding for finding in verify(LocalStore(made.folder)).damaged if finding.kind == "entry"]
    assert len(found) == 1
    assert "keeps longer" in found[0].message


def test_a_clock_that_was_years_ahead_lets_nothing_expire_for_others(made: Made) -> None:
    ahead = Clock(NOON + timedelta(days=3_650))
    Writer(LocalStore(made.folder), made.key, clock=ahead).tick()
    writer = made.writer()
    assert writer.state.clock == ahead.now
    assert sum(len(entry.paths) for entry in apply(writer, by="user:dpo")) == 46


def test_many_segments_take_several_entries(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer(remember=False)
    for number in range(MAX_PATHS // 50 + 1):
        rows = [row(number * 60 + at, time=NOON - timedelta(days=500 + at)) for at in range(50)]
        writer.commit([stretch(rows, number * 50)])
    entries = list(apply(writer, by="user:dpo"))
    assert [len(entry.paths) for entry in entries] == [MAX_PATHS, 50]
    assert verify(LocalStore(made.folder)).ok


def test_the_commands(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--ledger", str(made.folder), "--json"]
    signed = [*url, "--key", str(made.key.path)]

    def said(*arguments: str, code: int = 0) -> Any:
        assert run(decision_ledger.app, [*arguments]) == code
        out = capsys.readouterr()
        return json.loads(out.out) if not code else out.err

    whole = said("retention", "plan", *url)
    assert whole["due_segments"] == 46
    held = said("hold", "add", "--trace", TRACE, "--by", "user:counsel", "--reason", "case 17", *signed)
    # It begins with the first event of the trace: what is older may go.
    assert held["match"] == {"trace_id": TRACE, "from": instant(NOON - timedelta(days=34))}
    # From here on the clock of the ledger is that of the machine, so more may be due.
    planned = {one["class"]: one for one in said("retention", "plan", *url)["classes"]}
    assert all(one["date"] < str(day(34)) for one in planned["standard"]["due"])
    assert all(one["date"] >= str(day(34)) for one in planned["standard"]["held"])
    assert {hold for one in planned["standard"]["held"] for hold in one["holds"]} == {held["id"]}
    (listed,) = said("hold", "list", *url)
    assert (listed["id"], listed["by"], listed["segments"]) == (held["id"], "user:counsel", held["segments"])
    done = said("retention", "apply", "--by", "user:dpo", "--grace", "0", *signed)
    assert (done["segments"], len(done["deleted"])) == (5 + 5, 10)
    left = said("retention", "plan", *url)
    assert (left["due_segments"], left["held_segments"] > 0) == (0, True)
    said("hold", "release", held["id"], "--by", "user:counsel", "--reason", "closed", *signed)
    assert said("hold", "list", *url) == []
    assert said("retention", "apply", "--grace", "0", *signed)["segments"] == left["held_segments"]
    assert said("retention", "plan", *url)["due_segments"] == 0
    assert "no hold" in said("hold", "release", "none", "--by", "x", "--reason", "x", *signed, code=2)
    assert "no retention class" in said(
        "hold", "add", "--class", "nope", "--by", "x", "--reason", "x", *signed, code=2
    )
    assert "no time" in said("hold", "add", "--from", "soon", "--by", "x", "--reason", "x", *signed, code=2)
    assert "control" in said("hold", "add", "--everything", "--by", "x", "--reason", "a\nb", *signed, code=2)
    assert "ends before" in said(
        "hold",
        "add",
        "--from",
        "2026-11-02",
        "--to",
        "2026-11-01",
        "--by",
        "x",
        "--reason",
        "x",
        *signed,
        code=2,
    )


def test_the_dashboard_says_what_is_held_and_what_went(made: Made) -> None:
    writer = made.writer()
    match = HoldMatch(class_="standard", from_=instant(NOON - timedelta(days=33)))
    writer.put(HoldPlaced, {"id": "case-17", "match": match, "by": "user:counsel", "reason": "case 17"})
    entries = applied(made, writer)
    one = Statements(Pool(str(made.folder)))
    ann = Viewer("i#ann", frozenset({"analyst"}), frozenset({"acme"}))

    def answered(viewer: Viewer, question: Any) -> Any:
        return one.answer(viewer, one.pool.newest().size, question)

    try:
        head, some = answered(local_viewer(), integrity.head), answered(ann, integrity.head)
        gone = answered(local_viewer(), integrity.completeness)
    finally:
        one.close()
    assert (head["held"], head["holds"], head["witnesses"]) == (1, ["case-17 (case 17)"], 0)
    assert (some["held"], some["holds"]) == (1, [])
    assert (gone["expired"], gone["erased"]) == (sum(len(entry.paths) for entry in entries), 0)


def test_an_intake_applies_retention_by_itself_where_it_is_asked_to(made: Made) -> None:
    class Nothing:
        finished = True

        def lag(self) -> dict[Any, int]:
            return {}

    writer = made.writer()
    Maintenance(writer, Nothing()).finish()  # type: ignore[arg-type]  # all that is asked of a source here
    assert len(dates(made, "short")) == 40
    maintenance = Maintenance(writer, Nothing(), Keeping(writer, apply_retention=True))  # type: ignore[arg-type]  # as above
    maintenance.finish()
    made.clock.advance(120)
    writer.sweep()
    assert len(dates(made, "short")) == 3
    assert verify(LocalStore(made.folder)).ok


def test_a_writer_that_died_before_it_deleted_left_nothing_wrong(made: Made) -> None:
    entries = list(apply(made.writer(), by="user:ann", grace=0))
    assert entries
    # Only the last entry's files can still be there: each append deletes what is due before it.
    assert verify(LocalStore(made.folder)).ok
    made.writer().tick()
    made.clock.advance(120)
    made.writer().tick()
    assert verify(LocalStore(made.folder)).ok
    assert len(dates(made, "short")) == 3


def test_the_grace_after_an_idle_time_is_whole(made: Made) -> None:
    # Nobody wrote for an hour: who opened the ledger a moment ago still finds its files.
    made.clock.advance(3_600)
    writer = made.writer()
    assert list(apply(writer, by="user:ann", grace=60))
    made.clock.advance(30)
    writer.put(Note, {"text": "half a minute later"})
    assert len(list(made.store.list("events/retention=short"))) == 40
    made.clock.advance(31)
    writer.put(Note, {"text": "after it"})
    assert len(list(made.store.list("events/retention=short"))) == 3
    assert verify(LocalStore(made.folder)).ok


def test_a_writer_whose_clock_was_set_back_sweeps_by_the_ledgers_clock(made: Made) -> None:
    writer = made.writer()
    assert list(apply(writer, by="user:ann", grace=60))
    ahead = made.clock.now + timedelta(seconds=120)
    late = Writer(LocalStore(made.folder), SigningKey(made.key.path), clock=lambda: ahead, remember=False)
    late._doomed.clear()  # it died at this point once, and left them to the next
    late.put(Note, {"text": "the ledger's clock is past the grace"})
    made.clock.advance(-3 * 86_400)
    writer.put(Note, {"text": "set back"})
    assert len(list(made.store.list("events/retention=short"))) == 3
    assert verify(LocalStore(made.folder)).ok


def test_the_engine_applies_retention_by_itself_where_it_is_asked_to(made: Made, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    following = Following(made.writer(name="detections"), tmp_path / "plain")
    following.until(threading.Event(), lambda _: None, once=True)
    following.close()
    assert len(dates(made, "short")) == 40
    (tmp_path / "keeping").mkdir()
    writer = made.writer(name="detections")
    following = Following(writer, tmp_path / "keeping", keeping=Keeping(writer, apply_retention=True))
    found = following.until(threading.Event(), lambda _: None, once=True)
    following.close()
    made.clock.advance(120)
    writer.sweep()
    assert not found["troubles"]
    assert len(dates(made, "short")) == 3
    assert verify(LocalStore(made.folder)).ok
