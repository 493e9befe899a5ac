"""Sessions as they stand: opened by the authority, their risk as it is now, ended early or at their time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from issuer.policy.question import SessionFacts
from issuer.state.database import Database


@dataclass(frozen=True, slots=True)
class Session:
    """One session: what was opened, and what has become of it."""

    facts: SessionFacts
    txn: str
    task_id: str
    agents: tuple[str, ...]
    requested_actions: tuple[str, ...]
    opened_at: int
    expires_at: int
    ended_at: int | None
    cause: str | None

    def lives(self, now: float) -> bool:
        """Whether it has neither ended nor expired."""
        return self.ended_at is None and now < self.expires_at


def add_session(db: Database, claims: dict[str, Any]) -> None:
    """Keep a session by the claims of its token."""
    db.write(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, NULL, NULL)",
        (claims["sid"], json.dumps(claims), claims["risk"], claims["exp"]),
    )


def find_session(db: Database, sid: str) -> Session | None:
    """The session of this id, ended or not."""
    row = db.row("SELECT body, risk, expires_at, ended_at, cause FROM sessions WHERE sid = ?", (sid,))
    if row is None:
        return None
    body, risk, expires_at, ended_at, cause = row
    claims = json.loads(body)
    facts = SessionFacts(
        sid, claims["sub"], claims["tenant"], claims["env"], claims["zone"], claims["purpose"], risk,
        tuple(claims["data_classes"]), claims.get("exercise"),
    )  # fmt: skip
    return Session(
        facts, claims["txn"], claims["task_id"], tuple(claims["agents"]), tuple(claims["requested_actions"]),
        claims["iat"], expires_at, ended_at, cause,
    )  # fmt: skip


def end_session(db: Database, sid: str, *, cause: str, now: float) -> bool:
    """End a session; whether it was still open."""
    changed = db.write(
        "UPDATE sessions SET ended_at = ?, cause = ? WHERE sid = ? AND ended_at IS NULL",
        (int(now), cause, sid),
    )
    return changed > 0


def set_risk(db: Database, sid: str, risk: int) -> None:
    """From now on, the session's risk is this."""
    db.write("UPDATE sessions SET risk = ? WHERE sid = ?", (risk, sid))
