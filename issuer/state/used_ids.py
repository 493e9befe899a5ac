"""Ids that count once: of assertions, proofs, and capabilities marked `once`. Kept until they expire."""

from __future__ import annotations

from typing import Final

from issuer.state.database import Database

MAX_IDS: Final = 200_000
"""Ids kept at a time; a store that is full refuses rather than forgets."""
SWEPT: Final = 200
"""Expired ids removed with each new one, at most."""


class StoreFull(Exception):
    """No more ids can be kept: nothing that counts once is accepted until some expire."""


def use_once(db: Database, kind: str, owner: str, jti: str, *, until: int, now: float) -> bool:
    """Whether this is the first use of an id; it is kept, on the disk, before this returns.

    Raises:
        StoreFull: there is no room to remember it.
    """
    with db.transaction():
        row = db.row(
            "INSERT INTO used_ids VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
            (kind, owner, jti, until),
        )
        if row is None:
            return False
        swept = db.write(
            "DELETE FROM used_ids WHERE (kind, owner, jti) IN "
            "(SELECT kind, owner, jti FROM used_ids WHERE until <= ? LIMIT ?)",
            (int(now), SWEPT),
        )
        if db.count("used_ids", 1 - swept) > MAX_IDS:
            raise StoreFull
    return True
