"""Which week a report is on, and the size of the log that it counts.

A report counts the first size at which the settle clock has passed the end of its week by a day and an event
was sealed: what comes later never changes it. So a ledger whose first events are old logs reports on them,
and not on the nothing that it held when it was made. A week that has not come so far gives a preliminary
report of all that is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from detections.clocks import Clocks
from detections.metrics.periods import Period, before, period_of
from detections.sealed_log import SealedLog
from ledger.errors import UsageError
from ledger.format.manifest import Append, Entry, instant
from ledger.reader import Ledger

SETTLED_AFTER: Final = timedelta(hours=24)
_OWN_KINDS: Final = frozenset({"alert", "case", "access"})
_WEEK: Final = re.compile(r"(\d{4})-W(\d{2})")


@dataclass(frozen=True, slots=True)
class Basis:
    """A week and the size it is counted at; `preliminary`: it has not settled at that size."""

    week: Period
    size: int
    preliminary: bool


def week_of(text: str) -> Period:
    """The ISO week of a name such as 2026-W47, in UTC. Raises UsageError where there is none."""
    found = _WEEK.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        monday = date.fromisocalendar(int(found[1]), int(found[2]), 1)
        return period_of(datetime(monday.year, monday.month, monday.day, tzinfo=UTC), "week", UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is no week.", "Write it as 2026-W47 (ISO 8601).") from None


def basis_of(ledger: Ledger, week: Period | None, size: int | None = None) -> Basis:
    """The basis of the report on `week`, looking at the first `size` entries only.

    Without a week: the newest one that has settled and holds events; where none has, the newest one.

    Raises:
        UsageError: the ledger holds no events, or none as old as the week's end.
    """
    limit = ledger.size if size is None else size
    if week is not None:
        return _basis(ledger, week, limit)
    newest = _newest(ledger, limit)
    if newest is None:
        raise UsageError(
            "The ledger holds no events yet, so there is nothing to report.",
            "Seal some: `decision-ledger ingest file --help`.",
        )
    this = period_of(newest, "week", UTC)
    current = _basis(ledger, this, limit)
    if not current.preliminary:
        return current
    earlier = _basis(ledger, before(this, "week", UTC), limit)
    return current if earlier.preliminary or not _has_events(ledger, earlier) else earlier


def _basis(ledger: Ledger, week: Period, limit: int) -> Basis:
    for count, clocks in _clocks(ledger, limit):
        if clocks is not None and clocks.settle >= week.end + SETTLED_AFTER:
            return Basis(week, count, preliminary=False)
    if not limit or ledger.as_of(limit).clock < week.start:
        raise UsageError(
            f"The ledger does not reach the week {week.name} yet, which begins at {instant(week.start)}.",
            "Choose an earlier week with --week.",
        )
    return Basis(week, limit, preliminary=True)


def _clocks(ledger: Ledger, limit: int) -> Iterator[tuple[int, Clocks | None]]:
    """The clocks after each entry; None as long as no event but our own was sealed."""
    clocks, begun = Clocks(), False
    for count, entry in enumerate(SealedLog.of(ledger).parsed(0, limit), 1):
        clocks.take(entry)
        begun = begun or bool(_newest_times(entry))
        yield count, clocks if begun else None


def _newest_times(entry: Entry) -> list[str]:
    """The newest time in each segment of an entry that holds others' events."""
    if not isinstance(entry, Append):
        return []
    return [ref.max_time for ref in entry.segments if set(ref.kinds) - _OWN_KINDS]


def _newest(ledger: Ledger, limit: int) -> datetime | None:
    """The time of the newest event that is not one of our own."""
    found: str | None = None
    for entry in SealedLog.of(ledger).parsed(0, limit):
        found = max([*_newest_times(entry), *([found] if found else [])], default=None)
    return None if found is None else datetime.fromisoformat(found)


def _has_events(ledger: Ledger, basis: Basis) -> bool:
    rows = ledger.query(basis.size).trusted(
        "SELECT 1 AS there FROM events WHERE time >= $1 AND time < $2"
        " AND kind NOT IN ('alert', 'case', 'access') LIMIT 1",
        [basis.week.start, basis.week.end],
    )
    return len(rows) > 0
