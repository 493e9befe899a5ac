"""Records of a stream of objects: which object they are of is sealed, judged, cut and joined with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.format.manifest import (
    Append,
    InvalidEntry,
    ObjectRange,
    OffsetsRow,
    entry_bytes,
    parse_entry,
)
from ledger.sealing.sealed_files import fits_an_entry, offsets_rows
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from tests.making import Made, make_ledger, object_range, of_objects


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def test_the_entry_names_each_object_and_reads_back_the_same(made: Made) -> None:
    batch = of_objects(
        0,
        3,
        object_range("x/1.json.gz", 0, 2),
        object_range("x/empty", 2, 2),
        object_range("x/2", 2, 3, end=False),
    )
    (entry,) = made.writer().commit([batch]).entries
    assert entry.offsets[0].objects == list(batch.objects or ())
    again = parse_entry(entry_bytes(entry))
    assert again == entry
    assert verify(LocalStore(made.folder)).ok


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([object_range("a", 1, 3)], "do not follow"),
        ([object_range("a", 0, 2), object_range("b", 1, 3)], "do not follow"),
        ([object_range("a", 0, 2)], "account for records up to 2, not 3"),
        ([object_range("a", 0, 4)], "account for records up to 4, not 3"),
        ([object_range("a", 0, 3), object_range("b", 3, 2)], "do not follow"),
        ([], "account for records up to 0, not 3"),
    ],
)
def test_ranges_that_do_not_fill_the_offsets_are_refused(
    made: Made, objects: list[ObjectRange], why: str
) -> None:
    with pytest.raises(InvalidEntry, match=why):
        made.writer().commit([of_objects(0, 3, *objects)])


def test_entries_without_objects_are_written_as_before() -> None:
    plain = OffsetsRow(topic="t", partition=0, from_=0, to=0)
    assert "objects" not in plain.model_dump(by_alias=True, exclude_none=True)


def test_a_stretch_is_cut_inside_an_object_and_beside_an_empty_one() -> None:
    whole = of_objects(
        10, 5, object_range("a", 10, 12), object_range("empty", 12, 12), object_range("b", 12, 15)
    )
    first, second = whole.divide(3)
    assert first.objects == [
        object_range("a", 10, 12),
        object_range("empty", 12, 12),
        object_range("b", 12, 13, end=False),
    ]
    assert second.objects == [object_range("b", 13, 15)]
    first, second = whole.divide(2)
    assert first.objects == [object_range("a", 10, 12)]
    assert second.objects == [object_range("empty", 12, 12), object_range("b", 12, 15)]


def test_one_object_in_neighbouring_stretches_is_one_range() -> None:
    rows = offsets_rows(
        [
            of_objects(0, 2, object_range("a", 0, 2, end=False)),
            of_objects(2, 2, object_range("a", 2, 3), object_range("b", 3, 4)),
        ]
    )
    assert rows[0].objects == [object_range("a", 0, 3), object_range("b", 3, 4)]


def test_another_version_of_an_object_is_another_range() -> None:
    rows = offsets_rows(
        [
            of_objects(0, 1, object_range("a", 0, 1, end=False)),
            of_objects(1, 1, object_range("a", 1, 2, etag="b")),
        ]
    )
    assert rows[0].objects == [object_range("a", 0, 1, end=False), object_range("a", 1, 2, etag="b")]


def test_long_names_are_spread_over_entries(made: Made) -> None:
    names = [f"{number:03}/{'k' * 900}" for number in range(120)]
    batch = [of_objects(at, 1, object_range(name, at, at + 1)) for at, name in enumerate(names)]
    assert not fits_an_entry(batch)
    entries = made.writer().commit(batch).entries
    assert len(entries) > 1
    assert [one.key for entry in entries for one in entry.offsets[0].objects or ()] == names
    assert verify(LocalStore(made.folder)).ok


def test_verification_lists_an_object_that_was_sealed_with_other_content(made: Made) -> None:
    writer = made.writer()
    writer.commit([of_objects(0, 1, object_range("a", 0, 1), object_range("b", 1, 1))])
    writer.commit([of_objects(1, 1, object_range("a", 1, 2, etag="b"))])
    report = verify(LocalStore(made.folder))
    assert report.ok
    assert [(f.kind, f.index) for f in report.listed] == [("object-rewritten", 2)]


def test_an_object_without_a_name_is_no_object() -> None:
    nameless = {"key": "", "etag": "e", "from": 0, "to": 0, "end": True}
    row = {"topic": "objects:x", "partition": 0, "from": 0, "to": 0, "objects": [nameless]}
    head = {"index": 1, "prev": "0" * 64, "time": "2026-11-23T12:00:00.000000Z", "writer": "w"}
    with pytest.raises(ValueError, match="key"):
        Append.model_validate({**head, "software": "s", "offsets": [row]})
