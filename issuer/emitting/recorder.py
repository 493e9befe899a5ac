"""The recorder: gives each event its id, time and number, and puts it into the outbox with its state."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

from issuer.emitting.steps import event
from issuer.state.database import Database
from issuer.state.outbox import MAX_EVENTS, put


def random_id() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


class Recorder:
    """Where every service leaves what it did. Safe inside a transaction: then both stand or neither."""

    def __init__(
        self,
        db: Database,
        *,
        clock: Callable[[], float] = time.time,
        new_id: Callable[[], str] = random_id,
        limit: int = MAX_EVENTS,
        when_full: str = "refuse",
    ) -> None:
        self.db = db
        self.clock = clock
        self.new_id = new_id
        self._limit = limit
        self._when_full = when_full
        # Random, since a host's name would be handed out with every evidence bundle.
        self.instance = db.remembered("instance", f"issuer-{secrets.token_hex(4)}")
        self.on_put: Callable[[int], None] = lambda _: None

    def record(self, kind: str, **fields: Any) -> tuple[str, int]:
        """Leave one event; its id, and its number in the outbox.

        Raises:
            OutboxFull: there is no room, and events may not be dropped.
        """
        event_id = self.new_id()
        body = event(kind, event_id, self.clock(), self.instance, **fields)
        number = put(self.db, body, limit=self._limit, when_full=self._when_full)
        self.on_put(number)
        return event_id, number
