"""CloudTrail's digests: what AWS signed as delivered is there, unchanged, and sealed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import decision_ledger
from ingest.objects_cli import checked_name
from ledger.console import run
from ledger.errors import UsageError
from tests.buckets import Bucket, trail_file
from tests.foreign_shapes import CLOUDTRAIL
from tests.making import Made, make_ledger

LEAD = "AWSLogs/123456789012"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65_537, 2_048)


@dataclass
class Trail:
    """What AWS leaves in a bucket: logs, and an hourly digest of them that it signed."""

    bucket: Bucket
    key: RSAPrivateKey
    last: dict[str, Any] = field(default_factory=dict)

    def log(self, name: str, events: int = 1) -> tuple[str, bytes]:
        path = f"{LEAD}/CloudTrail/eu-west-1/2026/11/23/{name}.json.gz"
        data = trail_file([{**CLOUDTRAIL, "eventID": f"{name}-{number}"} for number in range(events)])
        self.bucket.put(path, data)
        return path, data

    def digest(self, hour: int, logs: list[tuple[str, bytes]], *, signed: bool = True, **more: Any) -> str:
        path = f"{LEAD}/CloudTrail-Digest/eu-west-1/2026/11/23/{hour:02}.json.gz"
        value = {
            "awsAccountId": "123456789012",
            "digestStartTime": f"2026-11-23T{hour:02}:00:00Z",
            "digestEndTime": f"2026-11-23T{hour + 1:02}:00:00Z",
            "digestS3Bucket": self.bucket.name,
            "digestS3Object": path,
            "digestPublicKeyFingerprint": "f00d",
            "digestSignatureAlgorithm": "SHA256withRSA",
            "previousDigestS3Bucket": self.bucket.name if self.last else None,
            "previousDigestS3Object": self.last.get("path"),
            "previousDigestHashValue": self.last.get("hash"),
            "previousDigestHashAlgorithm": "SHA-256",
            "previousDigestSignature": self.last.get("signature"),
            "logFiles": [
                {"s3Bucket": self.bucket.name, "s3Object": name, "hashAlgorithm": "SHA-256",
                 "hashValue": hashlib.sha256(gzip.decompress(data)).hexdigest()}
                for name, data in logs
            ],
            **more,
        }  # fmt: skip
        text = json.dumps(value).encode()
        digest = hashlib.sha256(text).hexdigest()
        place, before = f"{self.bucket.name}/{path}", self.last.get("signature") or "null"
        signed_text = f"{value['digestEndTime']}\n{place}\n{digest}\n{before}"
        signature = self.key.sign(signed_text.encode(), PKCS1v15(), SHA256()).hex()
        self.bucket.put(path, gzip.compress(text), {"signature": signature} if signed else {})
        self.last = {"path": path, "hash": digest, "signature": signature}
        return path


@pytest.fixture
def trail(s3_endpoint: str, key: RSAPrivateKey) -> Trail:
    return Trail(Bucket(s3_endpoint), key)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_ledger(tmp_path)


@dataclass
class Commands:
    made: Made
    trail: Trail
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __post_init__(self) -> None:
        client = "\n".join(
            f"{name} = {json.dumps(value)}" for name, value in self.trail.bucket.settings.items()
        )
        (self.folder / "client.toml").write_text(client)
        public = self.trail.key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
        listed = {"PublicKeyList": [{"Value": base64.b64encode(public).decode(), "Fingerprint": "f00d"}]}
        (self.folder / "keys.json").write_text(json.dumps(listed))
        self.common = [
            f"s3://{self.trail.bucket.name}/AWSLogs", "--as", "trail", "--json",
            "--client-config", str(self.folder / "client.toml"), "--ledger", str(self.made.folder),
        ]  # fmt: skip

    def ingest(self) -> dict[str, Any]:
        assert (
            run(decision_ledger.app, ["ingest", "objects", *self.common, "--key", str(self.made.key.path)])
            == 0
        )
        return dict(json.loads(self.capsys.readouterr().out))

    def digests(self, *more: str, code: int = 0) -> dict[str, Any]:
        keys = ["--keys", str(self.folder / "keys.json")]
        assert run(decision_ledger.app, ["ingest", "digests", *self.common, *keys, *more]) == code
        return dict(json.loads(self.capsys.readouterr().out))


@pytest.fixture
def commands(made: Made, trail: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(made, trail, tmp_path, capsys)


def kinds(report: dict[str, Any]) -> list[str]:
    return sorted(finding["kind"] for finding in report["findings"])


def test_logs_that_are_sealed_as_they_were_delivered_are_a_yes(trail: Trail, commands: Commands) -> None:
    trail.digest(9, [trail.log("a", 3), trail.log("b")])
    trail.digest(10, [trail.log("c", 2)])
    trail.digest(11, [])
    assert commands.ingest()["accepted"] == 6
    report = commands.digests()
    assert (report["digests"], report["signed"], report["logs"], report["sealed"]) == (3, 3, 3, 3)
    assert (report["ok"], report["findings"]) == (True, [])
    assert (report["first"], report["last"]) == ("2026-11-23T10:00:00Z", "2026-11-23T12:00:00Z")


def test_a_log_that_is_listed_and_not_sealed_is_a_provable_gap(trail: Trail, commands: Commands) -> None:
    first, second = trail.log("a"), trail.log("b")
    commands.ingest()
    third = trail.log("c")
    trail.bucket.delete(second[0])
    gone = trail.log("d")
    trail.bucket.delete(gone[0])
    trail.digest(9, [first, second, third, gone])
    report = commands.digests(code=1)
    # One came after the run, one was deleted after it was sealed, one before anybody read it.
    assert kinds(report) == ["missing", "missing", "not-sealed", "not-sealed"]
    assert report["sealed"] == 2


def test_a_log_that_was_changed_is_told_though_it_was_sealed_so(trail: Trail, commands: Commands) -> None:
    path, data = trail.log("a")
    trail.bucket.put(path, trail_file([]))
    trail.digest(9, [(path, data)])
    commands.ingest()
    assert kinds(commands.digests(code=1)) == ["changed"]


def test_forged_and_lost_digests_break_the_chain(trail: Trail, commands: Commands) -> None:
    trail.digest(8, [])
    lost = trail.digest(9, [])
    forged = trail.digest(10, [])
    trail.digest(11, [])
    trail.bucket.put(forged, gzip.compress(b"{}"))
    trail.bucket.delete(lost)
    commands.ingest()
    # What stands in its place is no digest; the one after it follows none that is there.
    assert kinds(commands.digests(code=1)) == ["chain", "unreadable"]


def test_a_digest_that_aws_did_not_sign_is_forged(trail: Trail, commands: Commands) -> None:
    path = trail.digest(9, [trail.log("a")])
    commands.ingest()
    other = Trail(trail.bucket, generate_private_key(65_537, 2_048))
    other.digest(9, [])
    assert path == other.last["path"]
    assert kinds(commands.digests(code=1)) == ["forged"]


def test_a_signature_is_found_in_the_next_digest_and_without_one_nothing_is_proved(
    trail: Trail, commands: Commands
) -> None:
    trail.digest(9, [trail.log("a")], signed=False)
    trail.digest(10, [], signed=False)
    commands.ingest()
    report = commands.digests()
    assert (report["signed"], kinds(report)) == (1, ["unsigned"])


def test_unknown_keys_and_digests_from_elsewhere_are_told(trail: Trail, commands: Commands) -> None:
    trail.digest(9, [], digestPublicKeyFingerprint="beef")
    trail.digest(10, [], digestS3Object="AWSLogs/elsewhere.json.gz")
    trail.digest(11, [("Other/x.json.gz", gzip.compress(b"[]"))], logFiles=[1, {"s3Object": 2}])
    commands.ingest()
    assert kinds(commands.digests(code=1)) == ["chain", "forged", "unreadable", "unreadable", "unsigned"]


def test_only_folders_since_a_day_are_looked_into(trail: Trail, commands: Commands) -> None:
    trail.digest(9, [trail.log("a")])
    assert commands.digests("--since", "2026-11-23", code=1)["digests"] == 1
    keys = ["--keys", str(commands.folder / "keys.json")]
    assert (
        run(decision_ledger.app, ["ingest", "digests", *commands.common, *keys, "--since", "2026-11-24"]) == 2
    )


def test_bad_keys_days_and_names_are_refused(
    trail: Trail, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    (commands.folder / "bad.json").write_text("[]")
    good = str(commands.folder / "keys.json")
    for more, words in (
        (["--keys", str(commands.folder / "bad.json")], "not as AWS prints"),
        (["--keys", str(commands.folder / "none.json")], "cannot be read"),
        (["--keys", good, "--since", "soon"], "is no day"),
    ):
        assert run(decision_ledger.app, ["ingest", "digests", *commands.common, *more]) == 2
        assert words in capsys.readouterr().err
    for name in ("", "a b", "../x", "x" * 129, "é"):
        with pytest.raises(UsageError):
            checked_name(name)
