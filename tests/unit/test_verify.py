from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import OutsideError, UsageError
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import InvalidEntry, Note, OffsetsRow, parse_entry
from ledger.format.merkle import leaf_hash, root
from ledger.format.tiles import encode_bundle
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.verify import workers as verify_workers
from ledger.verify.copies import agree_on, read_bundle, views
from ledger.verify.facts import Coordinates
from ledger.verify.findings import MAX_ROW_FINDINGS, Finding, row_findings
from ledger.verify.spans import _gaps, judge_span
from ledger.verify.verification import ledger_json_key, verify
from tests.faults.ledger_maker import ORDERS, Made, commit, event, new_ledger, stretch
from tests.simulated_store import Fault, Step


def grow(made: Made, commits: int, start: int = 0) -> list[str]:
    """So many commits of four messages each; their segments."""
    paths = []
    for n in range(start, start + commits):
        messages = [[event(10 * n + k)] for k in range(4)]
        paths.append(commit(made, stretch(ORDERS, 4 * n, messages)).segments[0].path)
    return paths


def found(findings: list[Finding]) -> list[tuple[str, str]]:
    return sorted((finding.kind, finding.path) for finding in findings)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return new_ledger(tmp_path)


def on_disk(made: Made, folder: Path) -> LocalStore:
    for path, data in made.store.objects.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return LocalStore(folder)


def test_a_ledger_of_entry_0_alone_is_clean(made: Made) -> None:
    report = verify(made.store, vkey=made.vkey)
    assert report.findings == []
    assert (report.entries, report.events) == (1, 0)


def test_a_later_verification_reads_only_the_files_that_came_since(made: Made) -> None:
    old = grow(made, 2)
    note = made.keep_head()
    new = grow(made, 2, start=2)
    handle = made.store.another()

    report = verify(handle, vkey=made.vkey, since=note)

    assert report.ok
    assert (report.mode, report.files, report.events) == ("since", 2, 8)
    read = {step.path for step in handle.calls if step.op == "read"}
    assert read & {*old, *new} == set(new)
    assert report.head_note == made.store.objects["checkpoint"]


def test_a_later_verification_still_sees_an_old_file_go(made: Made) -> None:
    old = grow(made, 2)
    note = made.keep_head()
    grow(made, 1, start=2)
    made.store.tamper(old[0], None)
    made.store.tamper(old[1], made.store.objects[old[1]] + b"x")

    damaged = verify(made.store, vkey=made.vkey, since=note).damaged

    assert found(damaged) == sorted([("missing", old[0]), ("changed", old[1])])


def test_since_a_head_that_is_none(made: Made) -> None:
    with pytest.raises(UsageError):
        verify(made.store, vkey=made.vkey, since=b"no note")


def test_since_a_head_of_another_ledger_is_a_fork(made: Made, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = new_ledger(tmp_path / "other", seed=bytes(32))
    report = verify(made.store, vkey=made.vkey, since=other.keep_head())
    assert {finding.kind for finding in report.damaged} == {"fork"}


def test_since_a_larger_head_is_a_rollback(made: Made) -> None:
    before = made.store.snapshot()
    grow(made, 1)
    note = made.keep_head()
    made.store.restore(before)
    assert found(verify(made.store, vkey=made.vkey, since=note).damaged) == [("rollback", "checkpoint")]


def test_a_sample_reads_some_files_and_is_repeatable(made: Made) -> None:
    paths = grow(made, 6)
    for path in paths:
        # Same size, so that only reading shows it.
        made.store.tamper(path, bytes(len(made.store.objects[path])))

    first = verify(made.store, vkey=made.vkey, sample=2, seed=7)
    again = verify(made.store, vkey=made.vkey, sample=2, seed=7)

    assert (first.mode, first.files, first.seed) == ("sample", 2, 7)
    assert len(first.damaged) == 2
    assert found(first.damaged) == found(again.damaged)
    chosen = {f.path for seed in range(40) for f in verify(made.store, sample=1, seed=seed).damaged}
    assert chosen == set(paths)


def test_a_sample_larger_than_the_ledger_is_all_of_it(made: Made) -> None:
    grow(made, 2)
    assert verify(made.store, vkey=made.vkey, sample=99).files == 2


def test_progress_counts_files(made: Made) -> None:
    grow(made, 3)
    seen: list[tuple[int, int]] = []
    verify(made.store, vkey=made.vkey, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_many_rows_are_shared_among_processes(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = grow(made, 7)
    monkeypatch.setattr(verify_workers, "MIN_SHARED_ROWS", 0)
    made.store.tamper(paths[3], b"x")
    made.store.tamper(paths[5], None)

    report = verify(made.store, vkey=made.vkey, workers=2)

    assert found(report.damaged) == sorted([("changed", paths[3]), ("missing", paths[5])])
    assert (report.files, report.events) == (6, 20)


def test_the_report_as_text_and_json(made: Made) -> None:
    [path] = grow(made, 1)
    made.store.tamper(path, None)
    report = verify(made.store)

    value = report.to_json()
    assert value["ok"] is False
    assert value["pinned"] is False
    assert value["findings"] == [
        {
            "severity": "damage", "kind": "missing", "path": path, "index": 1,
            "message": "Entry 1 sealed it, and no entry took it away.",
        }
    ]  # fmt: skip
    assert value["head"]["size"] == 2
    text = report.text()
    assert f"{path}, entry 1: Entry 1 sealed it" in text
    assert "not pinned" in text
    assert "DAMAGED, 1 finding:" in text


def test_the_key_that_the_ledger_claims(made: Made) -> None:
    assert ledger_json_key(made.store) == made.vkey
    made.store.tamper("ledger.json", b'{"vkey":"x"}')
    assert ledger_json_key(made.store) is None
    made.store.tamper("ledger.json", None)
    assert ledger_json_key(made.store) is None


def test_a_head_that_the_writer_kept_before_it_published_is_no_rollback(made: Made) -> None:
    grow(made, 1)
    older = made.store.objects["checkpoint"]
    grow(made, 1, start=1)
    kept = Checkpoint.parse(made.store.objects["checkpoint"].decode().split("\n\n")[0] + "\n")
    made.store.tamper("checkpoint", older)

    report = verify(made.store, vkey=made.vkey, kept=[kept])

    assert report.ok
    assert [finding.kind for finding in report.findings] == ["uncovered"]


def test_a_writer_that_goes_on_meanwhile_is_no_damage(made: Made) -> None:
    paths = grow(made, 3)
    acted: list[str] = []

    def act(step: Step) -> None:
        if step.op == "list" and "log" not in acted:
            acted.append("log")
            grow(made, 2, start=3)
        elif step.op == "read" and step.path == paths[0] and "files" not in acted:
            acted.append("files")
            Compaction(made.writer, grace=0).run(fan_in=2)
            made.clock.now += timedelta(seconds=5)
            made.writer.put(Note, {"text": "later"})
            for path in paths:
                made.store.delete(path)

    report = verify(made.store.another(on_step=act), vkey=made.vkey)

    assert acted == ["log", "files"]
    assert report.ok, report.text()


def test_a_partial_that_goes_between_listing_and_reading_is_missing(made: Made) -> None:
    grow(made, 2)
    head = "tile/entries/000.p/3"

    def act(step: Step) -> None:
        if step.op == "read" and step.path == head:
            made.store.tamper(head, None)

    report = verify(made.store.another(on_step=act), vkey=made.vkey)

    assert ("missing", head) in found(report.damaged)


def test_a_store_that_cannot_be_reached_is_no_answer(made: Made) -> None:
    [path] = grow(made, 1)
    with pytest.raises(OutsideError):
        verify(made.store.another([Fault(op="read", path=path)]), vkey=made.vkey)
    with pytest.raises(OutsideError):
        verify(made.store.another([Fault(op="list")]), vkey=made.vkey)


def _link(path: Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("replace", [_link, _pipe])
@pytest.mark.parametrize(
    "name", ["segment", "checkpoint", "ledger.json", "tile/0/000.p/2", "tile/entries/000.p/2"]
)
def test_what_is_no_plain_file_is_named(made: Made, tmp_path: Path, replace: Any, name: str) -> None:
    [segment] = grow(made, 1)
    store = on_disk(made, tmp_path / "ledger")
    path = segment if name == "segment" else name
    replace(tmp_path / "ledger" / path)

    report = verify(store, vkey=made.vkey)

    assert ("unreadable", path) in found(report.damaged)
    assert {f.path for f in report.damaged} <= {path, str(Path(path).parent / "elsewhere"), "elsewhere"}


def test_a_ledger_on_disk_is_clean_with_its_locks(made: Made, tmp_path: Path) -> None:
    grow(made, 2)
    store = on_disk(made, tmp_path / "ledger")
    (tmp_path / "ledger" / "checkpoint.lock").touch()
    assert verify(store, vkey=made.vkey).findings == []


def test_a_name_that_is_no_text_is_extra(made: Made, tmp_path: Path) -> None:
    store = on_disk(made, tmp_path / "ledger")
    Path(os.fsdecode(os.fsencode(tmp_path / "ledger") + b"/\xff")).touch()
    assert [f.kind for f in verify(store, vkey=made.vkey).damaged] == ["extra"]


def test_a_copy_of_a_copy_is_a_prefix_both_ways(made: Made) -> None:
    grow(made, 1)
    copy = made.store.fork()
    grow(made, 1, start=1)
    assert verify(made.store, vkey=made.vkey, against=copy).ok
    assert verify(copy, vkey=made.vkey, against=made.store).ok


def test_rows_beyond_the_limit_are_counted() -> None:
    findings = row_findings("p", range(MAX_ROW_FINDINGS + 5), "It is wrong.")
    assert len(findings) == MAX_ROW_FINDINGS + 1
    assert "5 more" in findings[-1].message


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_gaps_are_what_neither_rows_nor_ranges_cover(rows: set[int], ranged: set[int]) -> None:
    ranges: list[tuple[int, int]] = []
    for offset in sorted(ranged):
        if ranges and ranges[-1][1] == offset:
            ranges[-1] = (ranges[-1][0], offset + 1)
        else:
            ranges.append((offset, offset + 1))
    gaps = _gaps(np.array(sorted(rows), np.int64), 0, 31, ranges)
    assert [n for low, high in gaps for n in range(low, high)] == [
        n for n in range(31) if n not in rows | ranged
    ]


def test_an_offset_cannot_be_an_event_and_a_dead_letter() -> None:
    at = np.array([0], np.int64)
    one = Coordinates(at, at, at)
    letter = Coordinates(at, at, at, np.array([0], np.int8))
    span = OffsetsRow(topic="t", partition=0, from_=0, to=2, accepted=1, rejected=1)
    problems = judge_span([span], [("a", one)], [("b", letter)], [], complete=True)
    assert len(problems) == 2
    assert "both" in problems[0]
    assert "Offset 1" in problems[1]


@given(st.binary(max_size=300), st.integers(1, 5))
def test_no_bundle_raises(data: bytes, width: int) -> None:
    bundle = read_bundle(0, {width: "p"}, lambda _: data)
    assert len(bundle.entries) <= width


@given(st.integers(1, 6), st.data())
def test_the_root_finds_the_right_mixture_of_copies(size: int, data: st.DataObject) -> None:
    entries = [b'{"n":%d}' % n for n in range(size)]
    wrong = data.draw(st.sets(st.integers(0, size - 1), max_size=3))
    damaged = [b'{"x":%d}' % n if n in wrong else entry for n, entry in enumerate(entries)]
    tile = [leaf_hash(entry) if n in wrong else bytes(32) for n, entry in enumerate(entries)]
    bundle = read_bundle(0, {size: "p"}, lambda _: encode_bundle(damaged))
    leaves = [leaf_hash(entry) for entry in entries]
    chosen = agree_on([views(bundle, [tile])], size, root(leaves))
    assert chosen == [tuple(leaves)]


@pytest.mark.parametrize("data", [b"[" * 600 + b"]" * 600, b"7", b'{"kind":"note","text":"no version"}'])
def test_what_is_no_entry_is_refused_as_one(data: bytes) -> None:
    with pytest.raises(InvalidEntry):
        parse_entry(data)
