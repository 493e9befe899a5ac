"""How far a topic has got, by the headers of its records: whatever a broker lost or took twice."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detections.delivery.entry_topic import Headers, Record, _numbered, _Tail
from ledger.errors import UsageError


@dataclass
class Taken:
    """A record as a consumer gives it."""

    key: bytes | None
    headers: Headers
    topic: str = "t"


def taken(entries: dict[int, int]) -> list[Taken]:
    """The records of entries that have so many each."""
    records: list[Record] = [
        (index, b"x", []) for index, count in sorted(entries.items()) for _ in range(count)
    ]
    return [Taken(str(key).encode(), headers) for key, _, headers in _numbered(records)]


def following(records: list[Taken], *, cut: bool = False) -> int:
    tail = _Tail()
    for record in records:
        tail.take(record)
    return tail.next(cut=cut)


def test_behind_everything_that_is_whole() -> None:
    assert following([]) == 0
    assert following(taken({3: 2, 9: 1})) == 10


@given(
    counts=st.dictionaries(st.integers(0, 30), st.integers(1, 3), min_size=1, max_size=6),
    lost=st.sets(st.integers(0, 17), max_size=4),
)
def test_no_entry_that_lacks_a_record_is_passed_over(counts: dict[int, int], lost: set[int]) -> None:
    sent = taken(counts)
    there = [record for at, record in enumerate(sent) if at not in lost]
    lacking = {int(record.key or b"") for at, record in enumerate(sent) if at in lost}
    # Of an entry none of whose records came, and none behind it, nobody can know: it comes next all the same.
    highest = max((int(record.key or b"") for record in there), default=-1)
    expected = min(lacking | {highest + 1}) if lacking else max(counts) + 1
    assert following(there) <= expected
    if not lacking:
        assert following(there) == expected


@given(counts=st.dictionaries(st.integers(0, 9), st.integers(1, 3), min_size=1), at=st.integers(0, 30))
def test_what_came_again_is_whole(counts: dict[int, int], at: int) -> None:
    sent = taken(counts)
    assert following([*sent[: at % (len(sent) + 1)], *sent]) == max(counts) + 1


def test_an_entry_that_the_window_cuts_is_not_taken_for_a_loss() -> None:
    sent = taken({1: 3, 2: 2})
    assert following(sent[2:], cut=True) == 3
    assert following(sent[2:], cut=False) == 1


def test_records_without_our_headers_are_entries_of_one_record() -> None:
    assert following([Taken(b"0", []), Taken(b"2", []), Taken(b"3", [])]) == 1


@pytest.mark.parametrize("key", [None, b"x", b"-1", b"1" * 19])
def test_what_is_none_of_ours_is_refused(key: bytes | None) -> None:
    with pytest.raises(UsageError, match="something else"):
        following([Taken(key, [])])
