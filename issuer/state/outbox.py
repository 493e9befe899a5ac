"""Events on their way to the ledger: written with the state that they are about, sent in order, then removed.

The outbox is bounded. What happens when it is full is a setting: `refuse` fails the step whose event it is,
`drop` counts the event as dropped, which heartbeats then say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from issuer.state.database import Database

MAX_EVENTS: Final = 100_000
NEVER: Final = 1 << 62
"""The number of an event that was dropped: nobody who waits for it to be accepted goes on."""
SENT: Final = "events_sent"
DROPPED: Final = "events_dropped"
SEQUENCE: Final = "sequence"


class OutboxFull(Exception):
    """The ledger has not taken events for long: nothing more is done that nobody could look up later."""


def put(db: Database, event: Mapping[str, Any], *, limit: int = MAX_EVENTS, when_full: str = "refuse") -> int:
    """Keep one event, with the next number of the emitter's gapless counter; that number.

    Raises:
        OutboxFull: there is no room, and `when_full` is not `drop`.
    """
    with db.transaction():
        if pending(db) >= limit:
            if when_full != "drop":
                raise OutboxFull
            db.count(DROPPED)
            return NEVER
        sequence = db.count(SEQUENCE)
        body = json.dumps({**event, "sequence": sequence}, separators=(",", ":"), ensure_ascii=False)
        db.write("INSERT INTO outbox VALUES (?, ?)", (sequence, body))
    return sequence


def pending(db: Database) -> int:
    """How many events wait."""
    row = db.row("SELECT coalesce(max(sequence) - min(sequence) + 1, 0) FROM outbox")
    assert row is not None
    return int(row[0])


def next_events(db: Database, limit: int) -> list[tuple[int, str]]:
    """The oldest events that wait: number and JSON text."""
    return [
        (int(number), str(body))
        for number, body in db.rows("SELECT sequence, body FROM outbox ORDER BY sequence LIMIT ?", (limit,))
    ]


def sent(db: Database, up_to: int) -> None:
    """The ledger's intake has accepted all events up to this number."""
    with db.transaction():
        db.count(SENT, db.write("DELETE FROM outbox WHERE sequence <= ?", (up_to,)))
