"""What is missing of a source by its own numbers: gapless counters of its emitters."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ledger.query.engine import Query


def missing_by_source(
    query: Query, since: datetime | None = None, until: datetime | None = None
) -> dict[str, int]:
    """By source: how many numbers between the first and the last of each emitter were not seen.

    In [since, until) where both are given. A source without numbers is not there: nothing can be said of it.
    """
    within, values = "", list[Any]()
    if since is not None and until is not None:
        within, values = "time >= ? AND time < ? AND ", [since, until]
    rows = query.trusted(
        "SELECT source, CAST(sum(span - seen) AS BIGINT) AS missing FROM ("  # noqa: S608  # constants alone
        " SELECT source, max(sequence) - min(sequence) + 1 AS span, count(DISTINCT sequence) AS seen"
        f" FROM events WHERE {within}sequence IS NOT NULL GROUP BY source, instance"  # constants alone
        ") GROUP BY source",
        values,
    )
    return {row["source"]: row["missing"] for row in rows.to_pylist()}
