"""Decisions that were made a moment ago.

Never of high impact, never longer than the credential, never after anything that could have changed them.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from issuer.pdp.decisions import Decided
from issuer.signals.events import Told

TTL_SECONDS: Final = 30.0
MAX_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One cached decision, and all that it depends on."""

    decided: Decided
    until: float
    jti: str
    sid: str
    chain: tuple[str, ...]
    action: str
    resource: str
    version: str


Key = tuple[str, str, str]
"""Credential, action, resource."""


class DecisionCache:
    """Dropped on every cause; `on_drop` hears of each cause with how many went."""

    def __init__(self, on_drop: Callable[[str, str, int], None], *, ttl: float = TTL_SECONDS) -> None:
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._on_drop = on_drop
        self._ttl = ttl

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry, *, now: float) -> None:
        """Keep a decision; `entry.until` bounds how long."""
        until = min(entry.until, now + self._ttl)
        self._entries[entry.jti, entry.action, entry.resource] = dataclasses.replace(entry, until=until)
        self._entries.move_to_end((entry.jti, entry.action, entry.resource))
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def get(self, key: Key, *, now: float) -> Decided | None:
        """A decision that still counts."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.until:
            del self._entries[key]
            self._on_drop("expiry", f"credential:{entry.jti}", 1)
            return None
        return entry.decided

    def drop_for(self, told: Told) -> int:
        """Something happened: what depends on it goes; how many went."""
        kind, _, name = told.target.partition(":")
        listed = told.details.get("credentials")
        named = set(listed) if isinstance(listed, list) else set()
        gone = [
            key
            for key, entry in self._entries.items()
            if told.cause in ("policy_change", "key_replaced")
            or (kind == "session" and entry.sid == name)
            or (kind == "credential" and (entry.jti == name or entry.jti in named))
            or told.target in entry.chain
            or entry.resource == told.target
            or (told.cause == "withdrawn_approval" and entry.sid == told.details.get("sid"))
        ]
        for key in gone:
            del self._entries[key]
        if gone:
            self._on_drop(told.cause, told.target, len(gone))
        return len(gone)
