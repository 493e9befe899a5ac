"""Which policy is active, which were before, and the bundles themselves, so that a rollback needs no file."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from issuer.policy.bundle import Bundle, bundle_of
from issuer.state.database import Database


@dataclass(frozen=True, slots=True)
class Activation:
    """One line of the history: which bundle became active, when, by whose word, and why."""

    position: int
    digest: str
    version: str
    at: int
    approved_by: str
    approval_id: str | None
    reason: str
    outcome: str


def history(db: Database) -> list[Activation]:
    """All activations, oldest first; the last one is active."""
    return [
        Activation(*row)
        for row in db.rows(
            "SELECT position, digest, version, at, approved_by, approval_id, reason, outcome "
            "FROM activations ORDER BY position"
        )
    ]


def active(db: Database) -> Activation | None:
    """The activation that counts now."""
    found = db.row(
        "SELECT position, digest, version, at, approved_by, approval_id, reason, outcome FROM activations "
        "ORDER BY position DESC LIMIT 1"
    )
    return None if found is None else Activation(*found)


def add_activation(
    db: Database,
    bundle: Bundle,
    *,
    approved_by: str,
    approval_id: str | None,
    reason: str,
    outcome: str,
    now: float,
) -> None:
    """From now on, this bundle decides."""
    files = json.dumps({path: base64.b64encode(data).decode() for path, data in bundle.files.items()})
    with db.transaction():
        db.write(
            "INSERT INTO bundles VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (bundle.digest, bundle.version, files),
        )
        db.write(
            "INSERT INTO activations (digest, version, at, approved_by, approval_id, reason, outcome) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (bundle.digest, bundle.version, int(now), approved_by, approval_id, reason, outcome),
        )


def kept_bundle(db: Database, digest: str) -> Bundle | None:
    """A bundle that was active before."""
    row = db.row("SELECT files FROM bundles WHERE digest = ?", (digest,))
    if row is None:
        return None
    files = {path: base64.b64decode(data) for path, data in json.loads(row[0]).items()}
    return bundle_of(files, f"bundle {digest[:12]}")
