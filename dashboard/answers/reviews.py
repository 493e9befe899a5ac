"""Standing authority for review: exceptions, grants, permissions that nobody uses, and the last drill."""

from __future__ import annotations

from datetime import datetime, timedelta
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
    state = {
        "now": now,
        "exceptions": exceptions_at(reading.ledger, now, at=reading.size),
        "grants": grants_at(reading.ledger, now, at=reading.size),
        "stale": stale_permissions(reading.ledger, now, at=reading.size, kept=reading.days),
        "last_drill": drill["last"],
    }
    return {**state, "campaign": campaign(reading, state)}


def campaign(reading: Reading, state: dict[str, Any]) -> dict[str, Any]:
    """The campaign of the ledger's month: what stands, and which of it was reviewed in this month.

    It holds every exception that is not closed, and every grant; it is due at the month's end.
    """
    reading.viewer.require(Right.ROWS)
    now: datetime = state["now"]
    begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = (begin + timedelta(days=32)).replace(day=1)
    last = {row["target"]: row for row in reading.rows(_REVIEWED, [begin, end]).to_pylist()}
    rows = [
        {
            "target": f"exception:{one['exception_id']}",
            "what": one["reason"] or "no reason given",
            "owner": one["owner"],
            "tenant": one["tenant"],
            "ends": one["expires_at"],
            "uses": one["uses"],
            "last_used": one["last_used"],
        }
        for one in state["exceptions"]
        if one["state"] != "closed"
    ]
    rows += [
        {
            "target": f"grant:{one['grant_id']}",
            "what": ", ".join(one["covers"] or []),
            "owner": one["principal"],
            "tenant": None,
            "ends": one["expires_at"],
            "uses": one["uses"],
            "last_used": one["last_used"],
        }
        for one in state["grants"]
    ]
    for row in rows:
        reviewed = last.get(row["target"])
        row["outcome"] = None if reviewed is None else reviewed["outcome"]
        row["by"] = None if reviewed is None else reviewed["actor"]
    return {
        "name": f"{begin:%Y-%m}",
        "due": end,
        "rows": rows,
        "done": sum(row["outcome"] is not None for row in rows),
    }


_REVIEWED: Final = """
SELECT target, max_by(outcome, time) AS outcome, max_by(actor, time) AS actor FROM reviews
WHERE time >= ? AND time < ? AND target IS NOT NULL AND outcome IN ('kept', 'shortened', 'closed')
GROUP BY target
"""
