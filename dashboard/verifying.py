"""The dashboard's own verifications: when the last one was, up to which entry, and what it found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dashboard.pool import Pool
from ledger.errors import LedgerError
from ledger.verify.findings import Finding, Report


@dataclass(frozen=True, slots=True)
class Verified:
    """The end of one verification."""

    when: datetime
    size: int
    ok: bool
    damage: tuple[Finding, ...]
    listed: tuple[Finding, ...]
    mode: str


@dataclass(slots=True)
class Verifier:
    """Verifies a pool's ledger, one run at a time, in a thread of its own."""

    pool: Pool
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    last: Verified | None = None
    failure: str | None = None
    progress: tuple[int, int] = (0, 0)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _thread: threading.Thread | None = None
    _closed: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether a verification is under way."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin a full verification, unless one is under way."""
        with self._lock:
            if not self.running:
                self.progress = (0, 0)
                self._thread = threading.Thread(target=self._run, name="verify", daemon=True)
                self._thread.start()

    def repeat(self, minutes: int) -> None:
        """Begin one now, and again every so many minutes; 0: never by itself."""
        if minutes:
            threading.Thread(
                target=self._repeat, args=(minutes * 60,), name="verify-again", daemon=True
            ).start()

    def wait(self, seconds: float) -> bool:
        """Wait for the run under way; whether it has ended."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return not self.running

    def close(self) -> None:
        """No further run begins by itself."""
        self._closed.set()

    def _repeat(self, seconds: float) -> None:
        while not self._closed.is_set():
            self.start()
            self._closed.wait(seconds)

    def _run(self) -> None:
        try:
            report = self.pool.newest(look=True).verify(progress=self._tell)
        except LedgerError as error:
            self.failure = str(error)
            return
        self.failure = None
        self.last = self._verified(report)

    def _tell(self, done: int, of: int) -> None:
        self.progress = (done, of)

    def _verified(self, report: Report) -> Verified:
        size = report.head.size if report.head is not None else 0
        return Verified(
            self.clock(),
            size,
            report.ok,
            tuple(report.damaged[:200]),
            tuple(report.listed[:200]),
            report.mode,
        )
