"""Who looked at what, from the events that say so."""

from __future__ import annotations

from typing import Any, Final

import orjson

from dashboard.access import Right
from dashboard.answers.filters import Filters
from dashboard.statements import Reading

MAX_SHOWN: Final = 500


def looked(reading: Reading, filters: Filters) -> dict[str, Any]:
    """Counts by person and action, and the newest of what they did."""
    reading.viewer.require(Right.ACCESS_AUDIT)
    where, values = filters.where()
    counts = reading.rows(
        f"SELECT actor, action, count(*) AS n, max(time) AS last FROM accesses WHERE {where} "  # noqa: S608  # constants alone
        "GROUP BY ALL ORDER BY n DESC, actor, action LIMIT 500",
        values,
    )
    rows = reading.rows(
        f"SELECT time, actor, action, resource, attributes FROM accesses WHERE {where} "  # noqa: S608  # constants alone
        f"ORDER BY time DESC, event_id LIMIT {MAX_SHOWN}",
        values,
    ).to_pylist()
    for row in rows:
        row["what"] = ", ".join(
            f"{name}={one}" for name, one in orjson.loads(row.pop("attributes") or "{}").items()
        )
    counted: list[dict[str, Any]] = counts.to_pylist()
    return {"counts": counted, "rows": rows, "total": sum(row["n"] for row in counted)}
