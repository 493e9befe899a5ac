"""Offsets as `verify` judges them: names that clusters share, the detections' own, workers that die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ledger.format.manifest import OffsetKey, OffsetsRow
from ledger.format.state import ENGINE_TOPIC
from ledger.sealing.batch import Stretch
from ledger.verify import workers as verify_workers
from ledger.verify.facts import Coordinates
from ledger.verify.spans import judge_shared_name
from ledger.verify.verification import verify
from tests.making import Made, make_ledger, row, stretch

EAST = OffsetKey("decisions", 0, None, "east")
WEST = OffsetKey("decisions", 0, None, "west")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def at(*offsets: int, part: int = 0, status: int | None = None) -> Coordinates:
    offset = np.array(offsets, np.int64)
    statuses = None if status is None else np.full(len(offset), status, np.int8)
    return Coordinates(np.arange(len(offset)), offset, np.full(len(offset), part, np.int64), statuses)


def span(cluster: str, start: int, end: int, rejected: int = 0) -> OffsetsRow:
    return OffsetsRow(
        topic="t", cluster=cluster, partition=0, from_=start, to=end,
        accepted=end - start - rejected, rejected=rejected,
    )  # fmt: skip


def test_two_clusters_may_share_a_topic_name(made: Made) -> None:
    writer = made.writer()
    for commit in range(2):
        numbers = range(commit * 10, commit * 10 + 3)
        east = stretch([row(n) for n in numbers], start=commit * 3, key=EAST)
        west = stretch([row(n + 100) for n in numbers], start=commit * 3, key=WEST)
        writer.commit([east, west])
    writer.commit([stretch([row(200)], start=6, key=WEST)])
    writer.commit([stretch([row(201)], start=6, key=EAST)])
    assert verify(made.store, vkey=made.key.verifier).findings == []


def test_a_name_that_clusters_share_still_has_no_more_rows_than_they_sealed() -> None:
    spans = [span("east", 0, 2), span("west", 0, 2, rejected=1)]
    found: list[object] = []
    events = [("a", at(0, 1)), ("b", at(0))]
    letters = [("c", at(1, status=0))]
    assert judge_shared_name(spans, events, letters, found, complete=True) == []  # type: ignore[arg-type]  # no findings are in it
    assert found == []


def test_rows_beyond_what_clusters_sealed_under_a_name_are_named() -> None:
    spans = [span("east", 0, 2), span("west", 0, 3)]
    found: list[object] = []
    events = [("a", at(0, 1, 1)), ("b", at(0, 0, 7))]
    problems = judge_shared_name(spans, events, [], found, complete=True)  # type: ignore[arg-type]  # as above
    assert sorted((one.path, one.row, one.message.split()[0]) for one in found) == [  # type: ignore[attr-defined]  # they are findings, told as objects
        ("b", 1, "Another"),
        ("b", 2, "Its"),
    ]
    assert problems == ["Offset 2 of t/0: neither an event, nor a dead letter, nor in a range."]
    letters = [("c", at(2, status=0))]
    assert judge_shared_name(spans, events, letters, [], complete=True) == [
        "t/0 has 1 rejected messages in all clusters; its entry says 0."
    ]


def test_the_detections_count_entries_that_they_looked_at(made: Made) -> None:
    def derived(numbers: range, start: int, end: int) -> Stretch:
        made_of = stretch([row(n) for n in numbers], start=start, key=OffsetKey(ENGINE_TOPIC))
        place = made_of.events.schema.get_field_index("record_offset")
        same = pa.array([start] * len(numbers), pa.int64())
        events = made_of.events.set_column(place, made_of.events.schema.field(place), same)
        return replace(made_of, end=end, events=events)

    writer = made.writer()
    writer.commit([stretch([row(100)])])
    writer.commit([derived(range(3), 0, 5)])
    writer.commit([derived(range(3, 5), 5, 40)])
    assert verify(made.store, vkey=made.key.verifier).findings == []


def test_what_a_worker_that_dies_leaves_is_checked_here(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = made.writer()
    for commit in range(4):
        writer.commit([stretch([row(commit)], start=commit)])
    monkeypatch.setattr(verify_workers, "MIN_SHARED_ROWS", 0)
    monkeypatch.setattr(verify_workers, "_WORKER", "raise SystemExit(1)")
    report = verify(made.store, vkey=made.key.verifier, workers=2)
    assert report.findings == []
    assert (report.files, report.events) == (4, 4)


def test_a_changed_file_is_only_opened_apart_and_may_end_its_reader(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = made.writer()
    for commit in range(3):
        writer.commit([stretch([row(commit)], start=commit)])
    path = min(writer.state.files)
    place = made.folder / path
    place.write_bytes(place.read_bytes()[:-20] + bytes(20))
    # As pyarrow does with some spoiled footers: an exception that C++ does not catch.
    crash = "import os; from multiprocessing.connection import Connection; import sys; "
    crash += "Connection(int(sys.argv[1])).recv(); os.abort()"
    monkeypatch.setattr(verify_workers, "_WORKER", crash)
    report = verify(made.store, vkey=made.key.verifier)
    assert [(one.kind, one.path) for one in report.damaged] == [("changed", path)]
    assert "is ended by it" in report.damaged[0].message
    assert report.files == 3
