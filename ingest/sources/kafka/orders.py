"""What the parent tells the reading process: positions, seeks, flushes, credit, the end."""

from __future__ import annotations

import collections
import os
import queue
import threading
from typing import Any

from ingest.sources.kafka import settings as limits
from ingest.sources.kafka.wire import Kind, Wire


class Orders:
    """What the parent says, as it comes in; filled by a thread of its own."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.closing = threading.Event()
        self.answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.seeks: collections.deque[dict[str, Any]] = collections.deque()
        self.flushed = 0
        self._credit = limits.CREDIT_BYTES
        self._changed = threading.Condition()

    def listen(self) -> None:
        """Until CLOSE; ends the process when the parent is gone."""
        while True:
            try:
                kind, said, _ = self.wire.receive()
            except EOFError:
                os._exit(0)  # nobody is left to hand anything to
            if kind is Kind.POSITIONS:
                self.answers.put(said)
            elif kind is Kind.SEEK:
                self.seeks.append(said)
            elif kind is Kind.FLUSHED:
                self.flushed = said["id"]
            elif kind is Kind.CREDIT:
                self.spend(-said["bytes"])
            elif kind is Kind.CLOSE:
                self.closing.set()
                with self._changed:
                    self._changed.notify()

    def answer(self) -> dict[str, Any] | None:
        """What the parent replies to ASK, however long it reads its ledger; None when it closes."""
        while not self.closing.is_set():
            try:
                return self.answers.get(timeout=limits.IDLE_CHECK_SECONDS)
            except queue.Empty:
                continue
        return None

    def spend(self, size: int) -> None:
        """Count what was shipped (or, negative, what was taken), in bytes."""
        with self._changed:
            self._credit -= size
            self._changed.notify()

    def may_read(self, timeout: float) -> bool:
        """Whether there is room for more, waiting for it up to `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._credit > 0 or self.closing.is_set(), timeout)
