"""Heads that are published, to folders and to a bucket with object lock, and held against the log."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import decision_ledger
from ledger.anchoring.places import open_place
from ledger.console import run
from ledger.errors import UsageError
from ledger.format.manifest import Note
from ledger.log.signing import SigningKey
from ledger.storage.local_store import LocalStore
from ledger.storage.object_store import ObjectStore
from ledger.upkeep.keeping import AUTHORITY_VARIABLE, Keeping
from ledger.writer import Writer
from tests.buckets import KEYS, REGION
from tests.making import Made, make_ledger, row, stretch
from tests.time_stamp_authority import Authority, time_stamp_authority

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="OpenSSL is not installed")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with time_stamp_authority() as one:
        yield one


class Anchors:
    """The commands over a ledger."""

    def __init__(self, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.capsys, self.rows = made, capsys, 0

    def grow(self) -> int:
        writer = self.made.writer()
        writer.commit([stretch([row(self.rows)], self.rows)])
        self.rows += 1
        return writer.state.size

    def said(self, *arguments: str, code: int = 0) -> Any:
        done = run(decision_ledger.app, ["anchor", *arguments, "--ledger", str(self.made.folder), "--json"])
        out = self.capsys.readouterr()
        assert done == code, out.err
        return json.loads(out.out) if out.out else out.err


@pytest.fixture
def anchors(made: Made, capsys: pytest.CaptureFixture[str]) -> Anchors:
    return Anchors(made, capsys)


def test_heads_in_a_folder_are_held_against_the_ledger(anchors: Anchors, tmp_path: Path) -> None:
    place = str(tmp_path / "heads")
    sizes = []
    for _ in range(3):
        sizes.append(anchors.grow())
        assert anchors.said("publish", place)["size"] == sizes[-1]
    anchors.said("publish", place)  # the same head again changes nothing
    (found,) = anchors.said("check", place)["places"]
    assert (found["heads"], found["newest"], found["wrong"]) == (3, sizes[-1], [])
    # A file of a head is what `verify --since` takes.
    head = tmp_path / "heads" / f"{sizes[0]}.checkpoint"
    assert (
        run(decision_ledger.app, ["verify", "--since", str(head), "--ledger", str(anchors.made.folder)]) == 0
    )


def test_a_ledger_that_was_rolled_back_or_forked_is_told(
    anchors: Anchors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, folder = str(tmp_path / "heads"), anchors.made.folder
    anchors.grow()
    shutil.copytree(folder, tmp_path / "copy")
    kept = Path(f"{anchors.made.key.path}.head").read_bytes()
    anchors.grow()
    anchors.said("publish", place)
    shutil.rmtree(folder)
    (tmp_path / "copy").rename(folder)
    # Somebody who never saw it before, and keeps no head.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody"))
    Path(f"{anchors.made.key.path}.head").write_bytes(kept)
    rolled = anchors.said("check", place, code=1)
    assert "rolled back" in rolled["places"][0]["wrong"][0]
    writer = Writer(LocalStore(folder), SigningKey(anchors.made.key.path), clock=anchors.made.clock)
    writer.put(Note, {"text": "another history"})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "somebody else"))
    forked = anchors.said("check", place, code=1)
    assert "forked or rewritten" in forked["places"][0]["wrong"][0]


def test_what_is_no_head_of_this_ledger_is_told(anchors: Anchors, tmp_path: Path) -> None:
    place = tmp_path / "heads"
    size = anchors.grow()
    anchors.said("publish", str(place))
    note = (place / f"{size}.checkpoint").read_bytes()
    (place / "1.checkpoint").write_bytes(note)
    (place / "7.checkpoint").write_bytes(note[:-10] + b"\n")
    (place / "notes.txt").write_bytes(b"not ours")
    found = anchors.said("check", str(place), code=1)["places"][0]
    assert found["heads"] == 3
    assert len(found["wrong"]) == 2
    assert found["wrong"][0].startswith("1.checkpoint: it is the head of")


@pytest.fixture
def service(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of others' for what ours does not do: object lock, versions."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    for variable, value in KEYS.items():
        monkeypatch.setenv(variable.upper(), value)
    return pytest.importorskip("boto3").client("s3", endpoint_url=s3_endpoint, region_name=REGION)


def test_a_head_in_a_bucket_with_object_lock_cannot_be_taken_back(anchors: Anchors, service: Any) -> None:
    bucket = f"heads-{uuid.uuid4().hex}"
    service.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    service.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    place = f"s3://{bucket}/prod"
    size = anchors.grow()
    assert not anchors.said("publish", place)["failures"]
    (found,) = anchors.said("check", place)["places"]
    assert (found["heads"], found["newest"]) == (1, size)
    key = f"prod/{size}.checkpoint"
    note = service.get_object(Bucket=bucket, Key=key)["Body"].read()
    # By its name it is not replaced, and what is deleted is only hidden.
    open_place(place).put(f"{size}.checkpoint", b"another")
    assert service.get_object(Bucket=bucket, Key=key)["Body"].read() == note
    ObjectStore(place).delete(f"{size}.checkpoint")
    (version,) = service.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    with pytest.raises(Exception, match=r"AccessDenied|locked|retention"):
        service.delete_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])
    kept = service.get_object(Bucket=bucket, Key=key, VersionId=version["VersionId"])["Body"].read()
    assert kept == note


@needs_openssl
def test_a_stamped_head_says_when_it_was_there(
    anchors: Anchors, tmp_path: Path, authority: Authority
) -> None:
    place = str(tmp_path / "heads")
    size = anchors.grow()
    assert not anchors.said("publish", place, "--authority", authority.url)["failures"]
    trusted = anchors.said("check", place, "--authorities", str(authority.root))["places"][0]
    assert (trusted["stamped"], trusted["wrong"]) == (1, [])
    assert trusted["last_stamp"] is not None
    with time_stamp_authority("other.test") as other:
        found = anchors.said("check", place, "--authorities", str(other.root), code=1)["places"][0]
    assert found["wrong"][0].startswith(f"{size}.tsr: No authority of those that are trusted made it")
    stamp = tmp_path / "heads" / f"{size}.tsr"
    anchors.grow()
    anchors.said("publish", place)
    (tmp_path / "heads" / f"{anchors.made.writer().state.size}.tsr").write_bytes(stamp.read_bytes())
    assert "It stamps something else." in anchors.said("check", place, code=1)["places"][0]["wrong"][0]
    stamp.write_bytes(b"no stamp")
    assert len(anchors.said("check", place, code=1)["places"][0]["wrong"]) == 2


@needs_openssl
def test_an_authority_that_refuses_is_told_and_the_head_is_published(
    anchors: Anchors, tmp_path: Path, authority: Authority
) -> None:
    anchors.grow()
    authority.answers = 503
    try:
        found = anchors.said("publish", str(tmp_path / "heads"), "--authority", authority.url, code=3)
    finally:
        authority.answers = 200
    assert found["failures"] == {authority.url: f"{authority.url} answers HTTP 503."}
    assert len(list((tmp_path / "heads").glob("*.checkpoint"))) == 1


@needs_openssl
def test_an_intake_publishes_by_itself_and_goes_on_where_a_place_is_away(
    made: Made, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTHORITY_VARIABLE, authority.url)
    writer = made.writer()
    away = tmp_path / "away"
    away.write_text("no folder")
    keeping = Keeping(writer, anchors=[str(tmp_path / "heads"), str(away / "heads")])
    writer.commit([stretch([row(0)])])
    keeping.step()
    keeping.finish()
    held = sorted(one.name for one in (tmp_path / "heads").iterdir())
    assert held == [f"{writer.state.size}.checkpoint", f"{writer.state.size}.tsr"]


@pytest.mark.parametrize(
    "place", ["kafka://", "kafka://host:1/", "kafka://u@h:1/t", "gs://x", "", "kafka://h:1/a b"]
)
def test_what_is_no_place_is_refused(anchors: Anchors, place: str) -> None:
    anchors.grow()
    assert anchors.said("publish", place, code=2)


def test_plain_http_to_another_machine_is_no_authority(anchors: Anchors, tmp_path: Path) -> None:
    anchors.grow()
    said = anchors.said("publish", str(tmp_path / "h"), "--authority", "http://tsa.example/", code=3)
    assert "not encrypted" in str(said["failures"])
    with pytest.raises(UsageError):
        open_place("ftp://x")
