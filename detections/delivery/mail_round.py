"""The thread that sends: a receiver that is slow or away never holds up the engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import structlog

from ledger.format.manifest import Append, parse_instant

LOOK_SECONDS: Final = 0.25
LAST_SECONDS: Final = 10.0
"""How long an engine that ends waits for what is due."""
MAX_HANDED: Final = 10_000
"""Entries that wait for the thread; then the engine waits for it."""

log = structlog.get_logger()
Steps = tuple[Append, list[dict[str, Any]]]


class Outgoing(Protocol):
    """What takes sealed alert steps and sends: a post room, or a responder."""

    @property
    def cursor(self) -> int:
        """The entry from which on steps are wanted."""
        ...

    def take(self, index: int, sealed_at: datetime, steps: Iterable[Mapping[str, Any]]) -> None:
        """The steps of entry `index`; entries come in order."""
        ...

    def send(self, now: datetime) -> int:
        """Send what is due."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...


class MailRound:
    """Owns what sends; `hand_over` is called by the engine's thread, everything else happens in its own."""

    def __init__(self, post: Outgoing, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._post = post
        self._clock = clock
        self._next = post.cursor
        self._handed: queue.Queue[Steps] = queue.Queue(MAX_HANDED)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="routes", daemon=True)
        self._thread.start()

    def hand_over(self, size: int, sealed_since: Callable[[int], Iterator[Steps]]) -> None:
        """Take what was sealed since the last time, of a log that has `size` entries now."""
        if size > self._next:
            for entry, steps in sealed_since(self._next):
                self._handed.put((entry, steps))
            self._next = size

    def close(self) -> None:
        """Send what is due, and end."""
        self._ending.set()
        self._thread.join(LAST_SECONDS)
        self._post.close()

    def _serve(self) -> None:
        while True:
            ending = self._ending.is_set()
            self._take()
            try:
                self._post.send(self._clock())
            except Exception as error:  # noqa: BLE001 - a route must not end the others' thread
                log.error("sending failed", error=f"{type(error).__name__}: {error}")
            if ending:
                return
            self._ending.wait(LOOK_SECONDS)

    def _take(self) -> None:
        while True:
            try:
                entry, steps = self._handed.get_nowait()
            except queue.Empty:
                return
            self._post.take(entry.index, parse_instant(entry.time), steps)
