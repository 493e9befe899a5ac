"""A bucket of a real S3 API on this machine, and objects as a trail writes them."""

from __future__ import annotations

import gzip
import json
import logging
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import obstore
from moto.server import ThreadedMotoServer

from ledger.storage.s3_client import s3_client

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
REGION = "us-east-1"


class Bucket:
    """A bucket that is there as long as its service runs."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.name = f"logs-{uuid.uuid4().hex}"
        make = urllib.request.Request(f"{endpoint}/{self.name}", method="PUT")  # noqa: S310 - loopback, made below
        with urllib.request.urlopen(make, timeout=20):  # noqa: S310 - as above
            pass
        self._client = s3_client(self.name, "", endpoint=endpoint, config={"region": REGION, **KEYS})

    @property
    def settings(self) -> dict[str, str]:
        """What a client has to be told."""
        return {"endpoint": self.endpoint, "region": REGION, **KEYS}

    def put(self, key: str, data: bytes, facts: Mapping[str, str] | None = None) -> None:
        obstore.put(self._client, key, data, attributes=dict(facts or {}), use_multipart=False)

    def delete(self, key: str) -> None:
        obstore.delete(self._client, key)


@contextmanager
def s3_service() -> Iterator[str]:
    """The endpoint of an S3 API."""
    # Else a line for every request where a campaign runs by itself.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def trail_file(records: Sequence[Mapping[str, Any]]) -> bytes:
    """An object as CloudTrail delivers it."""
    # The time of packing stands in gzip's head: without it the bytes are always the same.
    return gzip.compress(json.dumps({"Records": records}).encode(), mtime=0)
