"""Standing authority for review: exceptions, grants, permissions that nobody uses, and the last drill."""

from __future__ import annotations

from typing import Any, Final

from dashboard.access import Right
from dashboard.statements import Reading
from detections.access_review import exceptions_at, grants_at, stale_permissions

_LAST_DRILL: Final = "SELECT max(time) AS last FROM events WHERE exercise IS NOT NULL"


def review_state(reading: Reading) -> dict[str, Any]:
    """All that a review looks at, as of the ledger's clock."""
    reading.viewer.require(Right.ROWS)
    now = reading.ledger.as_of(reading.size).clock
    (drill,) = reading.rows(_LAST_DRILL).to_pylist()
    return {
        "now": now,
        "exceptions": exceptions_at(reading.ledger, now, at=reading.size),
        "grants": grants_at(reading.ledger, now, at=reading.size),
        "stale": stale_permissions(reading.ledger, now, at=reading.size),
        "last_drill": drill["last"],
    }
