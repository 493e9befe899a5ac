"""Which periods are shown: those asked for, or the last ones of what the ledger holds."""

from __future__ import annotations

from datetime import datetime

from detections.metrics.figures import Choice
from detections.metrics.periods import Period, before, period_of, periods_between
from ledger.errors import UsageError
from ledger.format.manifest import SegmentRef, parse_instant
from ledger.reader import Ledger

MAX_PERIODS = 1_000


def chosen_periods(
    ledger: Ledger, choice: Choice, since: str | None, until: str | None, count: int
) -> list[Period]:
    """The periods to show, and one before them for the first change.

    Raises:
        UsageError: a day is none, or there are more than 1,000 periods.
    """
    last = _newest(ledger) if until is None else _day(until, choice)
    high = last if until is not None else period_of(last, choice.by, choice.tz).end
    if since is not None:
        first = period_of(_day(since, choice), choice.by, choice.tz)
    else:
        first = period_of(before(period_of(high, choice.by, choice.tz), choice.by, choice.tz).start,
                          choice.by, choice.tz)  # fmt: skip
        for _ in range(count - 1):
            first = before(first, choice.by, choice.tz)
    shown = []
    for one in periods_between(first.start, high, choice.by, choice.tz):
        shown.append(one)
        if len(shown) > MAX_PERIODS:
            raise UsageError(f"These are more than {MAX_PERIODS:,} periods.", "Show fewer, or weeks.")
    if not shown:
        raise UsageError("No period lies between these days.", "Give --from a day before that of --to.")
    return [before(shown[0], choice.by, choice.tz), *shown]


def _newest(ledger: Ledger) -> datetime:
    refs = (one.ref for one in ledger.state.originals.values() if isinstance(one.ref, SegmentRef))
    times = [ref.max_time for ref in refs if set(ref.kinds) - {"alert", "case", "access"}]
    return parse_instant(max(times)) if times else ledger.state.clock


def _day(text: str, choice: Choice) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no day.", "Write it as 2026-11-16.") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=choice.tz)
