"""Grants of delegation and exceptions as they stand now: from their files at first, then as changed."""

from __future__ import annotations

from collections.abc import Iterable

from issuer.registry.exceptions import ExceptionRecord
from issuer.registry.people import Grant
from issuer.state.database import Database
from ledger.format.scopes import beyond


def add_grant(db: Database, grant: Grant) -> bool:
    """Keep a grant; False where one of this id is known."""
    row = db.row(
        "INSERT INTO grants VALUES (?, ?, NULL) ON CONFLICT DO NOTHING RETURNING 1",
        (grant.id, grant.model_dump_json()),
    )
    return row is not None


def find_grant(db: Database, grant_id: str, *, now: float) -> Grant | None:
    """A grant that is open: neither closed nor expired."""
    row = db.row("SELECT body, closed_at FROM grants WHERE id = ?", (grant_id,))
    if row is None or row[1] is not None:
        return None
    grant = Grant.model_validate_json(row[0])
    return grant if grant.expires_at.timestamp() > now else None


def close_grant(db: Database, grant_id: str, *, now: float) -> bool:
    """Close a grant; whether it was open."""
    return (
        db.write("UPDATE grants SET closed_at = ? WHERE id = ? AND closed_at IS NULL", (int(now), grant_id))
        > 0
    )


def covers(db: Database, grant_ids: Iterable[str], *, now: float) -> frozenset[str]:
    """What these grants let their holder cross, as far as they are open."""
    found = (find_grant(db, grant_id, now=now) for grant_id in grant_ids)
    return frozenset(item for grant in found if grant is not None for item in grant.covers)


def add_exception(db: Database, record: ExceptionRecord) -> bool:
    """Keep an exception; False where one of this id is known."""
    row = db.row(
        "INSERT INTO exceptions VALUES (?, ?, NULL, NULL, NULL) ON CONFLICT DO NOTHING RETURNING 1",
        (record.id, record.model_dump_json()),
    )
    return row is not None


def find_exception(db: Database, exception_id: str) -> tuple[ExceptionRecord, int | None, int | None] | None:
    """An exception, when it was closed, and when it was reviewed."""
    row = db.row("SELECT body, closed_at, reviewed_at FROM exceptions WHERE id = ?", (exception_id,))
    return None if row is None else (ExceptionRecord.model_validate_json(row[0]), row[1], row[2])


def change_exception(db: Database, record: ExceptionRecord) -> None:
    """Put a record in the place of the one of its id."""
    db.write("UPDATE exceptions SET body = ? WHERE id = ?", (record.model_dump_json(), record.id))


def close_exception(db: Database, exception_id: str, *, now: float) -> bool:
    """Close an exception; whether it was open."""
    changed = db.write(
        "UPDATE exceptions SET closed_at = ? WHERE id = ? AND closed_at IS NULL", (int(now), exception_id)
    )
    return changed > 0


def review_exception(db: Database, exception_id: str, reviewer: str, *, now: float) -> None:
    """Somebody has looked at its use."""
    db.write(
        "UPDATE exceptions SET reviewed_at = ?, reviewed_by = ? WHERE id = ?",
        (int(now), reviewer, exception_id),
    )


def active_exception(
    db: Database, principal: str, *, environment: str, scopes: Iterable[str], resource: str | None, now: float
) -> ExceptionRecord | None:
    """An exception that covers this step now: same principal and environment, scopes and resource within it.

    `resource` None asks for the scopes alone, as the broker does before there is a resource.
    """
    wanted = tuple(scopes)
    for (body,) in db.rows(
        "SELECT body FROM exceptions WHERE closed_at IS NULL AND json_extract(body, '$.principal') = ? "
        "ORDER BY id",
        (principal,),
    ):
        record = ExceptionRecord.model_validate_json(body)
        if not record.opened_at.timestamp() <= now < record.expires_at.timestamp():
            continue
        if record.environment != environment or beyond(wanted, record.scopes):
            continue
        if resource is None or _matches(record.resource, resource):
            return record
    return None


def _matches(pattern: str, resource: str) -> bool:
    kind, _, name = pattern.partition(":")
    return pattern == resource or (name == "*" and resource.partition(":")[0] == kind)
