"""Records of an object come out as they stand in it, wherever its text is cut into blocks."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.sources.objects.records import Broken, Record, Records

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
LIMIT = 1_000_000


def cut(data: bytes, at: list[int], limit: int = LIMIT) -> list[Record]:
    records = Records(limit)
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    found = [one for a, b in pairwise(edges) for one in records.feed(data[a:b])]
    return found + records.finish()


@given(
    values=st.lists(VALUES, max_size=6),
    at=st.lists(st.integers(0, 4_000), max_size=8),
    indent=st.sampled_from([None, 0, 3]),
    escaped=st.booleans(),
    shape=st.sampled_from(["records", "array", "more"]),
)
def test_elements_are_those_that_json_reads(
    values: list[Any], at: list[int], indent: int | None, escaped: bool, shape: str
) -> None:
    whole: Any = {
        "array": values,
        "records": {"Records": values},
        "more": {"Records": values, "x": [{"]": "["}]},
    }
    data = json.dumps(whole[shape], indent=indent, ensure_ascii=escaped).encode()
    found = cut(data, at)
    assert [json.loads(one.value) for one in found] == values
    assert all(one.value in data and one.size == len(one.value) and one.digest is None for one in found)


@given(
    lines=st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=3).map(json.dumps), max_size=6),
    at=st.lists(st.integers(0, 2_000), max_size=8),
    ending=st.sampled_from(["\n", "\r\n", "\n\n \n"]),
)
def test_anything_else_is_lines(lines: list[str], at: list[int], ending: str) -> None:
    found = cut("".join(line + ending for line in lines).encode(), at)
    assert [one.value.decode() for one in found] == lines


@given(data=st.binary(max_size=300), at=st.lists(st.integers(0, 300), max_size=5))
def test_whatever_comes_is_records_or_broken(data: bytes, at: list[int]) -> None:
    for begin in (b"", b"[", b'{"Records":['):
        try:
            once = cut(begin + data, [])
        except Broken as error:
            once = [Record(error.reason.encode(), 0)]
        try:
            pieces = cut(begin + data, at)
        except Broken as error:
            pieces = [Record(error.reason.encode(), 0)]
        assert once == pieces


@given(size=st.integers(1, 9_000), at=st.lists(st.integers(0, 20_000), max_size=8))
def test_a_record_beyond_the_limit_is_its_beginning_with_its_size_and_digest(
    size: int, at: list[int]
) -> None:
    long = json.dumps({"text": "x" * size}).encode()
    data = b'{"Records":[{"a":1},\n ' + long + b" ,{}]}"
    first, middle, last = cut(data, at, limit=100)
    assert (first.value, last.value) == (b'{"a":1}', b"{}")
    if len(long) <= 100:
        assert middle == Record(long, len(long))
        return
    assert middle.value == long[:101]
    assert len(long) <= middle.size <= len(long) + 1
    assert middle.digest in {hashlib.sha256(text).hexdigest() for text in (long, long + b" ")}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"Records":[{"a":1}', "ends in the middle"),
        (b'{"Records":[{"a":1}]', "something behind"),
        (b'{"Records":[{"a":1}]} {"Records":[]}', "something behind"),
        (b"[1] 2", "something behind"),
        (b"[1]}", "something behind"),
        (b'{"Records":[{"a":"x', "ends in the middle"),
        (b"[}", "closes what none opened"),
        (b"[]" + b" " * 100_000, "something behind"),
    ],
)
def test_what_is_no_array_of_records_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        cut(data, [])


def test_an_empty_object_and_an_empty_array_have_no_records() -> None:
    assert [cut(data, []) for data in (b"", b" \n", b"[]", b'{ "Records" : [ ] }\n')] == [[]] * 4
