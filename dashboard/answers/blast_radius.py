"""What a compromise reaches: all that was derived from a credential, what was done, what to take back."""

from __future__ import annotations

from typing import Any, Final

from dashboard.access import Right
from dashboard.statements import Reading
from ledger.errors import UsageError

MAX_LISTED: Final = 500
MAX_DERIVED: Final = 2_000
_DERIVED: Final = f"""
WITH RECURSIVE derived(credential_id, parent, depth) AS (
    SELECT $1, NULL::VARCHAR, 0
    UNION
    SELECT e.credential_id, e.parent_credential_id, d.depth + 1
    FROM events e JOIN derived d ON e.parent_credential_id = d.credential_id
    WHERE e.credential_id IS NOT NULL AND e.credential_id <> e.parent_credential_id AND d.depth < 64
)
SELECT credential_id, min(parent) AS parent, min(depth) AS depth FROM derived
GROUP BY credential_id ORDER BY depth, credential_id LIMIT {MAX_DERIVED}
"""  # noqa: S608  # one constant
_OF_THEM: Final = "credential_id IN (SELECT unnest($1))"
_USES: Final = f"""
SELECT credential_id, kind, coalesce(delegated_actor, actor) AS principal, action, decision, data_class,
       count(*) AS n, min(time) AS first, max(time) AS last
FROM events WHERE {_OF_THEM} AND kind IN ('decision', 'action')
GROUP BY ALL ORDER BY last DESC, credential_id, principal, action LIMIT {MAX_LISTED}
"""  # noqa: S608  # constants alone
_LIVES: Final = f"""
SELECT credential_id, min(session_id) AS session_id, min(credential_type) AS type,
       min(coalesce(delegated_actor, actor)) AS principal, min(coalesce(issued_at, time)) AS issued,
       max(expires_at) AS expires, max(time) FILTER (kind = 'action' OR decision = 'allow') AS last_accepted
FROM events WHERE {_OF_THEM} GROUP BY credential_id
"""  # noqa: S608  # constants alone
_ENDED: Final = """
SELECT target, min(time) FILTER (kind = 'signal') AS signalled,
       min(time) FILTER (kind = 'revocation') AS revoked
FROM events WHERE kind IN ('signal', 'revocation') AND target IN (SELECT unnest($1)) GROUP BY target
"""
_TOUCHED: Final = {
    "session_id": "session", "credential_id": "credential", "delegated_actor": "agent",
}  # fmt: skip


def compromise(reading: Reading, credential_id: str) -> dict[str, Any]:
    """A credential, all derived from it, their uses, when each was taken back, and what still stands.

    Raises:
        UsageError: no event names the credential.
    """
    reading.viewer.require(Right.ROWS)
    derived = reading.rows(_DERIVED, [credential_id]).to_pylist()
    ids = [one["credential_id"] for one in derived]
    lives = {row["credential_id"]: row for row in reading.rows(_LIVES, [ids]).to_pylist()}
    if credential_id not in lives:
        raise UsageError(
            f"No event names the credential {credential_id!r}.", "Paste its id as events have it."
        )
    sessions = sorted({row["session_id"] for row in lives.values() if row["session_id"]})
    targets = [*(f"credential:{one}" for one in ids), *(f"session:{one}" for one in sessions)]
    ended = {row["target"]: row for row in reading.rows(_ENDED, [targets]).to_pylist()}
    now = reading.ledger.as_of(reading.size).clock
    found = []
    for one in derived:
        life = lives.get(one["credential_id"], {})
        own = [
            ended.get(f"credential:{one['credential_id']}"),
            ended.get(f"session:{life.get('session_id')}"),
        ]
        revoked = min((row["revoked"] for row in own if row and row["revoked"]), default=None)
        signalled = min((row["signalled"] for row in own if row and row["signalled"]), default=None)
        expires = life.get("expires")
        found.append(
            {
                **one,
                **{name: life.get(name) for name in ("type", "principal", "session_id", "issued", "expires")},
                "last_accepted": life.get("last_accepted"),
                "signalled": signalled,
                "revoked": revoked,
                "seconds_to_revocation": None
                if revoked is None or signalled is None
                else (revoked - signalled).total_seconds(),
                "stands": revoked is None and (expires is None or expires > now),
            }
        )
    uses = reading.rows(_USES, [ids]).to_pylist()
    return {
        "credentials": found,
        "sessions": sessions,
        "uses": uses,
        "data_classes": sorted({row["data_class"] for row in uses if row["data_class"]}),
        "to_revoke": [f"credential:{one['credential_id']}" for one in found if one["stands"]],
    }


def touched(reading: Reading, trace_id: str) -> list[dict[str, Any]]:
    """What else the sessions, credentials and agents of a trace did: by who, the most used first."""
    reading.viewer.require(Right.ROWS)
    found: list[dict[str, Any]] = []
    for column, kind in _TOUCHED.items():
        rows = reading.rows(
            f"SELECT {column} AS id, action, resource, data_class, tenant, count(*) AS n, "  # noqa: S608  # constants alone
            "count(*) FILTER (decision = 'deny') AS denied, max(time) AS last FROM events "
            f"WHERE {column} IN (SELECT {column} FROM events WHERE trace_id = $1 AND {column} IS NOT NULL) "
            "AND coalesce(trace_id, '') <> $1 AND kind IN ('decision', 'action') AND resource IS NOT NULL "
            f"GROUP BY ALL ORDER BY n DESC, id, action, resource LIMIT {MAX_LISTED}",
            [trace_id.lower()],
        ).to_pylist()
        found += [{"by": kind, **row} for row in rows]
    return found
