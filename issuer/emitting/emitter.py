"""The emitter: sends what waits in the outbox, in order, until the intake has it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from issuer.emitting.recorder import Recorder
from issuer.emitting.sinks import Sink
from issuer.state.outbox import DROPPED, SENT, next_events, pending, sent
from ledger.errors import LedgerError

BATCH_EVENTS: Final = 500
RETRY_SECONDS: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
LOOK_SECONDS: Final = 0.2
"""How often the outbox is looked at for events that another process left, such as `issuer revoke`."""
LINGER_SECONDS: Final = 0.01
HEARTBEAT_SECONDS: Final = 30.0

log = structlog.get_logger()


class Emitter:
    """Runs as one task beside the services."""

    def __init__(
        self, recorder: Recorder, sink: Sink, *, heartbeat_seconds: float = HEARTBEAT_SECONDS
    ) -> None:
        self._recorder = recorder
        self._db = recorder.db
        self._sink = sink
        self._heartbeat_seconds = heartbeat_seconds
        self._left = asyncio.Event()
        self._went = asyncio.Condition()
        self._up_to = 0
        self._urgent = 0
        self.failing = False
        """Whether the last attempt to send failed."""
        recorder.on_put = lambda _: self._left.set()

    async def run(self) -> None:
        """Send until cancelled; what is left then waits for the next start."""
        beat = asyncio.get_running_loop().time() + self._heartbeat_seconds
        attempt = 0
        while True:
            if asyncio.get_running_loop().time() >= beat:
                self.heartbeat()
                beat += self._heartbeat_seconds
            batch = next_events(self._db, BATCH_EVENTS)
            if not batch:
                self._left.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._left.wait()
                if not self._urgent:
                    await asyncio.sleep(LINGER_SECONDS)  # events of some milliseconds share a commit
                continue
            try:
                await self._sink.send([text for _, text in batch])
            except LedgerError as error:
                if not self.failing:
                    log.warning("events wait", waiting=pending(self._db), error=str(error))
                self.failing = True
                await asyncio.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            attempt = 0
            self.failing = False
            await self._gone(batch[-1][0])

    async def _gone(self, number: int) -> None:
        sent(self._db, number)
        async with self._went:
            self._up_to = number
            self._went.notify_all()

    async def accepted(self, number: int, *, seconds: float) -> bool:
        """Whether the intake has the event of this number, within so many seconds."""

        async def wait() -> None:
            async with self._went:
                await self._went.wait_for(lambda: self._up_to >= number)

        self._urgent += 1
        self._left.set()
        try:
            async with asyncio.timeout(seconds):
                await wait()
        except TimeoutError:
            return False
        finally:
            self._urgent -= 1
        return True

    async def drained(self) -> None:
        """Returns when nothing waits."""
        async with self._went:
            await self._went.wait_for(lambda: not self.waiting)

    @property
    def waiting(self) -> int:
        """Events that the intake has not taken yet."""
        return pending(self._db)

    def heartbeat(self) -> None:
        """Say how many events went out and how many were dropped so far."""
        self._recorder.record(
            "heartbeat", sent=self._db.counter(SENT), dropped=self._db.counter(DROPPED), outcome="alive"
        )
