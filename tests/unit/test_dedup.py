from __future__ import annotations

import numpy as np
import pyarrow as pa

from ledger.sealing.seen_events import SeenEvents


def _table(start: int, count: int) -> pa.Table:
    return pa.table({"source": ["s"] * count, "event_id": [f"e{n}" for n in range(start, start + count)]})


def _add(seen: SeenEvents, segment: int, start: int, count: int) -> None:
    seen.add(seen.hashes(_table(start, count)), segment, np.arange(count))


def test_finds_each_row_where_it_was_put_through_many_merges() -> None:
    seen = SeenEvents()
    for segment in range(50):
        _add(seen, segment, segment * 100, 100)
    assert len(seen) == 5_000
    hits = seen.find(seen.hashes(_table(2_450, 100)))
    assert sorted(hits) == [(n, 24 + (50 + n) // 100, (50 + n) % 100) for n in range(100)]


def test_keys_never_seen_give_nothing() -> None:
    seen = SeenEvents()
    _add(seen, 0, 0, 10)
    assert seen.find(seen.hashes(_table(10, 10))) == []


def test_a_source_is_part_of_the_key() -> None:
    seen = SeenEvents()
    _add(seen, 0, 0, 1)
    assert seen.find(seen.hashes(pa.table({"source": ["other"], "event_id": ["e0"]}))) == []


def test_several_places_under_one_key_are_all_found() -> None:
    seen = SeenEvents()
    _add(seen, 3, 0, 1)
    _add(seen, 5, 0, 1)
    assert sorted(seen.find(seen.hashes(_table(0, 1)))) == [(0, 3, 0), (0, 5, 0)]


def test_what_left_the_horizon_is_forgotten() -> None:
    seen = SeenEvents()
    _add(seen, 0, 0, 5)
    _add(seen, 1, 5, 5)
    seen.forget_before(1)
    assert seen.find(seen.hashes(_table(0, 5))) == []
    assert len(seen.find(seen.hashes(_table(5, 5)))) == 5


def test_the_bound_on_events_holds_and_the_newest_stay() -> None:
    seen = SeenEvents(max_events=1_000)
    for segment in range(40):
        _add(seen, segment, segment * 100, 100)
        assert len(seen) <= 1_000
    assert len(seen.find(seen.hashes(_table(3_900, 100)))) == 100
    assert seen.find(seen.hashes(_table(0, 100))) == []


def test_full_it_forgets_little_at_a_time() -> None:
    seen = SeenEvents(max_events=1_600)
    for segment in range(60):
        _add(seen, segment, segment * 100, 100)
        assert len(seen) >= min(segment + 1, 14) * 100
        assert max(map(len, (run[0] for run in seen.contents()[0]))) <= 200


def test_runs_that_left_the_horizon_take_no_memory() -> None:
    seen = SeenEvents()
    for segment in range(3):
        _add(seen, segment, segment * 100, 100)
    seen.forget_before(2)
    assert len(seen) == 100


def test_one_segment_larger_than_the_bound_does_not_hang() -> None:
    seen = SeenEvents(max_events=10)
    _add(seen, 0, 0, 100)
    assert len(seen) <= 10
