"""The files of a verification, shared between this process and others that it starts.

A worker is a plain Python process that imports the check and nothing of the caller's program, so it
starts in well under a second. It gets (task, bytes of the file) over a socket and answers with facts.

A file that is not the one that was sealed is only ever opened in such a process: bytes can be made, or
damaged, so that the reader of Parquet ends its process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from hashlib import sha256
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Final, Self

from ledger.verify.copies import Read
from ledger.verify.facts import FileFacts, FileTask
from ledger.verify.parquet import check_file, unreadable

MIN_SHARED_ROWS: Final = 300_000
"""Fewer rows than this are checked in this process: starting others would take longer."""
STOP_SECONDS: Final = 10.0
"""How long a worker that was told to stop may take."""
_CRASHES: Final = frozenset(
    {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
)
_WORKER: Final = "import sys; from ledger.verify.workers import serve; serve(int(sys.argv[1]))"

Done = tuple[FileTask, FileFacts | None, int]
"""(task, what the file holds or None where it is gone, its bytes)"""


def facts_of(tasks: Iterable[FileTask], read: Read, rows: int, workers: int) -> Iterator[Done]:
    """Check files, in the order of completion. Raises what `read` raises.

    `rows` is how many rows the tasks have together; large checks are spread over `workers` processes,
    this one included. What a worker that dies leaves is checked here.
    """
    with _Apart() as apart:
        if workers < 2 or rows < MIN_SHARED_ROWS:
            for task in tasks:
                yield _checked_here(task, read, apart)
            return
        # The largest first, so that all end at about the same time.
        waiting = _Waiting(sorted(tasks, key=lambda task: -task.rows))
        helpers = [_Helper(waiting, read) for _ in range(workers - 1)]
        try:
            yield from _shared(waiting, helpers, read, apart)
        finally:
            for helper in helpers:
                helper.stop()


def serve(descriptor: int) -> None:
    """Check what comes over the socket `descriptor` until the other side closes it."""
    with Connection(descriptor) as connection:
        while True:
            try:
                task = connection.recv()
                data = connection.recv_bytes()
            except (EOFError, OSError):
                return
            connection.send(check_file(task, data))


class _Waiting:
    """Tasks that nobody took yet, and answers that nobody passed on yet."""

    def __init__(self, tasks: Iterable[FileTask]) -> None:
        self._tasks = iter(tasks)
        self._lock = Lock()
        self.answers: SimpleQueue[Done | FileTask | BaseException | None] = SimpleQueue()

    def take(self) -> FileTask | None:
        """The next task, None where there is none."""
        with self._lock:
            return next(self._tasks, None)


class _Process:
    """One worker process, at the other end of `connection`."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # this very interpreter, with our own text
                [sys.executable, "-c", _WORKER, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection = Connection(ours.detach())

    def check(self, task: FileTask, data: bytes) -> FileFacts | None:
        """What the file holds; None where the worker died, of memory or of a file that crashes its reader."""
        try:
            self.connection.send(task)
            self.connection.send_bytes(data)
            facts: FileFacts = self.connection.recv()
        except (EOFError, OSError):
            return None
        return facts

    def terminate(self) -> None:
        """Have it end, whatever it is at."""
        self._process.terminate()

    def wait(self) -> int:
        """Until it is gone; its exit code, below 0 where a signal ended it."""
        self.connection.close()
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


class _Apart:
    """A process for files that are not what was sealed: started for the first, and anew where one ends it."""

    def __init__(self) -> None:
        self._process: _Process | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, task: FileTask, data: bytes, digest: str) -> FileFacts:
        """What the file with this hash holds, as far as it can be read."""
        self._process = self._process or _Process()
        facts = self._process.check(task, data)
        if facts is not None:
            return facts
        crashed = self._process.wait() in _CRASHES
        self._process = None
        if crashed or not _is_as_sealed(task, data, digest):
            return unreadable(task, digest, "What reads it as Parquet is ended by it.")
        # It may have died of something else, such as too little memory for two.
        return check_file(task, data, digest)

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


class _Helper:
    """One worker process, and the thread that feeds it one file at a time."""

    def __init__(self, waiting: _Waiting, read: Read) -> None:
        self._waiting = waiting
        self._read = read
        self._process = _Process()
        self._thread = Thread(target=self._feed, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process; whatever it still works on is not wanted."""
        self._process.terminate()
        self._thread.join()
        self._process.wait()

    def _feed(self) -> None:
        answers = self._waiting.answers
        while (task := self._waiting.take()) is not None:
            try:
                data = self._read(task.path)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that asked
                answers.put(error)
                return
            if data is None:
                answers.put((task, None, 0))
                continue
            facts = self._process.check(task, data)
            if facts is None:
                answers.put(task)
                break
            answers.put((task, facts, len(data)))
        answers.put(None)


def _shared(waiting: _Waiting, helpers: list[_Helper], read: Read, apart: _Apart) -> Iterator[Done]:
    """This process checks files too: it starts at once, the others after their imports."""
    busy = len(helpers)
    while True:
        mine = waiting.take()
        if mine is not None:
            yield _checked_here(mine, read, apart)
        elif not busy:
            return
        while busy:
            try:
                answer = waiting.answers.get(block=mine is None)
            except Empty:
                break
            if answer is None:
                busy -= 1
            elif isinstance(answer, BaseException):
                raise answer
            elif isinstance(answer, FileTask):
                yield _checked_apart(answer, read, apart)
            else:
                yield answer


def _checked_here(task: FileTask, read: Read, apart: _Apart) -> Done:
    data = read(task.path)
    if data is None:
        return task, None, 0
    digest = sha256(data).hexdigest()
    check = check_file if _is_as_sealed(task, data, digest) else apart.check
    return task, check(task, data, digest), len(data)


def _checked_apart(task: FileTask, read: Read, apart: _Apart) -> Done:
    """A file whose worker died over it."""
    data = read(task.path)
    facts = None if data is None else apart.check(task, data, sha256(data).hexdigest())
    return task, facts, len(data or b"")


def _is_as_sealed(task: FileTask, data: bytes, digest: str) -> bool:
    return len(data) == task.bytes and digest == task.sha256
