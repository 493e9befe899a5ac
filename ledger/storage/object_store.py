"""A ledger in a bucket that speaks the S3 API, through obstore.

Create is a PUT with `If-None-Match: *`, replace a PUT with `If-Match` (RFC 9110, 13.1): the
bucket decides who wins. Conditional writes are sent once: were a lost answer retried below us,
our own first write would look like somebody else's. Reads, listings and deletes are retried.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from ledger.errors import OutcomeUnknown, OutsideError
from ledger.storage.limits import check_read_size, check_write_size, checked_path, checked_prefix
from ledger.storage.s3_address import bucket_and_prefix
from ledger.storage.s3_client import REQUEST_TIMEOUT_SECONDS, s3_client
from ledger.storage.s3_errors import is_missing_bucket, read_failure, write_failure
from ledger.storage.store import StoredFile

CREATE_ATTEMPTS = 5
"""How often a create is sent anew after a conflict that left no object behind."""
REPLACE_ATTEMPTS = 16
"""How many lost races or unclear answers `replace` survives."""
BACKOFF_SECONDS = 0.02
BACKOFF_LIMIT_SECONDS = 1.0
PROBE_LIMIT_BYTES = 1 << 16
"""The largest object that is written a second time to see that the bucket refuses it."""
LIST_CHUNK_OBJECTS = 1000


class ObjectStore:
    """`Store` over `s3://bucket/prefix`.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        endpoint: of a compatible service; plain http only on this machine.
        region: of the bucket.
        request_timeout_seconds: after which the outcome of a write counts as unknown.

    Raises:
        UsageError: the URL names no bucket, or the endpoint is unencrypted and remote.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        request_timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        bucket, prefix = bucket_and_prefix(url)
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        config: dict[str, Any] = {"conditional_put": "etag", "disable_bulk_delete": True}
        if region is not None:
            config["region"] = region
        own: dict[str, Any] = {
            "endpoint": endpoint, "request_timeout_seconds": request_timeout_seconds, "config": config,
        }  # fmt: skip
        self._retrying = s3_client(bucket, prefix, **own)
        self._once = s3_client(bucket, prefix, retries=0, **own)
        self._refuses_overwrite = False

    def read(self, path: str) -> bytes | None:
        """See `Store.read`."""
        found = self._read_version(path)
        return None if found is None else found[0]

    def read_range(self, path: str, start: int, end: int) -> bytes | None:
        """See `Store.read_range`."""
        checked_path(path)
        try:
            return bytes(obstore.get_range(self._retrying, path, start=start, end=end))
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise read_failure("read", path, self.url, error) from error
            return None
        except (BaseError, OSError, ValueError) as error:
            # A range beyond the end is refused (416) and no failure of the storage.
            if self._size(path) < end:
                return b""
            raise read_failure("read", path, self.url, error) from error

    def create(self, path: str, data: bytes) -> bool:
        """See `Store.create`.

        Raises:
            OutcomeUnknown: no clear answer came; the write may even arrive later.
            OutsideError: the bucket refused, or does not honour conditional writes.
        """
        checked_path(path)
        check_write_size(path, data)
        for attempt in range(CREATE_ATTEMPTS):
            try:
                obstore.put(self._once, path, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # S3 says 409 both for "exists" and for "something else is going on there".
                if self._exists(path):
                    return False
                _back_off(attempt)
            except (BaseError, OSError, ValueError) as error:
                raise write_failure("create", path, self.url, error) from error
            else:
                self._check_conditional_write(path, data)
                return True
        raise OutsideError(
            f"{self.url} answered {CREATE_ATTEMPTS} times that {path} is in conflict, but nothing is there.",
            "Try again; if it stays so, ask the operator of the storage.",
        )

    def replace(self, path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
        """See `Store.replace`. An unclear answer is resolved by reading back, within the attempts.

        Raises:
            OutcomeUnknown: the last attempt got no clear answer.
            OutsideError: the bucket refused, or other writers won every attempt.
        """
        checked_path(path)
        unclear: OutcomeUnknown | None = None
        sent: bytes | None = None
        for attempt in range(REPLACE_ATTEMPTS):
            found = self._read_version(path)
            if unclear is not None and found is not None and found[0] == sent:
                return True
            content = decide(None if found is None else found[0])
            if content is None:
                return False
            check_write_size(path, content)
            try:
                obstore.put(
                    self._once,
                    path,
                    content,
                    mode="create" if found is None else {"e_tag": found[1]},
                    use_multipart=False,
                )
                return True
            except (AlreadyExistsError, PreconditionError):
                pass
            except (BaseError, OSError, ValueError) as error:
                failure = write_failure("replace", path, self.url, error)
                if not isinstance(failure, OutcomeUnknown):
                    raise failure from error
                unclear, sent = failure, content
            _back_off(attempt)
        raise unclear or OutsideError(
            f"Other writers replaced {path} in {self.url} during each of {REPLACE_ATTEMPTS} attempts.",
            "Run fewer writers on one ledger, or try again.",
        )

    def sync(self, path: str) -> None:
        """Nothing to do: what an object store shows is durable."""
        checked_path(path)

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        checked_path(path)
        try:
            obstore.delete(self._retrying, path)
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise read_failure("delete", path, self.url, error) from error
        except (BaseError, OSError, ValueError) as error:
            raise read_failure("delete", path, self.url, error) from error

    def list(self, prefix: str = "") -> Iterator[StoredFile]:
        """See `Store.list`; `modified` is the bucket's clock, in whole seconds."""
        return self._listed("/".join(checked_prefix(prefix)))

    def local_path(self, path: str) -> Path | None:
        """None: nothing of a bucket lies on this machine's disk."""
        checked_path(path)
        return None

    def _listed(self, folder: str) -> Iterator[StoredFile]:
        try:
            for chunk in obstore.list(self._retrying, folder or None, chunk_size=LIST_CHUNK_OBJECTS):
                for found in chunk:
                    yield StoredFile(found["path"], found["size"], found["last_modified"].timestamp())
        except (BaseError, OSError, ValueError) as error:
            raise read_failure("list", folder or "everything", self.url, error) from error

    def _read_version(self, path: str) -> tuple[bytes, str | None] | None:
        """Content and ETag of one and the same version."""
        checked_path(path)
        try:
            answer = obstore.get(self._retrying, path)
            check_read_size(path, answer.meta["size"])
            return bytes(answer.bytes()), answer.meta["e_tag"]
        except FileNotFoundError as error:
            if is_missing_bucket(error):
                raise read_failure("read", path, self.url, error) from error
            return None
        except (BaseError, OSError, ValueError) as error:
            raise read_failure("read", path, self.url, error) from error

    def _size(self, path: str) -> int:
        try:
            return obstore.head(self._retrying, path)["size"]
        except FileNotFoundError:
            return 0
        except (BaseError, OSError, ValueError) as error:
            raise read_failure("look at", path, self.url, error) from error

    def _exists(self, path: str) -> bool:
        try:
            obstore.head(self._retrying, path)
        except FileNotFoundError:
            return False
        except (BaseError, OSError, ValueError) as error:
            raise read_failure("look at", path, self.url, error) from error
        return True

    def _check_conditional_write(self, path: str, data: bytes) -> None:
        """Once per process: a service that ignores `If-None-Match` would let two writers fork the log.

        The same bytes are sent again, so a service that does ignore it changes nothing.
        """
        if self._refuses_overwrite or len(data) > PROBE_LIMIT_BYTES:
            return
        try:
            obstore.put(self._once, path, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            self._refuses_overwrite = True
        except (BaseError, OSError, ValueError):
            # The object itself was created; the next create asks again.
            return
        else:
            raise OutsideError(
                f"The storage at {self.url} overwrites although it was asked to create only if absent.",
                "Use a service that honours If-None-Match on PUT: two writers could fork the ledger here.",
            )


def _back_off(attempt: int) -> None:
    longest_seconds = min(BACKOFF_LIMIT_SECONDS, BACKOFF_SECONDS * 2**attempt)
    time.sleep(random.uniform(0, longest_seconds))  # noqa: S311 - jitter parts the writers; nothing is secret
