"""Who looks, and what they may see: roles, rights and tenants."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ledger.errors import UsageError

ALL_TENANTS: Final = "*"
LOCAL_USER: Final = "local"


class Right(StrEnum):
    """One thing that a role may do."""

    OVERVIEW = "overview and report"
    ROWS = "rows, traces, search, SQL and evidence"
    TRIAGE = "triage and cases"
    REVIEW = "reviews"
    INTEGRITY = "integrity"
    DEAD_LETTERS = "dead letters"
    ACCESS_AUDIT = "the audit of access"


_EVERYBODY: Final = frozenset({Right.OVERVIEW})
ROLES: Final[dict[str, frozenset[Right]]] = {
    "analyst": _EVERYBODY | {Right.ROWS, Right.TRIAGE, Right.INTEGRITY},
    "responder": _EVERYBODY | {Right.ROWS, Right.TRIAGE, Right.REVIEW, Right.INTEGRITY},
    "leader": _EVERYBODY,
    "platform": _EVERYBODY | {Right.INTEGRITY, Right.DEAD_LETTERS},
    "auditor": _EVERYBODY | {Right.ROWS, Right.INTEGRITY, Right.DEAD_LETTERS, Right.ACCESS_AUDIT},
    "admin": frozenset(Right),
}
_WHOLE_LEDGER: Final = frozenset({Right.DEAD_LETTERS})
"""What belongs to no tenant: only those who see all of them see it."""


class Forbidden(UsageError):
    """This person may not see this."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A person at the dashboard. `tenants` None: all of them."""

    user: str
    roles: frozenset[str]
    tenants: frozenset[str] | None

    def may(self, right: Right) -> bool:
        """Whether one of the roles has this right."""
        if right in _WHOLE_LEDGER and self.tenants is not None:
            return False
        return any(right in ROLES.get(role, frozenset()) for role in self.roles)

    def require(self, right: Right) -> None:
        """Raise Forbidden without the right."""
        if not self.may(right):
            who = ", ".join(sorted(self.roles)) or "nobody"
            raise Forbidden(
                f"Your role ({who}) does not include {right.value}.",
                "Ask an administrator of the dashboard for a role that does.",
            )

    @property
    def key(self) -> tuple[str, tuple[str, ...], tuple[str, ...] | None]:
        """What tells this person's answers from those of others."""
        tenants = None if self.tenants is None else tuple(sorted(self.tenants))
        return self.user, tuple(sorted(self.roles)), tenants


def local_viewer() -> Viewer:
    """Whoever is at this machine, where nobody signs in: the ledger's files are theirs to read anyway."""
    return Viewer(LOCAL_USER, frozenset({"admin"}), None)
