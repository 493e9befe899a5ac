"""Objects of a bucket or folder: each version once, over restarts, cuts, rewrites and damage."""

from __future__ import annotations

import gzip
import json
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest

from ingest.adapters import adapter
from ingest.authority import Intake
from ingest.decoded import Limits
from ingest.pipeline import Pace, Pipeline, Totals
from ingest.sources.objects import chunking
from ingest.sources.objects.places import ends_before, place_at
from ingest.sources.objects.sealed_objects import SealedObjects
from ingest.sources.objects.source import ObjectSource
from ingest.sources.objects.trail_digests import is_digest
from ledger.errors import OutsideError, UsageError
from ledger.format.manifest import OffsetKey, parse_entry
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.verify.verification import verify
from tests.buckets import Bucket, trail_file
from tests.foreign_shapes import CLOUDTRAIL
from tests.making import Made, make_ledger, object_range, of_objects

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = "AWSLogs/123456789012/CloudTrail/eu-west-1/2026/11/23"
KEY = OffsetKey("objects:trail")


class Place(Protocol):
    url: str
    settings: dict[str, str]

    def put(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.root, self.url, self.settings = root, str(root), dict[str, str]()
        root.mkdir()
        self.writes = 0

    def put(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)
        self.writes += 1
        # Every write is at a time of its own, as it is where writes are apart.
        os.utime(self.root / key, (1_764_000_000 + self.writes,) * 2)

    def delete(self, key: str) -> None:
        (self.root / key).unlink()


class InBucket:
    def __init__(self, bucket: Bucket) -> None:
        self.url, self.settings = f"s3://{bucket.name}", bucket.settings
        self.put, self.delete = bucket.put, bucket.delete


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "folder":
        return Folder(tmp_path / "logs")
    return InBucket(Bucket(request.getfixturevalue("s3_endpoint")))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


def records(first: int, count: int) -> list[dict[str, Any]]:
    return [{**CLOUDTRAIL, "eventID": f"id-{number}"} for number in range(first, first + count)]


def ingest(
    made: Made, place: Place, *, rows: int = 1_000, limits: Limits | None = None, **more: Any
) -> Totals:
    writer = made.writer()

    def position(key: OffsetKey) -> int:
        found = writer.position(key)
        return found.to if found else 0

    source = ObjectSource(
        place_at(place.url, place.settings), "trail", position,
        lambda key: SealedObjects.of_log(writer.entries(), key), limits=limits, now=lambda: NOW, **more,
    )  # fmt: skip
    pace = Pace(rows=rows, seconds=60.0)
    pipeline = Pipeline(
        source, adapter("cloudtrail"), writer, intake=Intake(name="trail"), limits=limits, pace=pace,
        clock=made.clock,
    )  # fmt: skip
    return pipeline.run()


def sealed(made: Made) -> list[str]:
    assert verify(LocalStore(made.folder)).ok
    with Ledger.open(str(made.folder)) as ledger:
        rows = ledger.sql("SELECT event_id FROM events ORDER BY record_offset").to_pylist()
    return [row["event_id"] for row in rows]


def objects(made: Made) -> list[tuple[str, int, int, bool]]:
    entries = [parse_entry(data) for data in made.writer().entries()]
    return [
        (part.key, part.from_, part.to, part.end)
        for entry in entries
        for row in getattr(entry, "offsets", ())
        for part in row.objects or ()
    ]


def test_every_record_is_sealed_once_and_a_second_run_finds_nothing_new(made: Made, place: Place) -> None:
    place.put(f"{DAY}/b.json.gz", trail_file(records(2, 3)))
    place.put(f"{DAY}/a.json.gz", trail_file(records(0, 2)))
    place.put(f"{DAY}/none.json.gz", trail_file([]))
    totals = ingest(made, place)
    assert (totals.accepted, totals.rejected) == (5, 0)
    assert sealed(made) == [f"id-{number}" for number in range(5)]
    assert objects(made) == [
        (f"{DAY}/a.json.gz", 0, 2, True),
        (f"{DAY}/b.json.gz", 2, 5, True),
        (f"{DAY}/none.json.gz", 5, 5, True),
    ]
    assert ingest(made, place).commits == 0
    # Under a name that sorts before the others: found by listing, for no place in it is remembered.
    place.put(f"{DAY}/Late.json.gz", trail_file(records(5, 1)))
    assert ingest(made, place).accepted == 1
    assert len(sealed(made)) == 6


def test_an_object_goes_on_where_a_run_was_cut(
    made: Made, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunking, "CHUNK_BYTES", 1)
    place.put("one.json.gz", trail_file(records(0, 1)))
    place.put("two.json.gz", trail_file(records(1, 9)))
    # What a run leaves that was killed in the middle of an object: some of its records, and no end.
    found = place_at(place.url, place.settings)
    etag = next(one.etag for one in found.everything() if one.key == "two.json.gz")
    made.writer().commit([of_objects(0, 4, object_range("two.json.gz", 0, 4, end=False, etag=etag))])
    assert ingest(made, place).accepted == 6
    assert [one for one in sealed(made) if one.startswith("id-")] == [
        "id-0",
        *(f"id-{n}" for n in range(5, 10)),
    ]
    assert objects(made)[-1] == ("two.json.gz", 5, 10, True)


def test_an_object_that_is_written_again_is_read_anew_and_listed(made: Made, place: Place) -> None:
    place.put("a.json.gz", trail_file(records(0, 2)))
    ingest(made, place)
    place.put("a.json.gz", trail_file(records(0, 3)))
    totals = ingest(made, place)
    assert (totals.accepted, totals.duplicate) == (1, 2)
    assert [finding.kind for finding in verify(LocalStore(made.folder)).listed] == ["object-rewritten"]
    assert ingest(made, place).commits == 0


def test_a_damaged_object_gives_what_can_be_read_and_a_dead_letter_that_names_it(
    made: Made, place: Place
) -> None:
    whole = trail_file([*records(0, 3), {"text": os.urandom(30_000).hex()}])
    place.put("cut.json.gz", whole[:-4_000])
    place.put("good.json.gz", trail_file(records(10, 1)))
    place.put("half.json", b'{"Records":[' + json.dumps(records(20, 1)[0]).encode() + b', {"a"')
    totals = ingest(made, place)
    assert (totals.accepted, totals.rejected) == (5, 2)
    assert sealed(made) == ["id-0", "id-1", "id-2", "id-10", "id-20"]
    with Ledger.open(str(made.folder)) as ledger:
        letters = ledger.sql("SELECT reason FROM dead_letters ORDER BY record_offset").to_pylist()
    assert [letter["reason"] for letter in letters] == [
        "the object ends in the middle of its gzip data",
        "the object ends in the middle of its records",
    ]
    assert ingest(made, place).commits == 0


def test_one_object_larger_than_a_message_is_streamed(made: Made, place: Place) -> None:
    many = [{**one, "note": "x" * 400} for one in records(0, 3_000)]
    place.put("large.json.gz", trail_file(many))
    place.put("plain.json", json.dumps({"Records": records(5_000, 2)}).encode())
    totals = ingest(made, place)
    assert (totals.accepted, totals.rejected) == (3_002, 0)


def test_a_record_beyond_the_limit_is_a_dead_letter_between_its_neighbours(made: Made, place: Place) -> None:
    first, last = records(0, 2)
    place.put("a.json.gz", trail_file([first, {**first, "x": "y" * 9_000}, last]))
    totals = ingest(made, place, limits=Limits(message_bytes=8_000))
    assert (totals.accepted, totals.rejected) == (2, 1)
    assert sealed(made) == ["id-0", "id-1"]


def test_lines_are_records_too(made: Made, place: Place) -> None:
    place.put("a.jsonl.gz", gzip.compress("\n\n".join(map(json.dumps, records(0, 4))).encode()))
    assert ingest(made, place).accepted == 4
    assert objects(made) == [("a.jsonl.gz", 0, 4, True)]


def test_digest_files_and_the_marks_of_folders_are_left_alone(made: Made, place: Place) -> None:
    place.put("AWSLogs/mark", b"")
    place.put("AWSLogs/1/CloudTrail-Digest/eu/2026/11/23/d.json.gz", gzip.compress(b'{"logFiles":[]}'))
    place.put("AWSLogs/1/CloudTrail/eu/2026/11/23/a.json.gz", trail_file(records(0, 1)))
    totals = ingest(made, place, wanted=lambda key: not is_digest(key))
    assert (totals.accepted, totals.rejected) == (1, 0)


def test_what_cannot_be_read_is_told_after_everything_else_is_sealed(
    made: Made, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.json.gz", "b.json.gz", "c.json.gz")):
        place.put(name, trail_file(records(number, 1)))
    kind = type(place_at(place.url, place.settings))
    open_whole = kind.open

    def refuse(self: Any, key: str, etag: str | None = None) -> Any:
        if key in ("a.json.gz", "b.json.gz"):
            raise OutsideError(f"Cannot read {key}: access is denied.")
        return open_whole(self, key, etag)

    monkeypatch.setattr(kind, "open", refuse)
    with pytest.raises(OutsideError, match=r"a\.json\.gz: access is denied.*1 more"):
        ingest(made, place)
    assert sealed(made) == ["id-2"]
    monkeypatch.undo()
    assert ingest(made, place).accepted == 2


def test_a_bucket_that_is_not_there_is_told(s3_endpoint: str, made: Made) -> None:
    place = InBucket(Bucket(s3_endpoint))
    place.url = "s3://no-such-bucket"
    with pytest.raises(OutsideError, match="the bucket does not exist"):
        ingest(made, place)


def test_of_a_folder_no_link_is_followed(made: Made, tmp_path: Path) -> None:
    place = Folder(tmp_path / "logs")
    place.put("a.json.gz", trail_file(records(0, 1)))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.json.gz").write_bytes(trail_file(records(1, 1)))
    (place.root / "link.json.gz").symlink_to(outside / "b.json.gz")
    (place.root / "folder").symlink_to(outside)
    os.mkfifo(place.root / "pipe")
    assert ingest(made, place).accepted == 1


def test_following_looks_again_into_recent_days_and_once_a_day_everywhere(place: Place) -> None:
    old, new = "logs/2026/01/02", "logs/2026/11/22"
    source = ObjectSource(
        place_at(place.url, place.settings), "trail", lambda key: 0, lambda key: SealedObjects(),
        follow=True, look_seconds=0.0, full_look_seconds=3_600.0, now=lambda: NOW, wait=lambda seconds: None,
    )  # fmt: skip

    def look() -> list[str]:
        found = [
            part.key for _ in range(8) for chunk in source.poll(1.0).chunks for part in chunk.objects or ()
        ]
        assert not source.finished
        return found

    try:
        place.put(f"{old}/a.json.gz", trail_file(records(0, 1)))
        place.put(f"{new}/b.json.gz", trail_file(records(1, 1)))
        assert look() == [f"{old}/a.json.gz", f"{new}/b.json.gz"]
        assert list(source.ended()) == [KEY]
        place.put(f"{old}/c.json.gz", trail_file(records(2, 1)))
        place.put(f"{new}/d.json.gz", trail_file(records(3, 1)))
        assert look() == [f"{new}/d.json.gz"]
        source._looked_fully -= 3_600.0
        assert look() == [f"{old}/c.json.gz"]
    finally:
        source.close()


@pytest.mark.parametrize(
    ("folders", "over"),
    [
        ("AWSLogs/1/CloudTrail/eu/2026/11/15", True),
        ("AWSLogs/1/CloudTrail/eu/2026/11/16", False),
        ("AWSLogs/1/CloudTrail/eu/2026/10", True),
        ("AWSLogs/1/CloudTrail/eu/2026/11", False),
        ("AWSLogs/1/CloudTrail/eu/2025", True),
        ("AWSLogs/1/CloudTrail/eu/2026", False),
        ("x/year=2026/month=10/day=31", True),
        ("x/date=2026-11-15", True),
        ("x/2026-11-16/01", False),
        ("x/2026/13/45", False),
        ("2099/account/2020x", False),
        ("AWSLogs/202011/CloudTrail", False),
    ],
)
def test_which_folders_are_over(folders: str, over: bool) -> None:
    assert ends_before(folders.split("/"), date(2026, 11, 16)) is over


def test_another_worker_on_the_same_stream_fences_and_nothing_is_doubled(made: Made, place: Place) -> None:
    for number in range(6):
        place.put(f"{number}.json.gz", trail_file(records(number * 2, 2)))
    writer = made.writer()
    source = ObjectSource(
        place_at(place.url, place.settings), "trail",
        lambda key: (found.to if (found := writer.position(key)) else 0),
        lambda key: SealedObjects.of_log(writer.entries(), key), now=lambda: NOW,
    )  # fmt: skip
    source.poll(5.0)  # handed over, and not sealed by this one
    ingest(made, place)
    source.rewind(KEY, 12)
    given = [source.poll(1.0) for _ in range(5)]
    source.close()
    assert not any(polled.chunks for polled in given)
    assert source.finished


def test_what_is_no_place_is_refused(tmp_path: Path) -> None:
    for url in (str(tmp_path / "nowhere"), "s3://"):
        with pytest.raises(UsageError):
            place_at(url)
    with pytest.raises(UsageError, match="no settings"):
        place_at(str(tmp_path), {"region": "x"})
    with pytest.raises(UsageError, match="unusable"):
        place_at("s3://bucket", {"no_such_setting": "x"})
    with pytest.raises(UsageError, match="not encrypted"):
        place_at("s3://bucket", {"endpoint": "http://example.org"})
