"""Where heads are published: a folder, a bucket (with object lock, if it is to hold), a Kafka topic.

A head is one object `<size>.checkpoint`, the signed note as it stands; beside it `<size>.tsr`, where an
authority stamped its time. Nothing is ever replaced. In a topic the name is a record's key.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
import obstore
from obstore.exceptions import BaseError

from ledger.errors import OutsideError, UsageError
from ledger.storage.local_store import LocalStore
from ledger.storage.s3_address import bucket_and_prefix
from ledger.storage.s3_client import s3_client
from ledger.storage.stores import open_store

HEAD: Final = ".checkpoint"
STAMP: Final = ".tsr"
MAX_BYTES: Final = 1_000_000
_NAME: Final = re.compile(r"([0-9]{1,18})(\.checkpoint|\.tsr)")
_TIMEOUT_MS: Final = 15_000


class Place(Protocol):
    """Where heads go. All methods raise OutsideError where it cannot be reached."""

    url: str

    def put(self, name: str, data: bytes) -> None:
        """Put something there for good; what has that name already stays as it is."""
        ...

    def held(self) -> Iterator[tuple[str, bytes]]:
        """Everything that is there, by name; a topic may hold a name several times."""
        ...


class FolderOfHeads:
    """A folder, best on another machine."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = open_store(url)

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        self._store.create(name, data)

    def held(self) -> Iterator[tuple[str, bytes]]:
        """See `Place.held`."""
        if isinstance(self._store, LocalStore) and not self._store.root.is_dir():
            raise UsageError(
                f"There is no folder {self.url}.", "Name the place that heads were published to."
            )
        for file in self._store.list():
            if _NAME.fullmatch(file.path) and file.size <= MAX_BYTES:
                data = self._store.read(file.path)
                if data is not None:
                    yield file.path, data


class BucketOfHeads(FolderOfHeads):
    """A bucket. One with object lock demands the MD5 of what is put, which obstore's client does not send."""

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        client = s3_client(*bucket_and_prefix(self.url))
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        headers = {"content-md5": digest, "if-none-match": "*"}
        try:
            address = obstore.sign(client, "PUT", name, timedelta(minutes=5))
            answer = httpx.put(
                address, content=data, headers=headers, timeout=_TIMEOUT_MS / 1_000, trust_env=False
            )
        except (BaseError, httpx.HTTPError) as error:
            raise OutsideError(
                f"{self.url} cannot be reached: {type(error).__name__}.", "Check the address and credentials."
            ) from None
        if answer.status_code not in (200, 412):
            raise OutsideError(
                f"{self.url} answers HTTP {answer.status_code}.", "Check the bucket and the credentials."
            )


class TopicOfHeads:
    """A Kafka topic, `kafka://HOST:PORT/TOPIC`; `client` are kafka-python's settings for TLS and SASL."""

    def __init__(self, url: str, client: Mapping[str, Any] | None = None) -> None:
        parts = urlsplit(url)
        self.url = url
        self._topic = parts.path.removeprefix("/")
        if not parts.netloc or "@" in parts.netloc or not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", self._topic):
            raise UsageError(f"{url!r} names no topic.", "Write kafka://HOST:PORT/TOPIC.")
        self._client = {"bootstrap_servers": parts.netloc.split(","), **(client or {})}

    def put(self, name: str, data: bytes) -> None:
        """See `Place.put`."""
        from kafka import KafkaProducer  # noqa: PLC0415 - few publish to a topic
        from kafka.errors import KafkaError  # noqa: PLC0415 - as above

        try:
            producer = KafkaProducer(**{"acks": "all", "max_block_ms": _TIMEOUT_MS, **self._client})
            try:
                producer.send(self._topic, key=name.encode(), value=data).get(timeout=_TIMEOUT_MS / 1_000)
            finally:
                producer.close(timeout=_TIMEOUT_MS / 1_000)
        except KafkaError as error:
            raise self._away(error) from None

    def held(self) -> Iterator[tuple[str, bytes]]:
        """See `Place.held`."""
        from kafka import KafkaConsumer, TopicPartition  # noqa: PLC0415 - as above
        from kafka.errors import KafkaError  # noqa: PLC0415 - as above

        try:
            consumer = KafkaConsumer(enable_auto_commit=False, auto_offset_reset="earliest", **self._client)
            try:
                parts = [
                    TopicPartition(self._topic, n) for n in consumer.partitions_for_topic(self._topic) or ()
                ]
                consumer.assign(parts)
                ends = consumer.end_offsets(parts) if parts else {}
                consumer.seek_to_beginning(*parts)
                while any(consumer.position(part) < ends[part] for part in parts):
                    for records in consumer.poll(timeout_ms=_TIMEOUT_MS).values():
                        for one in records:
                            name = (one.key or b"").decode("ascii", "replace")
                            if _NAME.fullmatch(name) and one.value and len(one.value) <= MAX_BYTES:
                                yield name, one.value
            finally:
                consumer.close()
        except KafkaError as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> OutsideError:
        return OutsideError(f"{self.url} cannot be reached: {type(error).__name__}.", "Check the broker.")


def open_place(url: str, client: Mapping[str, Any] | None = None) -> Place:
    """The place at a folder, `s3://bucket/prefix` or `kafka://HOST:PORT/TOPIC`. Raises UsageError."""
    if url.startswith("kafka://"):
        return TopicOfHeads(url, client)
    return BucketOfHeads(url) if url.startswith("s3://") else FolderOfHeads(url)


def read_client(path: Path | None) -> dict[str, Any]:
    """kafka-python's settings in a TOML file; none where no file is named. Raises UsageError."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise UsageError(
            f"The settings in {path} cannot be read as TOML.", "Correct --client-config."
        ) from None


def size_of(name: str) -> int:
    """The size of the log whose head has this name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(f"{name!r} is no name of a head.", "It is a size and .checkpoint or .tsr.")
    return int(found[1])
