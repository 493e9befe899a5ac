"""The queue itself: messages with their contexts, in the state. A message id is completed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from issuer.state.database import Database

MAX_WAITING: Final = 10_000
MAX_ATTEMPTS: Final = 5
KEPT_SECONDS: Final = 3_600
"""How long a completed id is remembered: longer than any context lives."""


class QueueFull(Exception):
    """Too much waits already."""


@dataclass(frozen=True, slots=True)
class Queued:
    """One message that waits."""

    message_id: str
    queue: str
    context: str
    body: bytes
    attempts: int


def put(db: Database, message_id: str, queue: str, context: str, body: bytes, *, now: float) -> bool:
    """Let a message wait; False where its id is known already.

    Raises:
        QueueFull: there is no room.
    """
    with db.transaction():
        db.write("DELETE FROM queue WHERE done_at < ?", (int(now) - KEPT_SECONDS,))
        row = db.row("SELECT count(*) FROM queue WHERE done_at IS NULL")
        if row is not None and row[0] >= MAX_WAITING:
            raise QueueFull
        found = db.row(
            "INSERT INTO queue VALUES (?, ?, ?, ?, 0, NULL) ON CONFLICT DO NOTHING RETURNING 1",
            (message_id, queue, context, body),
        )
    return found is not None


def take(db: Database, queue: str) -> Queued | None:
    """The oldest message that waits, and one attempt more; the same again until it is completed."""
    with db.transaction():
        row = db.row(
            "UPDATE queue SET attempts = attempts + 1 WHERE rowid = (SELECT min(rowid) FROM queue WHERE "
            "queue = ? AND done_at IS NULL) RETURNING message_id, queue, context, body, attempts",
            (queue,),
        )
    return None if row is None else Queued(*row)


def is_done(db: Database, message_id: str) -> bool | None:
    """Whether a message was done or given up; None where there is none."""
    row = db.row("SELECT done_at FROM queue WHERE message_id = ?", (message_id,))
    return None if row is None else row[0] is not None


def complete(db: Database, message_id: str, *, now: float) -> bool:
    """It is done, and is not done again; whether it was not before."""
    changed = db.write(
        "UPDATE queue SET done_at = ? WHERE message_id = ? AND done_at IS NULL", (int(now), message_id)
    )
    return changed > 0
