"""Step-up approvals: another human's word for one step, ten minutes long, used once."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from issuer.state.database import Database

LIFE_SECONDS: Final = 600
MAX_OPEN: Final = 1_000
"""Requests for approval that may wait at a time."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One request for approval, and what has become of it."""

    id: str
    digest: str
    agent: str
    action: str
    resource: str
    sid: str
    user: str
    expires_at: int
    approved_by: str | None
    withdrawn_at: int | None
    used_at: int | None

    def waits(self, now: float) -> bool:
        """Whether somebody may still approve it."""
        return self.approved_by is None and self.withdrawn_at is None and now < self.expires_at


def step_digest(agent: str, action: str, resource: str, sid: str) -> str:
    """What an approval is bound to: SHA-256 over (agent, action, resource, sid), as compact JSON."""
    text = json.dumps([agent, action, resource, sid], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def ask_for_approval(
    db: Database, new_id: str, *, agent: str, action: str, resource: str, sid: str, user: str, now: float
) -> tuple[str, bool]:
    """The id of the request that waits for this step, and whether it is a new one.

    The id is empty where too many wait already.
    """
    digest = step_digest(agent, action, resource, sid)
    with db.transaction():
        for known in _by_digest(db, digest):
            if known.waits(now):
                return known.id, False
        db.write("DELETE FROM approvals WHERE expires_at < ?", (int(now) - LIFE_SECONDS,))
        row = db.row(
            "SELECT count(*) FROM approvals WHERE approved_by IS NULL AND expires_at > ?", (int(now),)
        )
        if row is not None and row[0] >= MAX_OPEN:
            return "", False
        body = json.dumps([agent, action, resource, sid, user])
        db.write(
            "INSERT INTO approvals (id, digest, body, opened_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (new_id, digest, body, int(now), int(now) + LIFE_SECONDS),
        )
    return new_id, True


def find_approval(db: Database, approval_id: str) -> Approval | None:
    """The request of this id."""
    found = db.rows(f"{_SELECT} WHERE id = ?", (approval_id,))
    return _approval(found[0]) if found else None


def approve(db: Database, approval_id: str, approver: str, *, now: float) -> bool:
    """Somebody agrees; whether it was still waiting. The step has ten minutes from now."""
    changed = db.write(
        "UPDATE approvals SET approved_by = ?, approved_at = ?, expires_at = ? "
        "WHERE id = ? AND approved_by IS NULL AND withdrawn_at IS NULL AND expires_at > ?",
        (approver, int(now), int(now) + LIFE_SECONDS, approval_id, int(now)),
    )
    return changed > 0


def withdraw(db: Database, approval_id: str, *, now: float) -> bool:
    """The word is taken back, before its use or after; whether it counted until now."""
    changed = db.write(
        "UPDATE approvals SET withdrawn_at = ? WHERE id = ? AND withdrawn_at IS NULL", (int(now), approval_id)
    )
    return changed > 0


def approved_step(
    db: Database, *, agent: str, action: str, resource: str, sid: str, now: float
) -> Approval | None:
    """The approval that this step may use, if any."""
    for known in _by_digest(db, step_digest(agent, action, resource, sid)):
        unused = known.used_at is None and known.withdrawn_at is None
        if known.approved_by is not None and unused and now < known.expires_at:
            return known
    return None


def use_approval(db: Database, approval_id: str, *, now: float) -> bool:
    """Use it up; whether this was the first use."""
    changed = db.write(
        "UPDATE approvals SET used_at = ? WHERE id = ? AND used_at IS NULL AND withdrawn_at IS NULL",
        (int(now), approval_id),
    )
    return changed > 0


_SELECT: Final = "SELECT id, digest, body, expires_at, approved_by, withdrawn_at, used_at FROM approvals"


def _by_digest(db: Database, digest: str) -> list[Approval]:
    return [_approval(row) for row in db.rows(f"{_SELECT} WHERE digest = ?", (digest,))]


def _approval(row: tuple[object, ...]) -> Approval:
    name, digest, body, expires_at, approved_by, withdrawn_at, used_at = row
    agent, action, resource, sid, user = json.loads(str(body))
    return Approval(
        str(name), str(digest), agent, action, resource, sid, user, int(str(expires_at)),
        None if approved_by is None else str(approved_by),
        None if withdrawn_at is None else int(str(withdrawn_at)),
        None if used_at is None else int(str(used_at)),
    )  # fmt: skip
