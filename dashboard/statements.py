"""How pages ask: beside the page, a few at a time, ended when the page is left, answered once per person.

An answer is kept by who asked (user, roles, tenants), the size of the log, the question and its arguments.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pyarrow as pa

from dashboard.access import Viewer
from dashboard.day_memory import DayMemory
from dashboard.pool import Pool
from detections.metrics.kept_days import KeptDays
from ledger.errors import DamageError
from ledger.query.engine import Query, Stop, stopped_by
from ledger.reader import Ledger

P = ParamSpec("P")
T = TypeVar("T")
MAX_KEPT: Final = 400
MAX_KEPT_BYTES: Final = 4 << 20
"""Larger answers (tables, bundles) are given once and not kept."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A ledger as one person sees it, pinned at `size` entries. Every answer is made from one of these."""

    ledger: Ledger
    viewer: Viewer
    size: int
    written: Callable[[], Any]
    days: KeptDays | None = None
    """What was worked out about days before, as this person sees it."""

    @property
    def query(self) -> Query:
        """The views as of `size`, within the viewer's tenants."""
        return self.ledger.query(self.size)

    def rows(self, statement: str, params: list[Any] | None = None) -> pa.Table:
        """The answer to a statement of ours."""
        return self.query.trusted(statement, params)


Question = Callable[Concatenate[Reading, P], T]


@dataclass(slots=True)
class Asked:
    """A question under way. `result()` once `done`; `stop()` when nobody wants the answer any more."""

    future: Future[Any]
    stop: Callable[[], None]
    _begun: threading.Event

    @property
    def done(self) -> bool:
        """Whether there is an answer, or an error."""
        return self.future.done()

    @property
    def waiting(self) -> bool:
        """Whether it has not begun: as many run as there are cores."""
        return not self._begun.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long for the answer; whether it is there."""
        try:
            self.future.exception(timeout=seconds)
        except TimeoutError:
            return False
        return True


@dataclass(slots=True)
class Statements:
    """All questions of one process to one pool."""

    pool: Pool
    days: DayMemory = field(default_factory=DayMemory)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    _kept: OrderedDict[Any, Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _workers: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._workers = ThreadPoolExecutor(self.cores, thread_name_prefix="statement")

    def kept(self, viewer: Viewer, at: int, question: Question[P, T], *args: P.args, **more: P.kwargs) -> Any:
        """The answer that was given before, or None."""
        key = _key(viewer, at, question, args, more)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def ask(
        self, viewer: Viewer, at: int, question: Question[P, T], *args: P.args, **more: P.kwargs
    ) -> Asked:
        """Begin to answer `question(reading, *args)` for a person."""
        stop, begun = Stop(), threading.Event()

        def answer() -> T:
            begun.set()
            with stopped_by(stop):
                found = self.answer(viewer, at, question, *args, **more)
            if _weight(found) <= MAX_KEPT_BYTES:
                with self._lock:
                    self._kept[_key(viewer, at, question, args, more)] = found
                    while len(self._kept) > MAX_KEPT:
                        self._kept.popitem(last=False)
            return found

        return Asked(self._workers.submit(answer), stop.now, begun)

    def answer(self, viewer: Viewer, at: int, question: Question[P, T], *args: P.args, **more: P.kwargs) -> T:
        """The answer, worked out here and now; once more where files were merged away meanwhile."""
        try:
            return self._answer(viewer, at, question, *args, **more)
        except DamageError:
            self.pool.forget(at)
            return self._answer(viewer, at, question, *args, **more)

    def _answer(
        self, viewer: Viewer, at: int, question: Question[P, T], *args: P.args, **more: P.kwargs
    ) -> T:
        with self.pool.reading(at, viewer.tenants) as ledger:
            reading = Reading(
                ledger, viewer, at, lambda: self.pool.reading(at, viewer.tenants, written=True),
                self.days.of_tenants(viewer.tenants, ledger.store),
            )  # fmt: skip
            return question(reading, *args, **more)

    def forget_below(self, size: int) -> None:
        """Keep no answer that was made at less than `size` entries."""
        with self._lock:
            stale = [key for key in self._kept if key[1] < size]
            for key in stale:
                del self._kept[key]
        if stale:
            self.days.clear()

    def close(self) -> None:
        """End when what runs has ended."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self.pool.close()


def _weight(found: Any) -> int:
    if isinstance(found, pa.Table):
        return int(found.nbytes)
    return len(found) if isinstance(found, bytes) else 0


def _key(viewer: Viewer, at: int, question: Any, args: Any, more: Any) -> Any:
    return viewer.key, at, f"{question.__module__}.{question.__qualname__}", args, tuple(sorted(more.items()))
