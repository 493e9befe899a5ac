"""Credentials that were issued: whose child each is, and whether it still counts."""

from __future__ import annotations

import json
from typing import Any, Final

from issuer.state.database import Database

KEPT_SECONDS: Final = 24 * 3_600
"""How long an expired credential is still known, for introspection and revocation."""


def add_credential(db: Database, claims: dict[str, Any]) -> None:
    """Keep an issued credential by its claims."""
    db.write(
        "INSERT INTO credentials VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (claims["jti"], claims["parent"], claims["sid"], json.dumps(claims), claims["iat"], claims["exp"]),
    )
    db.write("DELETE FROM credentials WHERE expires_at < ?", (claims["iat"] - KEPT_SECONDS,))


def find_credential(db: Database, jti: str) -> tuple[dict[str, Any], int | None] | None:
    """The claims of an issued credential, and when it was revoked."""
    row = db.row("SELECT body, revoked_at FROM credentials WHERE jti = ?", (jti,))
    return None if row is None else (json.loads(row[0]), row[1])


def revoke_with_descendants(db: Database, jti: str, *, now: float) -> list[str]:
    """Revoke a credential and all that were derived from it: those that this call revoked."""
    with db.transaction():
        rows = db.rows(
            "WITH RECURSIVE under (jti) AS (SELECT ? UNION SELECT c.jti FROM credentials c JOIN under "
            "ON c.parent = under.jti) SELECT c.jti FROM credentials c JOIN under USING (jti) "
            "WHERE c.revoked_at IS NULL",
            (jti,),
        )
        found = [str(name) for (name,) in rows]
        for name in found:
            db.write("UPDATE credentials SET revoked_at = ? WHERE jti = ?", (int(now), name))
    return found
