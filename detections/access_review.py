"""Authority that stands beyond the moment: exceptions as they are at a time, and whether they are used."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from ledger.reader import Ledger

USE_DAYS: Final = 90
"""Use is looked for in so many days before."""
_EXCEPTIONS: Final = f"""
WITH said AS (
    SELECT *, row_number() OVER (PARTITION BY exception_id ORDER BY time, source, event_id) AS nth
    FROM exceptions WHERE exception_id IS NOT NULL AND exercise IS NULL AND time < $1
), lives AS (
    SELECT exception_id, min(tenant) AS tenant, min(environment) AS environment,
           min(time) FILTER (outcome = 'opened') AS opened_at,
           max(time) FILTER (outcome = 'closed') AS closed_at,
           max(time) FILTER (outcome = 'reviewed') AS reviewed_at,
           max(time) FILTER (outcome IN ('opened', 'extended')) AS term_since,
           arg_max(expires_at, nth) FILTER (outcome IN ('opened', 'extended')) AS expires_at,
           arg_max(review_due_at, nth) FILTER (outcome IN ('opened', 'extended')) AS review_due_at,
           arg_max(owner, nth) AS owner, arg_min(reason, nth) AS reason,
           arg_max(coalesce(delegated_actor, actor), nth) FILTER (outcome = 'opened') AS principal,
           arg_min(source || '#' || event_id, nth) AS opening,
           arg_max(source || '#' || event_id, nth) AS newest
    FROM said GROUP BY exception_id
), uses AS (
    SELECT exception_id, count(*) AS uses, max(time) AS last_used FROM events
    WHERE exception_id IS NOT NULL AND kind IN ('decision', 'action', 'issuance') AND time < $1
      AND time >= $1::TIMESTAMPTZ - INTERVAL {USE_DAYS} DAY
    GROUP BY exception_id
)
SELECT exception_id, tenant, environment, principal, owner, reason, opened_at, expires_at, review_due_at,
       reviewed_at, closed_at, coalesce(uses, 0) AS uses, last_used, opening, newest,
       CASE WHEN closed_at IS NOT NULL THEN 'closed' WHEN expires_at <= $1 THEN 'expired' ELSE 'active' END
           AS state,
       coalesce(reviewed_at >= term_since, false) = false
           AND (coalesce(review_due_at <= $1, false)
                OR (closed_at IS NULL AND coalesce(expires_at <= $1, false)))
           AS overdue
FROM lives LEFT JOIN uses USING (exception_id) WHERE opened_at IS NOT NULL
ORDER BY overdue DESC, state, opened_at, exception_id
"""  # noqa: S608  # one constant


def exceptions_at(ledger: Ledger, when: datetime, *, at: int | None = None) -> list[dict[str, Any]]:
    """Every exception that was opened before `when`, as it stood then; declared drills are left out.

    `state` is active, expired or closed; `overdue`: its review was due, or it expired unclosed, and nobody
    has reviewed it since its last term began (the rule of the metric exception-half-life).
    """
    rows: list[dict[str, Any]] = ledger.query(at).trusted(_EXCEPTIONS, [when]).to_pylist()
    return rows
