"""The stream of signals: what every enforcement point must know, in order, as signed security events.

Positions only grow. A reader that starts from 0 gets all that can still matter: what is older than any
credential's life is dropped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from issuer.state.database import Database

KEPT_SECONDS: Final = 2 * 3_600
"""No credential lives longer than an hour: what was revoked before that has expired by itself."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal: what it is about, what happened, and why caches drop because of it."""

    position: int
    jti: str
    target: str
    event: str
    reason: str
    cause: str
    details: dict[str, Any]
    at: int


def add_signal(
    db: Database,
    jti: str,
    target: str,
    event: str,
    *,
    reason: str,
    cause: str,
    details: dict[str, Any],
    now: float,
) -> int | None:
    """Keep a signal; its position, or None where its id is known already."""
    with db.transaction():
        row = db.row(
            "INSERT INTO signals (jti, target, event, reason, cause, body, at) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO NOTHING RETURNING position",
            (jti, target, event, reason, cause, json.dumps(details), int(now)),
        )
        db.write("DELETE FROM signals WHERE at < ?", (int(now) - KEPT_SECONDS,))
    return None if row is None else int(row[0])


def signals_after(db: Database, position: int, limit: int) -> list[Signal]:
    """The signals behind a position, in order."""
    return [
        Signal(
            int(at_position),
            str(jti),
            str(target),
            str(event),
            str(reason),
            str(cause),
            json.loads(body),
            int(at),
        )
        for at_position, jti, target, event, reason, cause, body, at in db.rows(
            "SELECT position, jti, target, event, reason, cause, body, at FROM signals WHERE position > ? "
            "ORDER BY position LIMIT ?",
            (position, limit),
        )
    ]


def revoked_since(db: Database, principal: str, issued_at: int) -> bool:
    """Whether a principal was revoked in or after the second in which something was issued to it."""
    row = db.row(
        "SELECT 1 FROM signals WHERE target = ? AND cause = 'revocation' AND at >= ? LIMIT 1",
        (principal, issued_at),
    )
    return row is not None
