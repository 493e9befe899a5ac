"""Days and ISO weeks in a time zone: where each begins and ends, in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ledger.errors import UsageError

By = Literal["day", "week"]


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """[start, end) in UTC. A day is named 2026-11-16, a week 2026-W47 (ISO 8601)."""

    start: datetime
    end: datetime
    name: str


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name. Raises UsageError where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"There is no time zone {name!r}.", "Use an IANA name such as Europe/Berlin."
        ) from None


def period_of(time: datetime, by: By, tz: tzinfo) -> Period:
    """The period in which `time` lies."""
    day = time.astimezone(tz).date()
    if by == "day":
        return _period(day, day + timedelta(days=1), day.isoformat(), tz)
    monday = day - timedelta(days=day.weekday())
    year, week, _ = monday.isocalendar()
    return _period(monday, monday + timedelta(days=7), f"{year}-W{week:02d}", tz)


def periods_between(low: datetime, high: datetime, by: By, tz: tzinfo) -> Iterator[Period]:
    """The periods that [low, high) touches, in order."""
    one = period_of(low, by, tz)
    while one.start < high:
        yield one
        one = period_of(one.end, by, tz)


def before(period: Period, by: By, tz: tzinfo) -> Period:
    """The period before this one."""
    return period_of(period.start - timedelta(seconds=1), by, tz)


def _period(first: date, last: date, name: str, tz: tzinfo) -> Period:
    # Midnight by the wall clock: a day on which clocks change has 23 or 25 hours.
    start = datetime(first.year, first.month, first.day, tzinfo=tz).astimezone(UTC)
    end = datetime(last.year, last.month, last.day, tzinfo=tz).astimezone(UTC)
    return Period(start, end, name)
