"""What is missing of a source: provable by its numbers and words, estimated by what merely bounds it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decision_ledger
from detections.day_answers import answers_of
from detections.metrics.gaps import Gap, Gaps
from ledger.console import run
from ledger.format.manifest import OffsetKey
from ledger.reader import Ledger
from tests.making import NOON, Made, make_ledger, row, stretch

BASE = NOON - timedelta(hours=6)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def said(number: int, minutes: float, **more: Any) -> dict[str, Any]:
    return row(
        number, **{"time": BASE + timedelta(minutes=minutes), "source": "pdp", "instance": "one", **more}
    )


def beat(number: int, minutes: float, **more: Any) -> dict[str, Any]:
    return said(number, minutes, kind="heartbeat", decision=None, **more)


def gaps(made: Made, rows: Sequence[Mapping[str, Any]], *days: date) -> dict[str, Gap]:
    if rows:
        made.writer().commit([stretch([dict(one) for one in rows])])
    with Ledger.open(str(made.folder), remember=False) as ledger:
        return Gaps(answers_of(ledger, None)).between(*days)


LATER = [said(900, 60, source="clock", instance=None)]


def test_numbers_between_two_that_were_sealed_are_provably_missing(made: Made) -> None:
    rows = [said(n, n, sequence=n) for n in (1, 2, 5, 9)]
    found = gaps(made, [*rows, *LATER])
    assert (found["pdp"].provable, found["pdp"].estimated) == (5, None)
    assert found["pdp"].by == ["5 numbers between others"]
    assert (found["clock"].provable, found["clock"].estimated, found["clock"].by) == (None, None, [])


def test_a_number_that_may_still_arrive_is_not_missing_yet(made: Made) -> None:
    rows = [said(1, 0, sequence=1), said(3, 50, sequence=3)]
    assert gaps(made, [*rows, *LATER])["pdp"].provable == 0
    newer = [said(901, 66, source="clock")]
    made.writer().commit([stretch(newer, len(rows) + 1)])
    assert gaps(made, [])["pdp"].provable == 1


def test_a_heartbeat_that_names_the_last_number_shows_that_it_is_missing(made: Made) -> None:
    rows = [said(1, 1, sequence=1), said(2, 2, sequence=2), beat(3, 3, sequence=3, sent=3)]
    assert gaps(made, [*rows, *LATER])["pdp"].provable == 1


def test_a_heartbeat_with_a_number_of_its_own_is_not_taken_for_another_event(made: Made) -> None:
    rows = [said(1, 1, sequence=1), beat(2, 2, sequence=2, sent=1), said(3, 3, sequence=3)]
    assert gaps(made, [*rows, *LATER])["pdp"].provable == 0


def test_what_a_source_says_it_dropped_is_provable_and_not_counted_twice(made: Made) -> None:
    rows = [said(1, 1, sequence=1), said(4, 4, sequence=4), beat(5, 5, sequence=5, sent=4, dropped=2)]
    found = gaps(made, [*rows, *LATER])["pdp"]
    assert (found.numbers, found.dropped, found.provable) == (2, 2, 2)


def test_heartbeats_of_a_source_without_numbers_give_an_estimate(made: Made) -> None:
    rows = [
        said(0, 0), beat(1, 1, sent=100), *(said(10 + n, 2 + n) for n in range(8)), beat(2, 30, sent=120),
        said(30, 31),
    ]  # fmt: skip
    found = gaps(made, [*rows, *LATER])["pdp"]
    # 20 were sent between the two, and nine arrived: eight and the second heartbeat itself.
    assert (found.provable, found.estimated) == (None, 11)
    assert found.by == ["11 that its heartbeats count"]


def test_request_numbers_of_opa_and_event_numbers_of_teleport_give_estimates(made: Made) -> None:
    rows = [said(n, n, source="opa/x", attributes=json.dumps({"req_id": n})) for n in (1, 2, 5)]
    rows += [
        said(20 + n, n, source="teleport/y", session_id=f"s{n % 2}", attributes=json.dumps({"ei": n}))
        for n in (0, 2, 1, 7)
    ]
    found = gaps(made, [*rows, *LATER])
    assert (found["opa/x"].provable, found["opa/x"].estimated) == (None, 2)
    # Of s0 the number 1 is between others, of s1 those from 2 to 6.
    assert (found["teleport/y"].provable, found["teleport/y"].estimated) == (None, 6)


def test_only_the_days_that_are_asked_for_count(made: Made) -> None:
    yesterday = timedelta(days=1)
    rows = [
        *(said(n, n, sequence=n, time=BASE - yesterday + timedelta(minutes=n)) for n in (1, 4)),
        beat(5, 0, time=BASE - yesterday, sent=0, dropped=3),
        *(said(n, n, sequence=n) for n in (6, 8)),
        beat(9, 9, sent=0, dropped=4),
    ]
    today = NOON.date()
    found = gaps(made, [*rows, *LATER], today, today + yesterday)
    assert (found["pdp"].numbers, found["pdp"].dropped) == (1, 1)
    before = gaps(made, [], today - yesterday, today)
    assert (before["pdp"].numbers, before["pdp"].dropped) == (2, 3)
    assert (gaps(made, [])["pdp"].numbers, gaps(made, [])["pdp"].dropped) == (4, 4)


@settings(max_examples=20)
@given(
    seen=st.sets(st.integers(1, 40), min_size=1), days=st.lists(st.integers(0, 3), min_size=40, max_size=40)
)
def test_the_count_is_what_lies_between_the_lowest_and_the_highest(
    tmp_path_factory: pytest.TempPathFactory, seen: set[int], days: list[int]
) -> None:
    made = make_ledger(tmp_path_factory.mktemp("numbers"))
    rows = [said(n, n, sequence=n, time=BASE - timedelta(days=days[n - 1], minutes=n)) for n in sorted(seen)]
    expected = max(seen) - min(seen) + 1 - len(seen)
    assert gaps(made, [*rows, *LATER])["pdp"].provable == expected


def test_status_names_gaps_and_what_the_broker_removed(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [said(n, n, sequence=n) for n in (1, 4)]
    made.writer().commit([stretch([*rows, *LATER])])
    lost = stretch([said(50, 50)], 10, OffsetKey("topic", 3))
    lost.start, lost.lost = 4, [(4, 10)]
    made.writer().commit([lost])
    status = ["status", "--ledger", str(made.folder)]
    assert run(decision_ledger.app, [*status, "--gaps", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["lost"] == [{"topic": "topic", "partition": 3, "lost": 6}]
    assert {one["source"]: one["provable"] for one in value["gaps"]} == {"clock": None, "pdp": 2}
    assert run(decision_ledger.app, [*status, "--gaps"]) == 0
    text = capsys.readouterr().out
    assert "missing       pdp 2 provably (2 numbers between others)" in text
    assert "missing       clock cannot be told" in text
    assert "lost          topic/3 6 removed unread" in text
    assert run(decision_ledger.app, [*status, "--json"]) == 0
    assert "gaps" not in json.loads(capsys.readouterr().out)
