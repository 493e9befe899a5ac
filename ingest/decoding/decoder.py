"""Chunks in, fates out, in the order of the chunks: decoded here, or by processes where that pays.

Processes are started once large chunks have come; until they are ready, and for small chunks, the work is
done here. A process that dies loses nothing: what it was asked is asked of another.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from ingest.child_environment import child_environment
from ingest.chunk import Chunk
from ingest.decoding.fates import PackedChunk, PackedFate, Routes, decide
from ingest.decoding.shared import SharedEnd, can_share
from ingest.stretches import Fate
from ledger.errors import OutsideError

SMALL_MESSAGES: Final = 512
"""A chunk of fewer messages is decoded here: it would take longer to hand it over."""
START_MESSAGES: Final = 16_384
"""Messages in large chunks after which processes are started."""
WAITING_EACH: Final = 2
"""Chunks that are handed to a process and not answered yet."""
MAX_DEATHS: Final = 2
"""Processes that may die over one chunk."""
MOST_USUAL: Final = 4
"""More wait for the one process that commits."""
END_SECONDS: Final = 5.0
_OURS: Final = "DECISION_LEDGER_"

log = structlog.get_logger()


def usual_workers() -> int:
    """As many as there are cores here but one, which the process that commits needs; MOST_USUAL at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return min(cores - 1, MOST_USUAL) if can_share() else 0


@dataclass(slots=True, eq=False)
class _Job:
    number: int
    chunk: Chunk
    epoch: int
    now: datetime
    fate: Fate | None = None
    worker: _Worker | None = None
    deaths: int = 0


class _Worker:
    """One process and the jobs that it has, in the order in which it answers."""

    def __init__(self, routes: Routes) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Our own variables stay here: a signing key may be in them.
        environment = child_environment(lambda name: name.startswith(_OURS))
        self.end = SharedEnd(ours)
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "ingest.decoding.worker", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**environment, "POLARS_MAX_THREADS": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            except OSError:
                self.end.close()
                raise
        self.jobs: deque[_Job] = deque()
        self.ready = False
        try:
            self.end.send(0, routes)
        except EOFError:
            self.close()
            raise

    def has_said(self) -> bool:
        """Whether something of it can be received without waiting."""
        waiting = select.poll()  # unlike select(), for descriptors of any number
        waiting.register(self.end, select.POLLIN)
        return bool(waiting.poll(0))

    def close(self) -> None:
        """It ends as soon as it sees that nobody asks any more."""
        self.end.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Decoder:
    """Decodes by `routes` with up to `workers` processes. For one thread."""

    routes: Routes
    workers: int = field(default_factory=usual_workers)
    small: int = SMALL_MESSAGES
    start_after: int = START_MESSAGES
    _jobs: deque[_Job] = field(default_factory=deque)
    _team: list[_Worker] = field(default_factory=list)
    _last: int = 0
    _seen: int = 0

    def put(self, chunk: Chunk, epoch: int, now: datetime) -> None:
        """Take a chunk on. `epoch` comes back with its fate."""
        self._last += 1
        job = _Job(self._last, chunk, epoch, now)
        self._jobs.append(job)
        large = self.workers > 0 and len(chunk.values) >= self.small
        worker = None
        if large:
            self._seen += len(chunk.values)
            worker = self._idlest()
            if worker is None and self._seen >= self.start_after:
                self._grow()
        if worker is None:
            job.fate = decide(self.routes, chunk, now, hashed=large)
        else:
            self._hand(job, worker)

    @property
    def waiting(self) -> bool:
        """Whether there is a chunk whose fate was not taken yet."""
        return bool(self._jobs)

    @property
    def full(self) -> bool:
        """Whether a fate has to be taken before the next chunk is put.

        One more than the processes are given is taken on: this process decodes it, instead of waiting.
        """
        return len(self._jobs) > WAITING_EACH * self.workers

    @property
    def ready(self) -> bool:
        """Whether the next fate can be taken without waiting."""
        while self._jobs and (job := self._jobs[0]).fate is None:
            assert job.worker is not None
            if not job.worker.has_said():
                return False
            self._receive(job.worker)
        return bool(self._jobs)

    def take(self) -> tuple[Chunk, int, Fate]:
        """The oldest chunk, its epoch and its fate; waits for it.

        Raises:
            OutsideError: processes die over this chunk again and again.
        """
        job = self._jobs[0]
        while job.fate is None:
            assert job.worker is not None
            self._receive(job.worker)
        self._jobs.popleft()
        return job.chunk, job.epoch, job.fate

    def close(self) -> None:
        """End the processes; what was not taken is forgotten."""
        self._jobs.clear()
        while self._team:
            self._team.pop().close()

    def _grow(self) -> None:
        """One more process, where all that there are have more to do than they can."""
        if len(self._team) < self.workers and all(one.ready for one in self._team):
            try:
                self._team.append(_Worker(self.routes))
            except (OSError, EOFError) as error:
                self._do_without(str(error))

    def _do_without(self, why: str) -> None:
        """No further process: those that there are do the work, or this one."""
        self.workers = len(self._team)
        log.warning("a decoding process could not be started", error=why, decoders=self.workers)

    def _idlest(self) -> _Worker | None:
        for worker in list(self._team):
            if not worker.ready and worker.has_said():
                self._receive(worker)
        able = [one for one in self._team if one.ready and len(one.jobs) < WAITING_EACH]
        return min(able, key=lambda one: len(one.jobs), default=None)

    def _hand(self, job: _Job, worker: _Worker) -> None:
        job.worker = worker
        worker.jobs.append(job)
        try:
            worker.end.send(job.number, (PackedChunk.of(job.chunk), job.now))
        except EOFError:
            self._replace(worker)

    def _receive(self, worker: _Worker) -> None:
        """Take one answer of a process."""
        try:
            _, answer = worker.end.receive()
        except EOFError:
            self._replace(worker)
            return
        if not worker.ready:
            worker.ready = True
            return
        job = worker.jobs.popleft()
        if isinstance(answer, PackedFate):
            job.fate = answer.unpacked()
        else:
            raise RuntimeError(f"A decoding process failed:\n{answer}")

    def _replace(self, worker: _Worker) -> None:
        """It died: another gets what it had. One that died before it was ready is done without."""
        worker.close()
        self._team.remove(worker)
        if not worker.ready:
            self._do_without(f"exit code {worker.process.returncode}")
            return
        if worker.jobs:
            worker.jobs[0].deaths += 1
        died_of_it = bool(worker.jobs) and worker.jobs[0].deaths > MAX_DEATHS
        fresh = None if died_of_it else self._started()
        if fresh is None:
            raise OutsideError(
                f"A decoding process died again and again (exit code {worker.process.returncode}).",
                "Nothing is lost. Look for what ends processes here, such as too little memory, and start "
                "again; --decoders 0 decodes in this process.",
            )
        self._team.append(fresh)
        for job in worker.jobs:
            # Should that one die meanwhile, its successor stands in its place.
            self._hand(job, self._team[-1])

    def _started(self) -> _Worker | None:
        """A process that is ready, or None."""
        try:
            fresh = _Worker(self.routes)
        except (OSError, EOFError):
            return None
        try:
            fresh.end.receive()
        except EOFError:
            fresh.close()
            return None
        fresh.ready = True
        return fresh
