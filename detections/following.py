"""An engine that follows its ledger, and what it sends: alerts to routes, answers to where they revoke."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from detections.day_keeping import DayKeeping
from detections.defaults import MEMORY_MIB, WAIT_SECONDS
from detections.delivery.mail_round import MailRound
from detections.delivery.post import PostRoom
from detections.delivery.routes import Route
from detections.engine import Engine, Run
from detections.engine_notes import note_engine
from detections.meters import EngineMeters
from detections.response.responder import Responder
from detections.response.settings import ResponseSettings
from ledger.meters import serve_meters
from ledger.upkeep.keeping import Keeping
from ledger.writer import Writer

NOTE_EVERY: Final = timedelta(seconds=5)
"""How often an engine that has something to do leaves word of itself."""
RESPONSES: Final = "_response.json"
"""Beside the routes' cursors: how far answers have got. No route can have this name."""


class Following:
    """One engine and its ways out; `folder` keeps how far each of them has got."""

    def __init__(
        self, writer: Writer, folder: Path, routes: Sequence[Route] = (),
        response: ResponseSettings | None = None, *, memory_mib: int = MEMORY_MIB,
        keeping: Keeping | None = None,
    ) -> None:  # fmt: skip
        head = writer.state.size
        self._writer = writer
        self._keeping = keeping or Keeping(writer)
        self._stop_meters: Callable[[], None] | None = None
        self._meters: EngineMeters | None = None
        self._told: dict[str, tuple[str, int]] = {}
        self._noted: datetime | None = None
        self._days = DayKeeping(writer.store, writer.clock)
        # Keys and secrets first: what is wrong with them is said before rows are read.
        self.post = PostRoom(routes, folder, head) if routes else None
        self.responder = Responder(response, folder / RESPONSES, head) if response is not None else None
        self.engine = Engine(writer, memory={"memory_bytes": memory_mib << 20})
        self._rounds = [MailRound(one) for one in (self.post, self.responder) if one is not None]

    def listen(self, address: str) -> None:
        """Tell at `address` what the engine counts."""
        self._meters = EngineMeters(self.engine, self.post, self.responder)
        self._stop_meters = serve_meters(address, self._meters.registry)[1]

    def until(self, stopped: threading.Event, told: Callable[[Run], None], *, once: bool) -> dict[str, Any]:
        """Judge what comes until `stopped`, or once all that is there; what was done."""
        steps = 0
        while not stopped.is_set():
            begun = time.perf_counter()
            run = self.engine.run()
            if run is not None and self._meters is not None:
                self._meters.ran(run, time.perf_counter() - begun)
            self._note(run)
            self._keeping.step()
            for mail in self._rounds:
                mail.hand_over(self._writer.state.size, self.engine.sealed_since)
            if run is not None:
                steps += len(run.steps)
                told(run)
            elif once:
                break
            elif not self._days.step(self._writer.state.size):
                stopped.wait(WAIT_SECONDS)
        while once and not stopped.is_set() and self._days.step(self._writer.state.size):
            pass
        troubles = {name: one.message for name, one in self.engine.watch.troubles.items()}
        return {"judged": self._writer.state.size, "steps": steps, "troubles": troubles}

    def _note(self, run: Run | None) -> None:
        """Leave word for those who look: at once when a rule's trouble changes, else every few seconds."""
        watch, now = self.engine.watch, self._writer.clock()
        troubles = {name: (one.message, one.times) for name, one in watch.troubles.items()}
        due = self._noted is None or now - self._noted >= NOTE_EVERY
        if troubles == self._told and not (due and run is not None):
            return
        note_engine(
            self._writer.store,
            self._writer.name,
            now,
            judged=self._writer.state.size,
            troubles=troubles,
            stalled=watch.clocks.stalled(),
        )
        self._told, self._noted = troubles, now

    def close(self) -> None:
        """Send what is due, and end."""
        self._keeping.finish()
        if self._stop_meters is not None:
            self._stop_meters()
        for mail in self._rounds:
            mail.close()
        self.engine.close()
