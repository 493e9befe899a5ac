"""The filters of a page, and the SQL condition that they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from ledger.errors import UsageError
from ledger.events import SQL_TYPES

RANGES: Final = {"24 h": 1, "7 d": 7, "30 d": 30, "90 d": 90, "all": None}
"""Days that a named range reaches back from the ledger's newest event."""
MAX_CONDITIONS: Final = 20
_TEXT: Final = frozenset(name for name, kind in SQL_TYPES.items() if kind == "VARCHAR") - {
    "raw",
    "attributes",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Rows of [since, until) that meet every condition: a text column equal to a value; None is unset."""

    since: datetime | None = None
    until: datetime | None = None
    equal: tuple[tuple[str, str], ...] = field(default=())

    def where(self, *more: str) -> tuple[str, list[Any]]:
        """A condition and its parameters; `more` are conditions of our own.

        Raises:
            UsageError: a column is none of text, or there are too many conditions.
        """
        parts = list(more)
        values: list[Any] = []
        if len(self.equal) > MAX_CONDITIONS:
            raise UsageError(f"These are more than {MAX_CONDITIONS} filters.", "Take some away.")
        # `date` is the file's folder, so that files out of range are never opened.
        if self.since is not None:
            parts.append("time >= ? AND date >= ?")
            values += [self.since, self.since.date()]
        if self.until is not None:
            parts.append("time < ? AND date <= ?")
            values += [self.until, self.until.date()]
        for column, value in self.equal:
            if column not in _TEXT:
                raise UsageError(f"Nothing can be filtered by {column!r}.", "Use a column of text.")
            parts.append(f'"{column}" = ?')
            values.append(value)
        return " AND ".join(parts) or "true", values

    def without(self, column: str) -> Filters:
        """The same without what is said of one column."""
        return Filters(self.since, self.until, tuple(pair for pair in self.equal if pair[0] != column))

    def only(self, *columns: str) -> Filters:
        """The same time, and what is said of these columns alone."""
        return Filters(self.since, self.until, tuple(pair for pair in self.equal if pair[0] in columns))

    def at_any_time(self) -> Filters:
        """The same without a time: for what does not go by it, so that its answer is kept for all times."""
        return Filters(equal=self.equal)

    def also(self, column: str, value: str) -> Filters:
        """The same with one condition more."""
        return Filters(self.since, self.until, (*self.without(column).equal, (column, value)))


def named_range(name: str, newest: datetime) -> tuple[datetime | None, datetime | None]:
    """[since, until) of one of RANGES, up to and with the newest event."""
    days = RANGES.get(name)
    return (
        (None, None) if days is None else (newest - timedelta(days=days), newest + timedelta(microseconds=1))
    )


def text_columns() -> list[str]:
    """Columns that can be filtered by."""
    return sorted(_TEXT)
