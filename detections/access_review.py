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


def grants_at(ledger: Ledger, when: datetime, *, at: int | None = None) -> list[dict[str, Any]]:
    """Delegation grants that stand at `when`, those of the longest life first; `days`: of its whole life."""
    rows: list[dict[str, Any]] = ledger.query(at).trusted(_GRANTS, [when]).to_pylist()
    return rows


def stale_permissions(ledger: Ledger, when: datetime, *, at: int | None = None) -> list[dict[str, Any]]:
    """Scopes that principals held in the last days before `when` and that no action of theirs needed.

    Only of principals whose first sighting lies at least USE_DAYS before: of others nobody can know yet.
    People are left out; a wider scope that covers what was needed counts as used.
    """
    rows: list[dict[str, Any]] = ledger.query(at).trusted(_STALE, [when]).to_pylist()
    return rows


_GRANTS: Final = f"""
WITH said AS (
    SELECT *, row_number() OVER (PARTITION BY grant_id ORDER BY time, source, event_id) AS nth
    FROM delegations WHERE grant_id IS NOT NULL AND time < $1
), lives AS (
    SELECT grant_id, arg_max(coalesce(delegated_actor, actor), nth) AS principal,
           arg_max(grant_covers, nth) AS covers, arg_max(approved_by, nth) AS approved_by,
           min(coalesce(issued_at, time)) AS opened_at, arg_max(expires_at, nth) AS expires_at,
           bool_or(outcome IN ('closed', 'revoked')) AS closed
    FROM said GROUP BY grant_id
), uses AS (
    SELECT grant_id, count(*) AS uses, max(time) AS last_used FROM events
    WHERE grant_id IS NOT NULL AND kind IN ('decision', 'action', 'issuance') AND time < $1
      AND time >= $1::TIMESTAMPTZ - INTERVAL {USE_DAYS} DAY
    GROUP BY grant_id
)
SELECT grant_id, principal, covers, approved_by, opened_at, expires_at,
       date_diff('day', opened_at, expires_at) AS days, coalesce(uses, 0) AS uses, last_used
FROM lives LEFT JOIN uses USING (grant_id)
WHERE NOT coalesce(closed, false) AND coalesce(expires_at > $1, true)
ORDER BY days DESC NULLS FIRST, grant_id
"""  # noqa: S608  # one constant
_STALE: Final = f"""
WITH acts AS (
    SELECT coalesce(delegated_actor, actor) AS principal, time, kind, scopes, required_scopes FROM events
    WHERE kind IN ('decision', 'action', 'issuance') AND time < $1
      AND NOT starts_with(coalesce(delegated_actor, actor, ''), 'user:')
), known AS (
    SELECT principal FROM acts WHERE principal IS NOT NULL GROUP BY principal
    HAVING min(time) <= $1::TIMESTAMPTZ - INTERVAL {USE_DAYS} DAY
), held AS (
    SELECT principal, scope, max(time) AS last_held
    FROM (SELECT principal, time, unnest(scopes) AS scope FROM acts SEMI JOIN known USING (principal))
    WHERE time >= $1::TIMESTAMPTZ - INTERVAL {USE_DAYS} DAY GROUP BY ALL
), used AS (
    SELECT principal, scope, max(time) AS last_used
    FROM (SELECT principal, time, unnest(required_scopes) AS scope FROM acts WHERE kind = 'action')
    GROUP BY ALL
)
SELECT held.principal, held.scope, last_held, max(used.last_used) AS last_used
FROM held LEFT JOIN used ON used.principal = held.principal AND covers(used.scope, held.scope)
GROUP BY ALL
HAVING coalesce(max(used.last_used) < $1::TIMESTAMPTZ - INTERVAL {USE_DAYS} DAY, true)
ORDER BY held.principal, held.scope
"""  # noqa: S608  # one constant
