"""Which week a report is on, and the size of the log that it counts.

A report counts the first size at which the settle clock has passed the end of its week by a day: what comes
later never changes it. A week that has not come so far gives a preliminary report of all that is there.

Old logs are another matter: for a ledger that is made today last week was over before its first event was
sealed. Its report waits until they are read to their end and rules have looked at them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from detections.clocks import Clocks
from detections.metrics.periods import Period, before, period_of
from detections.sealed_log import SealedLog
from ledger.errors import UsageError
from ledger.format.manifest import Append, Config, Entry, instant
from ledger.format.state import ENGINE_TOPIC
from ledger.reader import Ledger

SETTLED_AFTER: Final = timedelta(hours=24)
RULES_WAIT: Final = timedelta(hours=1)
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
    progress = _Progress()
    old_logs: bool | None = None
    for count, entry in enumerate(SealedLog.of(ledger).parsed(0, limit), 1):
        begun_before = progress.begun
        progress.take(count, entry)
        if progress.clocks.settle < week.end + SETTLED_AFTER:
            continue
        if old_logs is None:
            old_logs = not begun_before
        if not old_logs or progress.is_judged():
            return Basis(week, count, preliminary=False)
    if not limit or ledger.as_of(limit).clock < week.start:
        raise UsageError(
            f"The ledger does not reach the week {week.name} yet, which begins at {instant(week.start)}.",
            "Choose an earlier week with --week.",
        )
    return Basis(week, limit, preliminary=True)


@dataclass(slots=True)
class _Progress:
    """How far first logs have got, entry by entry."""

    clocks: Clocks = field(default_factory=Clocks)
    begun: bool = False
    """Whether an event of others was sealed."""
    _read: tuple[int, datetime] | None = None
    """The size at which all that was begun had been read to its end, and the ledger's clock then."""
    _judged: int = 0
    _rules: int | None = None
    """Where rules were first sealed: what an engine judged before knew none."""

    def take(self, count: int, entry: Entry) -> None:
        """Take in the entry that makes the log `count` long."""
        self.clocks.take(entry)
        self.begun = self.begun or bool(_newest_times(entry))
        if isinstance(entry, Append):
            self._judged = max(
                [self._judged, *(row.to for row in entry.offsets if row.topic == ENGINE_TOPIC)]
            )
        if self._rules is None and isinstance(entry, Config) and entry.name == "rules":
            self._rules = count
        if not self.begun or self.clocks.unfinished():
            self._read = None
        elif self._read is None:
            self._read = (count, self.clocks.ledger)

    def is_judged(self) -> bool:
        """Whether rules have looked at all of it; nobody waits for them longer than RULES_WAIT."""
        if self._read is None:
            return False
        size, since = self._read
        judged = self._rules is not None and self._judged >= max(size, self._rules)
        return judged or self.clocks.ledger >= since + RULES_WAIT


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
