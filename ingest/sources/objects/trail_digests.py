"""CloudTrail's own digests: whether every log that AWS says it delivered is there, unchanged, and sealed.

A digest lists the logs of about an hour with the SHA-256 of their uncompressed text, and the digest before
it. AWS signs it (RSA, SHA-256) over its end time, place, hash and the signature before it ("Custom
implementations of CloudTrail log file integrity validation" in AWS's user guide). The signature lies beside
the object, and again in the next digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ingest.sources.files.decompress import Blocks, Bounds, DamagedStream
from ingest.sources.objects.places import Place, Replaced, Version
from ingest.sources.objects.sealed_objects import SealedObjects
from ledger.errors import UsageError

DIGESTS_FOLDER: Final = "CloudTrail-Digest"
MAX_DIGEST_BYTES: Final = 64 * 1024 * 1024
MAX_FINDINGS: Final = 1_000
"""That are kept with their words; all are counted."""
READERS: Final = 8
LOGS_AT_ONCE: Final = 1_000

Kind = Literal["unsigned", "forged", "unreadable", "chain", "missing", "changed", "not-sealed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as a digest says; `unsigned` is no contradiction and no proof."""

    kind: Kind
    key: str
    message: str


@dataclass(slots=True)
class DigestReport:
    """What the digests of one place say."""

    digests: int = 0
    signed: int = 0
    logs: int = 0
    sealed: int = 0
    first: str | None = None
    last: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing contradicts a digest."""
        return not (self.counts.keys() - {"unsigned"})

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it where there is room."""
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


@dataclass(slots=True)
class _Digest:
    key: str
    path: str
    hash: str
    signature: str | None
    value: Mapping[str, Any]

    @property
    def chain(self) -> str:
        """The folder of its account and region: digests in it follow one another."""
        before, folder, behind = self.key.partition(f"{DIGESTS_FOLDER}/")
        return f"{before}{folder}{behind.partition('/')[0]}"


@dataclass(frozen=True, slots=True)
class _Log:
    key: str
    hash: str
    by: str


def read_keys(text: bytes) -> dict[str, RSAPublicKey]:
    """Public keys by fingerprint, as `aws cloudtrail list-public-keys` prints them. Raises UsageError."""
    try:
        listed = json.loads(text)["PublicKeyList"]
        keys = {
            str(one["Fingerprint"]): load_der_public_key(base64.b64decode(one["Value"])) for one in listed
        }
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            "The keys are not as AWS prints them.", "Save what `aws cloudtrail list-public-keys` prints."
        ) from None
    return {name: key for name, key in keys.items() if isinstance(key, RSAPublicKey)}


def is_digest(key: str) -> bool:
    """Whether an object is a digest, by where it lies."""
    return DIGESTS_FOLDER in key.split("/")


def check_digests(
    place: Place, versions: Iterable[Version], keys: Mapping[str, RSAPublicKey], sealed: SealedObjects
) -> DigestReport:
    """Hold all that `versions` list against the digests among them. Raises OutsideError."""
    report = DigestReport()
    there: dict[str, Version] = {}
    digests: dict[str, _Digest] = {}
    for version in versions:
        if not is_digest(version.key):
            there[version.key] = version
        elif version.size:
            found = _read(place, version, report)
            if found is not None:
                digests[found.path] = found
    report.digests = len(digests)
    ends = sorted(str(one.value["digestEndTime"]) for one in digests.values())
    report.first, report.last = (ends[0], ends[-1]) if ends else (None, None)
    _take_signatures(digests, report)
    for one in digests.values():
        _check_signature(one, keys, report)
    logs = _logs(digests.values(), report)
    with ThreadPoolExecutor(READERS) as readers:
        while some := list(islice(logs, LOGS_AT_ONCE)):
            for findings in readers.map(lambda log: _check_log(place, log, there.get(log.key), sealed), some):
                report.sealed += not any(finding.kind == "not-sealed" for finding in findings)
                for finding in findings:
                    report.add(finding)
    return report


def _read(place: Place, version: Version, report: DigestReport) -> _Digest | None:
    try:
        body = place.open(version.key, version.etag)
        data = b"".join(_opened(body.read, MAX_DIGEST_BYTES))
        value = json.loads(data)
        names = ("digestEndTime", "digestS3Bucket", "digestS3Object", "digestPublicKeyFingerprint")
        if not all(isinstance(value[name], str) for name in names) or not isinstance(value["logFiles"], list):
            raise ValueError
        path = value["digestS3Object"]
        if not path.endswith(version.key):
            report.add(Finding("forged", version.key, f"It says that it lies at {path}."))
            return None
    except Replaced:
        report.add(Finding("unreadable", version.key, "It changed while it was read."))
    except DamagedStream as error:
        report.add(Finding("unreadable", version.key, f"It {error.reason}."))
    except (ValueError, KeyError, TypeError, RecursionError):
        report.add(Finding("unreadable", version.key, "It is no digest."))
    else:
        digest = hashlib.sha256(data).hexdigest()
        return _Digest(version.key, path, digest, body.facts.get("signature"), value)
    return None


def _take_signatures(digests: Mapping[str, _Digest], report: DigestReport) -> None:
    """What each digest says of the one before it: where it lies, what it hashes to, and its signature."""
    oldest: dict[str, str] = {}
    for one in digests.values():
        oldest[one.chain] = min(oldest.get(one.chain, "~"), one.value["digestEndTime"])
    for one in digests.values():
        before = one.value.get("previousDigestS3Object")
        if not isinstance(before, str):
            continue
        previous = digests.get(before)
        if previous is None:
            # What was asked for begins somewhere: before the oldest digest nothing is claimed.
            if one.value["digestEndTime"] != oldest[one.chain]:
                report.add(Finding("chain", one.key, f"The digest before it is not there: {before}."))
            continue
        if previous.hash != one.value.get("previousDigestHashValue"):
            report.add(Finding("chain", previous.key, f"It is not the one that {one.key} follows."))
        signature = one.value.get("previousDigestSignature")
        if previous.signature is None and isinstance(signature, str):
            previous.signature = signature


def _check_signature(one: _Digest, keys: Mapping[str, RSAPublicKey], report: DigestReport) -> None:
    if one.signature is None:
        report.add(Finding("unsigned", one.key, "Its signature is neither beside it nor in a later digest."))
        return
    key = keys.get(one.value["digestPublicKeyFingerprint"])
    if key is None:
        message = f"It names a key that is not at hand: {one.value['digestPublicKeyFingerprint']}."
        report.add(Finding("unsigned", one.key, message))
        return
    before = one.value.get("previousDigestSignature")
    text = "\n".join(
        [
            one.value["digestEndTime"],
            f"{one.value['digestS3Bucket']}/{one.path}",
            one.hash,
            before if isinstance(before, str) else "null",
        ]
    )
    try:
        key.verify(binascii.unhexlify(one.signature), text.encode(), PKCS1v15(), SHA256())
    except (InvalidSignature, binascii.Error, ValueError):
        report.add(Finding("forged", one.key, "AWS did not sign it as it is."))
        return
    report.signed += 1


def _logs(digests: Iterable[_Digest], report: DigestReport) -> Iterator[_Log]:
    """Each log that a digest lists."""
    for one in digests:
        lead = one.path[: len(one.path) - len(one.key)]
        for listed in one.value["logFiles"]:
            path, digest = (
                (listed.get("s3Object"), listed.get("hashValue"))
                if isinstance(listed, dict)
                else (None, None)
            )
            if not isinstance(path, str) or not isinstance(digest, str) or not path.startswith(lead):
                report.add(Finding("unreadable", one.key, "It lists a log that lies elsewhere, or is none."))
                continue
            report.logs += 1
            yield _Log(path[len(lead) :], digest, one.key)


def _check_log(place: Place, log: _Log, version: Version | None, sealed: SealedObjects) -> list[Finding]:
    if version is None:
        if sealed.is_known(log.key):
            return [Finding("missing", log.key, f"{log.by} lists it; it was sealed, and is gone now.")]
        message = f"{log.by} lists it; it is not there, and nothing of it was sealed."
        return [Finding("missing", log.key, message), Finding("not-sealed", log.key, message)]
    found: list[Finding] = []
    try:
        body = place.open(log.key, version.etag)
        actual = hashlib.sha256()
        for block in _opened(body.read, None):
            actual.update(block)
        if actual.hexdigest() != log.hash.lower():
            message = f"It is not as it was delivered: {log.by} has another hash."
            found.append(Finding("changed", log.key, message))
    except Replaced:
        found.append(Finding("changed", log.key, "It changed while it was read."))
    except DamagedStream as error:
        found.append(Finding("changed", log.key, f"It {error.reason}."))
    if sealed.records(log.key, version.etag) is not None:
        found.append(Finding("not-sealed", log.key, f"{log.by} lists it, and it is not sealed to its end."))
    return found


def _opened(read: Callable[[int], bytes], limit: int | None) -> Iterator[bytes]:
    """Decompressed blocks. Raises DamagedStream, also beyond `limit` bytes."""
    blocks = Blocks(read, lambda: True, Bounds() if limit is None else Bounds(output_bytes=limit))
    while block := blocks.read():
        yield bytes(block)
