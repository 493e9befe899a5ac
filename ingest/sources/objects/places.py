"""Where objects lie, a bucket or a folder: what is there, and the bytes of one version.

Names are the writers'. Of a folder no link is followed; of a bucket obstore refuses names with control
characters, and says so.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import obstore
from obstore.exceptions import BaseError, InvalidPathError, PreconditionError
from obstore.store import S3Store

from ledger.errors import LedgerError, OutsideError, UsageError
from ledger.storage.disk_errors import meaning_of
from ledger.storage.s3_address import bucket_and_prefix
from ledger.storage.s3_client import s3_client
from ledger.storage.s3_errors import read_failure
from ledger.storage.stores import local_folder

LIST_CHUNK_OBJECTS: Final = 1000
STREAM_BYTES: Final = 4 * 1024 * 1024
MAX_FOLDER_DEPTH: Final = 64
_YEAR: Final = re.compile(r"(?:year=|y=)?(20[0-9]{2})")
_TWO: Final = re.compile(r"(?:month=|m=|day=|d=)?([0-9]{2})")
_DAY: Final = re.compile(r"(?:date=|dt=|day=)?(20[0-9]{2})-([0-9]{2})-([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Version:
    """One object as it was listed. `etag` changes when its content does."""

    key: str
    etag: str
    size: int


class Replaced(Exception):
    """The object is another version now, or gone."""


@dataclass(slots=True)
class Body:
    """The bytes of one version, as `read(n)` gives them, at most n at once and none at the end.

    `facts` are what its writer noted beside it (S3's user metadata).
    """

    read: Callable[[int], bytes]
    facts: Mapping[str, str] = field(default_factory=dict)


class Place(Protocol):
    """A bucket or a folder."""

    url: str

    def everything(self) -> Iterator[Version]:
        """All that is there. Raises OutsideError."""
        ...

    def since(self, day: date) -> Iterator[Version]:
        """As `everything`, without what lies in folders of earlier days. Raises OutsideError."""
        ...

    def open(self, key: str, etag: str | None = None) -> Body:
        """The bytes of an object, of this version where one is named.

        Raises:
            Replaced: that version is not there.
            OutsideError: it cannot be read.
        """
        ...


def place_at(url: str, settings: Mapping[str, Any] | None = None) -> Place:
    """The bucket at `s3://bucket/prefix` or the folder at a path. Raises UsageError."""
    if url.lower().startswith("s3:"):
        bucket, prefix = bucket_and_prefix(url)
        own = dict(settings or {})
        endpoint = own.pop("endpoint", None)
        return _Bucket(url, s3_client(bucket, prefix, endpoint=endpoint, config=own))
    if settings:
        raise UsageError(f"{url} is a folder, which has no settings.", "Leave out --client-config.")
    folder = local_folder(url)
    if folder is None or not folder.is_dir():
        raise UsageError(f"There is no folder {url}.", "Give s3://bucket/prefix or a folder.")
    return _Folder(url, folder)


def ends_before(folders: list[str], day: date) -> bool:
    """Whether a path's folders name a year, a month or a day that is over before `day`.

    Known are 2026/11/26 with or without words before the numbers, as in year=2026, and 2026-11-26.
    """
    for at, name in enumerate(folders):
        if whole := _DAY.fullmatch(name):
            return _last_day(*map(int, whole.groups())) < day
        if (year := _YEAR.fullmatch(name)) is not None:
            rest = [int(match[1]) for one in folders[at + 1 : at + 3] if (match := _TWO.fullmatch(one))]
            return _last_day(int(year[1]), *rest) < day
    return False


def _last_day(year: int, month: int | None = None, day: int | None = None) -> date:
    """The last day of a year, a month, or that day; of an impossible one the end of time."""
    try:
        if month is None:
            return date(year, 12, 31)
        if day is not None:
            return date(year, month, day)
        return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    except ValueError:
        return date.max


class _Bucket:
    def __init__(self, url: str, client: S3Store) -> None:
        self.url = url
        self._client = client

    def everything(self) -> Iterator[Version]:
        try:
            for chunk in obstore.list(self._client, chunk_size=LIST_CHUNK_OBJECTS):
                for found in chunk:
                    yield Version(found["path"], found["e_tag"] or "", found["size"])
        except (BaseError, OSError, ValueError) as error:
            raise self._failure("list", "the objects", error) from error

    def since(self, day: date) -> Iterator[Version]:
        waiting: list[str | None] = [None]
        while waiting:
            folder = waiting.pop()
            try:
                found = obstore.list_with_delimiter(self._client, folder)
            except (BaseError, OSError, ValueError) as error:
                raise self._failure("list", folder or "the objects", error) from error
            for one in found["objects"]:
                yield Version(one["path"], one["e_tag"] or "", one["size"])
            below = [str(name) for name in found["common_prefixes"]]
            waiting += [one for one in sorted(below, reverse=True) if not ends_before(one.split("/"), day)]

    def open(self, key: str, etag: str | None = None) -> Body:
        try:
            answer = obstore.get(self._client, key, options={"if_match": etag} if etag is not None else None)
            pieces = iter(answer.stream(min_chunk_size=STREAM_BYTES))
            facts = {str(name): str(value) for name, value in answer.attributes.items()}
        except (PreconditionError, FileNotFoundError) as error:
            raise Replaced from error
        except (BaseError, OSError, ValueError) as error:
            raise self._failure("read", key, error) from error
        held = b""

        def read(size: int) -> bytes:
            nonlocal held
            try:
                while not held and (piece := next(pieces, None)) is not None:
                    held = bytes(piece)
            except (BaseError, OSError, ValueError) as error:
                raise self._failure("read", key, error) from error
            part, held = held[:size], held[size:]
            return part

        return Body(read, facts)

    def _failure(self, action: str, what: str, error: Exception) -> LedgerError:
        if isinstance(error, InvalidPathError):
            return OutsideError(
                f"{self.url} holds an object whose name has control characters, and cannot be listed.",
                "Remove that object, or name a prefix that leaves it out.",
            )
        return read_failure(action, what, self.url, error)


class _Folder:
    def __init__(self, url: str, root: Path) -> None:
        self.url = url
        self._root = root

    def everything(self) -> Iterator[Version]:
        return self._walk(lambda folders: False)

    def since(self, day: date) -> Iterator[Version]:
        return self._walk(lambda folders: ends_before(folders, day))

    def open(self, key: str, etag: str | None = None) -> Body:
        try:
            handle = os.open(self._root / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise Replaced from error
            raise self._failure("read", key, error) from error
        file = os.fdopen(handle, "rb", buffering=0)
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or (etag is not None and _etag(found) != etag):
            file.close()
            raise Replaced

        def read(size: int) -> bytes:
            try:
                part = b"" if file.closed else file.read(size) or b""
            except OSError as error:
                raise self._failure("read", key, error) from error
            if not part and not file.closed:
                # Written to meanwhile, what was read may be half of each.
                changed = etag is not None and _etag(os.fstat(handle)) != etag
                file.close()
                if changed:
                    raise Replaced
            return part

        return Body(read)

    def _walk(self, leave_out: Callable[[list[str]], bool]) -> Iterator[Version]:
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._root / folder) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError as error:
                raise self._failure("list", folder or "the folder", error) from error
            for entry in inside:
                key = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_file(follow_symlinks=False):
                    found = entry.stat(follow_symlinks=False)
                    yield Version(key, _etag(found), found.st_size)
            below = [
                f"{folder}/{e.name}" if folder else e.name for e in inside if e.is_dir(follow_symlinks=False)
            ]
            waiting += [
                one
                for one in reversed(below)
                if one.count("/") < MAX_FOLDER_DEPTH and not leave_out(one.split("/"))
            ]

    def _failure(self, action: str, what: str, error: OSError) -> LedgerError:
        reason, remedy = meaning_of(error)
        return OutsideError(f"Cannot {action} {what} in {self.url}: {reason}.", remedy)


def _etag(found: os.stat_result) -> str:
    # Without the inode, so that a copy that keeps the times is the same.
    return f"{found.st_size:x}-{found.st_mtime_ns // 1000:x}"
