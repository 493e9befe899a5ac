"""What is missing of a source: provably, by its own numbers and words, or estimated, by what bounds it.

Provable are numbers that lie between two that were sealed, the later one at least a quarter of an hour before
the newest event, and events that a source says it dropped. Estimated is the rest: heartbeats that count more
than arrived of a source without numbers; OPA's request numbers, which count health checks too; the numbers of
Teleport's events within a session, some of which other services write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, Final

from detections.metrics.by_day import EMITTERS, SEQUENCES, Answers

SETTLED_MINUTES: Final = 15
_GAPS: Final = f"""
WITH chosen AS (
    SELECT * FROM ({{rows}}) WHERE date >= $first AND date < $last
), reached AS (
    SELECT *, max(high) OVER (
        PARTITION BY source, instance ORDER BY low, high ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM chosen
)
-- What lies between a stretch and the furthest number before it was not seen.
SELECT source, CAST(coalesce(sum(greatest(low - before - 1, 0)) FILTER (
           first_at <= $newest - INTERVAL {SETTLED_MINUTES} MINUTE
       ), 0) AS BIGINT) AS missing
FROM reached GROUP BY source
"""  # noqa: S608  # one constant


@dataclass(slots=True)
class Gap:
    """What is missing of one source. None: nothing in its events could tell."""

    source: str
    numbers: int | None = None
    """Between others that were sealed: provably missing."""
    dropped: int | None = None
    """That it says it dropped: as provable."""
    estimated: int | None = None
    by: list[str] = field(default_factory=list)
    """What each part was found by."""

    @property
    def provable(self) -> int | None:
        """At least so many are missing: what was dropped may have had a number, or none."""
        found = [one for one in (self.numbers, self.dropped) if one is not None]
        return max(found) if found else None

    def estimate(self, count: int, by: str) -> None:
        """Add what is missing by an estimate."""
        self.estimated = (self.estimated or 0) + count
        self.tell(count, by)

    def tell(self, count: int, by: str) -> None:
        """Note what a part was found by."""
        if count:
            self.by.append(f"{count:,} {by}")

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "provable": self.provable}


class Gaps:
    """What is missing of each source, by the answers about the days of a ledger."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._rows: list[dict[str, Any]] = answers.table(EMITTERS).to_pylist()
        self._newest = max((row["last_at"] for row in self._rows), default=None)

    def between(self, first: date = date.min, last: date = date.max) -> dict[str, Gap]:
        """By source what is missing on the UTC days [first, last)."""
        found = {row["source"]: Gap(row["source"]) for row in self._rows if first <= row["date"] < last}
        within = {"first": first, "last": last, "newest": self._newest}
        for row in self._answers.over(SEQUENCES, _GAPS, within).to_pylist():
            gap = found[row["source"]]
            gap.numbers = row["missing"]
            gap.tell(row["missing"], "numbers between others")
        emitters: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self._rows:
            if row["date"] < last and row["source"] in found:
                emitters[row["source"], row["instance"] or ""].append(row)
        for (source, _), days in sorted(emitters.items()):
            days.sort(key=lambda row: row["date"])
            before = [row for row in days if row["date"] < first]
            _judge(found[source], [row for row in days if row["date"] >= first], before)
        return found


def _judge(gap: Gap, days: list[dict[str, Any]], before: Iterable[Mapping[str, Any]]) -> None:
    """Add what one emitter says of itself on `days`."""
    beating = [row for row in days if row["first_beat"] is not None]
    dropped = [row["dropped"] for row in beating if row["dropped"] is not None]
    if dropped:
        known = max((row["dropped"] or 0 for row in before if row["first_beat"] is not None), default=0)
        lately = max(0, max(dropped) - known)
        gap.dropped = (gap.dropped or 0) + lately
        gap.tell(lately, "that it says it dropped")
    telling = [row for row in beating if row["sent_low"] is not None]
    if telling and not any(row["numbered"] for row in days):
        start, end = telling[0], telling[-1]
        arrived = sum(row["n"] for row in days if start["date"] <= row["date"] <= end["date"])
        arrived -= start["up_to_first"] + end["after_last"]
        gap.estimate(max(0, end["sent_high"] - start["sent_low"] - arrived), "that its heartbeats count")
    asking = [row for row in days if row["requests"]]
    if asking:
        span = max(row["request_high"] for row in asking) - min(row["request_low"] for row in asking) + 1
        seen = sum(row["requests"] for row in asking)
        gap.estimate(max(0, span - seen), "requests without a decision, health checks among them")
    skipped = [row["skipped"] for row in days if row["skipped"] is not None]
    if skipped:
        gap.estimate(sum(skipped), "numbers within sessions")
