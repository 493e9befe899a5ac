"""The services' own signing keys: published before they are used, kept until their last token has expired."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from issuer.defaults import PURPOSES
from issuer.state.database import Database
from issuer.tokens.keys import (
    Key,
    key_set,
    make_id_token_key,
    make_key,
    private_members,
    read_id_token_key,
    read_key,
)

PUBLISHED_SECONDS: Final = 600
"""How long a key is published before it signs, so that every reader knows it by then."""
LONGEST_TOKEN_SECONDS: Final = 3_600
"""No token lives longer: a key that signed until now is needed so long."""
AUTHORITY: Final = "authority"
BROKER: Final = "broker"
ID_TOKEN: Final = "id_token"  # noqa: S105 - the name of a purpose
assert PURPOSES == (AUTHORITY, BROKER, ID_TOKEN)


class KeyRing:
    """The keys of one purpose."""

    def __init__(self, db: Database, purpose: str, clock: Callable[[], float]) -> None:
        self._db = db
        self._purpose = purpose
        self._clock = clock
        self._read: dict[str, Key] = {}
        with db.transaction():
            if not self._rows():
                self._add(used_from=int(clock()))

    def current(self) -> Key:
        """The key that signs now: the newest that was published long enough."""
        now = self._clock()
        usable = [(used_from, kid) for kid, used_from, _ in self._rows() if used_from <= now]
        return self._key(max(usable)[1])

    def key_for(self, kid: str) -> Key | None:
        """A published key."""
        return self._key(kid) if any(kid == known for known, _, _ in self._rows()) else None

    def public(self) -> dict[str, Any]:
        """The JWK Set of all that are published."""
        return key_set(self._key(kid) for kid, _, _ in self._rows())

    def rotate(self) -> str:
        """Publish the next key; it signs ten minutes later, and the one before it goes when its tokens have.

        Returns its key id.
        """
        with self._db.transaction():
            begins = int(self._clock()) + PUBLISHED_SECONDS
            self._retire(begins + LONGEST_TOKEN_SECONDS)
            return self._add(used_from=begins)

    def replace_compromised(self) -> tuple[str, list[str]]:
        """A new key signs at once, and all others are dropped at once: its key id, and theirs."""
        with self._db.transaction():
            now = int(self._clock())
            dropped = [kid for kid, _, _ in self._rows()]
            self._retire(now, every=True)
            return self._add(used_from=now), dropped

    def _rows(self) -> list[tuple[str, int, int | None]]:
        return [
            (str(kid), int(used_from), dropped)
            for kid, used_from, dropped in self._db.rows(
                "SELECT kid, used_from, dropped_at FROM signing_keys "
                "WHERE purpose = ? AND (dropped_at IS NULL OR dropped_at > ?) ORDER BY used_from",
                (self._purpose, int(self._clock())),
            )
        ]

    def _retire(self, at: int, *, every: bool = False) -> None:
        which = "" if every else " AND dropped_at IS NULL"
        self._db.write(
            f"UPDATE signing_keys SET dropped_at = ? WHERE purpose = ?{which}",  # noqa: S608 - one of two texts above
            (at, self._purpose),
        )

    def _add(self, *, used_from: int) -> str:
        key = make_id_token_key() if self._purpose == ID_TOKEN else make_key()
        self._db.write(
            "INSERT INTO signing_keys VALUES (?, ?, ?, ?, ?, NULL)",
            (key.kid, self._purpose, json.dumps(private_members(key)), int(self._clock()), used_from),
        )
        return str(key.kid)

    def _key(self, kid: str) -> Key:
        if kid not in self._read:
            row = self._db.row("SELECT private FROM signing_keys WHERE kid = ?", (kid,))
            assert row is not None
            members = json.loads(row[0])
            self._read[kid] = read_id_token_key(members) if self._purpose == ID_TOKEN else read_key(members)
        return self._read[kid]
