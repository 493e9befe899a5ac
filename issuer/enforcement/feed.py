"""What one enforcement point knows of revocations, and how fresh that is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from issuer.revocation import (
    APPROVAL_WITHDRAWN,
    CREDENTIAL_CHANGE,
    KEY_REPLACED,
    POLICY_CHANGED,
    PRINCIPAL_REVOKED,
    RISK_CHANGE,
    TICKET_CLOSED,
)
from issuer.signals.events import Told
from issuer.tokens.claims import CredentialClaims

HIGH_SECONDS: Final = 30.0
"""With a feed older than this, what has a high impact is refused."""
ALL_SECONDS: Final = 120.0
"""With a feed older than this, everything is refused; likewise before it has caught up at all."""
KEPT_SECONDS: Final = 2 * 3_600


class Feed:
    """The stream of signals as one enforcement point has read it. Pure: told what came, and when it is."""

    def __init__(self) -> None:
        self.cursor = 0
        self._fresh_at: float | None = None
        self._credentials: dict[str, int] = {}
        self._sessions: dict[str, tuple[int, str]] = {}
        self._principals: dict[str, int] = {}

    def caught_up(self, now: float) -> None:
        """There was nothing more to read at this moment."""
        self._fresh_at = now
        for held in (self._credentials, self._principals):
            for name in [name for name, at in held.items() if at < now - KEPT_SECONDS]:
                del held[name]
        for sid in [sid for sid, (at, _) in self._sessions.items() if at < now - KEPT_SECONDS]:
            del self._sessions[sid]

    def take(self, told: Told) -> None:
        """One signal more."""
        kind, _, name = told.target.partition(":")
        if told.event in (POLICY_CHANGED, APPROVAL_WITHDRAWN, TICKET_CLOSED, KEY_REPLACED, RISK_CHANGE):
            return  # they drop cached decisions, and revoke nothing
        if kind == "session":
            self._sessions[name] = (told.at, told.cause)
        elif kind == "credential" or told.event == CREDENTIAL_CHANGE:
            listed = told.details.get("credentials")
            named = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
            for jti in (name, *named):
                self._credentials[jti] = told.at
        elif told.event == PRINCIPAL_REVOKED or told.cause == "revocation":
            self._principals[told.target] = max(told.at, self._principals.get(told.target, 0))

    def refuses(self, claims: CredentialClaims) -> str | None:
        """Why a credential no longer counts, as far as is known here; None where it does."""
        if claims.jti in self._credentials or claims.parent in self._credentials:
            return "credential_revoked"
        return self.refuses_work(claims.sid, claims.chain, claims.iat)

    def refuses_work(self, sid: str, chain: Sequence[str], issued_at: int) -> str | None:
        """Why work of this session and chain, begun at this second, no longer counts."""
        if sid in self._sessions:
            cause = self._sessions[sid][1]
            return cause if cause in ("task_end", "session_end") else "session_revoked"
        if any(self._principals.get(name, -1) >= issued_at for name in chain):
            return "principal_revoked"
        return None

    def too_old(self, now: float, *, high: bool) -> bool:
        """Whether so little is known of the last minutes that this must be refused."""
        if self._fresh_at is None:
            return True
        return now - self._fresh_at > (HIGH_SECONDS if high else ALL_SECONDS)
