"""The spool: messages that were answered for, on the disk until the ledger has sealed them.

A folder with `id` (hex, the stream's name), a lock, and files named after the offset of their first message.
Each message is one record: the lengths of its payload and of its places, a checksum over both, then both.
What is in the spool is masked: a secret never reaches the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from ledger.errors import OutsideError, UsageError

FILE_BYTES: Final = 64 * 1024 * 1024
"""A new file is begun when one is so large."""
SPOOL_BYTES: Final = 1024 * 1024 * 1024
"""The whole spool; what finds no room is not taken."""
MAX_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
_HEAD: Final = struct.Struct(">III")
_SUFFIX: Final = ".spool"

log = structlog.get_logger()


class SpoolFull(Exception):
    """The ledger takes messages slower than they come: the sender must wait."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it is kept: masked, with the JSON pointers of what was removed.

    `digest` is the hex SHA-256 of what was received, where that was another text.
    """

    payload: bytes
    places: tuple[str, ...] = ()
    digest: str | None = None

    def record(self) -> bytes:
        """Its bytes in a file."""
        told = {"places": self.places, "digest": self.digest}
        places = json.dumps(told).encode() if self.places or self.digest else b""
        checksum = zlib.crc32(places, zlib.crc32(self.payload))
        return _HEAD.pack(len(self.payload), len(places), checksum) + self.payload + places


@dataclass(slots=True)
class _File:
    path: Path
    first: int
    count: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Batch:
    """Messages read back, in order from `start` on, and where the next one begins."""

    start: int
    messages: list[Message] = field(default_factory=list)


class Spool:
    """One spool, for one process: `append` from one thread, `read` and `drop_below` from another."""

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES, limit: int = SPOOL_BYTES) -> None:
        """Open or make a spool.

        Raises:
            UsageError: another process has it.
            OutsideError: it cannot be written.
        """
        self.folder = folder
        self._file_bytes = file_bytes
        self._limit = limit
        self._changed = threading.Condition()
        self._cursor: tuple[int, int] | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (folder / "lock").open("w")
            with contextlib.ExitStack() as undo:
                undo.callback(self._lock.close)
                self._own()
                self.id = self._identity()
                self._files = self._found()
                self._writer = self._open_last()
                undo.pop_all()
        except OSError as error:
            raise OutsideError(
                f"The spool {folder} cannot be used: {error.strerror}.", "Check the disk."
            ) from None

    @property
    def end(self) -> int:
        """The offset of the next message."""
        last = self._files[-1]
        return last.first + last.count

    @property
    def begin(self) -> int:
        """The offset of the oldest message that is kept."""
        return self._files[0].first

    @property
    def is_full(self) -> bool:
        """Whether not even a small message finds room."""
        return self.size + _HEAD.size >= self._limit

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(one.bytes for one in self._files)

    def append(self, messages: Sequence[Message]) -> int:
        """Keep messages, all or none; they are on the disk when this returns. The offset behind them.

        Raises:
            SpoolFull: there is no room.
            OutsideError: they may not be on the disk; nothing of them is in the spool.
        """
        data = b"".join(message.record() for message in messages)
        if self.size + len(data) > self._limit:
            raise SpoolFull
        with self._changed:
            last = self._files[-1]
            try:
                if last.count and last.bytes + len(data) > self._file_bytes:
                    last = self._begin_file()
                self._writer.write(data)
                self._writer.flush()
                os.fsync(self._writer.fileno())
            except OSError as error:
                self._cut(last)
                raise OutsideError(
                    f"The spool cannot be written: {error.strerror}.", "Free the disk."
                ) from None
            last.count += len(messages)
            last.bytes += len(data)
            self._changed.notify_all()
            return self.end

    def read(self, offset: int, *, limit_bytes: int, timeout: float) -> Batch:
        """Messages from `offset` on, about so many bytes; waits up to `timeout` seconds for the first.

        Raises:
            OutsideError: what was written cannot be read back.
        """
        with self._changed:
            if offset >= self.end:
                self._changed.wait(timeout)
            if offset >= self.end:
                return Batch(offset)
            offset = max(offset, self.begin)
            file = next(one for one in self._files if one.first <= offset < one.first + one.count)
            held = (file.path, file.first, file.first + file.count)
        path, first, end = held
        try:
            with path.open("rb") as source:
                at = first
                if self._cursor is not None and self._cursor[0] == offset:
                    source.seek(self._cursor[1])
                    at = offset
                batch = Batch(offset)
                size = 0
                while at < end and size < limit_bytes:
                    message = _read_record(source)
                    if message is None:
                        raise OutsideError(f"{path} is damaged.", "Keep a copy of it, and look at the disk.")
                    if at >= offset:
                        batch.messages.append(message)
                        size += len(message.payload)
                    at += 1
                self._cursor = (at, source.tell()) if at < end else None
        except OSError as error:
            raise OutsideError(f"{path} cannot be read: {error.strerror}.", "Check the disk.") from None
        return batch

    def drop_below(self, offset: int) -> None:
        """The ledger has everything below `offset`: whole files of it go. The last one stays for its name."""
        with self._changed:
            if offset >= self.end and self._files[-1].count:
                self._begin_file()
            while len(self._files) > 1 and self._files[0].first + self._files[0].count <= offset:
                self._files.pop(0).path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give it back."""
        self._writer.close()
        self._lock.close()

    def _own(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"Another process has the spool {self.folder}.", "Give each listener a spool of its own."
            ) from None

    def _identity(self) -> str:
        path = self.folder / "id"
        if not path.exists():
            _write_durably(path, secrets.token_hex(8))
        text = path.read_text("ascii").strip()
        if len(text) != 16 or not text.isalnum():
            raise UsageError(f"{path} is no spool's id.", "Name another folder, or a new one.")
        return text

    def _found(self) -> list[_File]:
        names = sorted(path for path in self.folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        files = []
        for path in names:
            file = _File(path, int(path.stem))
            with path.open("rb") as source:
                while _read_record(source) is not None:
                    file.count += 1
                    file.bytes = source.tell()
            files.append(file)
        for one, after in itertools.pairwise(files):
            if one.first + one.count != after.first:
                raise OutsideError(f"{one.path} is damaged.", "Keep a copy of it, and look at the disk.")
        if not files:
            path = self.folder / f"{0:020d}{_SUFFIX}"
            path.touch(mode=0o600)
            files.append(_File(path, 0))
        return files

    def _open_last(self) -> BinaryIO:
        last = self._files[-1]
        writer = last.path.open("r+b")
        writer.seek(last.bytes)
        # What a crash left half-written was never answered for. It is set aside all the same: a disk that
        # lost what it had confirmed looks alike.
        if torn := writer.read(MAX_PAYLOAD_BYTES):
            last.path.with_suffix(f".torn-{secrets.token_hex(4)}").write_bytes(torn)
            log.warning("spool ended in half a message", file=str(last.path), bytes=len(torn))
        writer.truncate(last.bytes)
        writer.seek(last.bytes)
        os.fsync(writer.fileno())
        _sync_folder(self.folder)
        return writer

    def _begin_file(self) -> _File:
        path = self.folder / f"{self.end:020d}{_SUFFIX}"
        writer = path.open("x+b")
        path.chmod(0o600)
        _sync_folder(self.folder)
        self._writer.close()
        self._writer = writer
        self._files.append(_File(path, self.end))
        return self._files[-1]

    def _cut(self, last: _File) -> None:
        """After a failed write: the file holds what it held before, or nothing more is taken."""
        try:
            self._writer.seek(last.bytes)
            self._writer.truncate(last.bytes)
        except OSError:
            self._limit = 0


def _read_record(source: BinaryIO) -> Message | None:
    """The next record, or None where there is no whole one."""
    head = source.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, more, checksum = _HEAD.unpack(head)
    if length > MAX_PAYLOAD_BYTES or more > MAX_PAYLOAD_BYTES:
        return None
    data = source.read(length + more)
    if len(data) < length + more or zlib.crc32(data) != checksum:
        return None
    if not more:
        return Message(data)
    told = json.loads(data[length:])
    if isinstance(told, list):  # as earlier versions wrote it
        told = {"places": told, "digest": None}
    return Message(data[:length], tuple(told["places"]), told["digest"])


def _write_durably(path: Path, text: str) -> None:
    with path.open("x") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
