"""Whose rows a query may see: the tenants of the person who asks, and how they are kept apart from the rest.

Every view is made from rows that were filtered by tenant. Rows without a tenant, among them alerts whose
evidence is of several, and dead letters belong to no tenant: only a query without a scope sees them. A row
whose resource alone is of one of the tenants is not theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.errors import UsageError

MAX_TENANTS: Final = 1_000
_ALL_ROWS: Final = 9_223_372_036_854_775_807


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenants whose rows are seen.

    `fenced` is for statements that people write: they are worked out over the tenants' rows alone. An engine
    may else try their conditions on any row first, and a cast that fails tells by its failing, and in its
    message, what stands in a row of somebody else. It costs that no file is left out by its date.
    """

    tenants: frozenset[str]
    fenced: bool = True

    def __post_init__(self) -> None:
        if not self.tenants:
            raise UsageError("Whoever has no tenant sees nothing.", "Ask for a tenant, or for all of them.")
        if len(self.tenants) > MAX_TENANTS:
            raise UsageError(f"A scope holds at most {MAX_TENANTS:,} tenants.", "Ask for all of them.")

    def restrict(self, select: str) -> str:
        """SQL for the rows of `select` that are the tenants'."""
        # Literals, their quotation marks doubled: a view takes no parameters.
        names = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(self.tenants))
        fence = f" LIMIT {_ALL_ROWS}" if self.fenced else ""
        return f"SELECT * FROM ({select}) WHERE tenant IN ({names}){fence}"  # noqa: S608  # as above
