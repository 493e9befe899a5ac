"""Authority that stands beyond the moment: exceptions as they are at a time, and whether they are used."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Final

from detections.day_answers import answers_of
from detections.metrics.by_day import IDENTITIES, SCOPES
from detections.metrics.kept_days import KeptDays
from ledger.format.scopes import covers
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


def stale_permissions(
    ledger: Ledger, when: datetime, *, at: int | None = None, kept: KeptDays | None = None
) -> list[dict[str, Any]]:
    """Scopes that principals held in the last days before `when` and that no action of theirs needed.

    Only of principals whose first sighting lies at least USE_DAYS before: of others nobody can know yet.
    People are left out; a wider scope that covers what was needed counts as used. `kept` holds what was
    worked out of days before.
    """
    answers = answers_of(ledger, at, kept)
    since = when - timedelta(days=USE_DAYS)
    known = {one["principal"] for one in answers.items(IDENTITIES) if one["first_seen"] <= since}
    held: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    used: dict[str, list[tuple[str, datetime]]] = defaultdict(list)
    for row in answers.items(SCOPES):
        if row["principal"] in known and not row["principal"].startswith("user:"):
            (held if row["what"] == "held" else used)[row["principal"]].append((row["scope"], row["time"]))
    answers.flush()
    found = []
    for principal in sorted(held):
        for scope, last_held in sorted(held[principal]):
            last_used = max((time for one, time in used[principal] if covers(scope, one)), default=None)
            if last_held >= since and (last_used is None or last_used < since):
                found.append(
                    {"principal": principal, "scope": scope, "last_held": last_held, "last_used": last_used}
                )
    return found


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
