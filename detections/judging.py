"""What one rule makes of what has changed: which stretches it judges anew, and which alerts should stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from detections.alerting.alert import Answer
from detections.hits import Hits, TooManyRows, bucket_start
from detections.recall.memory import END, START, Memory, earlier, later
from detections.rulebook.in_force import InForce

Stretch = tuple[datetime, datetime]
"""Times [low, high)."""
_INSTANT: Final = timedelta(microseconds=1)
SHORTEST: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(days=401)
"""No deadline lies further behind the newest row than a rule's spans of time may be."""
MOST_STRETCHES: Final = 3
"""Stretches that a rule judges in one run: a query for each costs more than the rows between them."""


@dataclass
class RuleJudge:
    """One version of one rule, with what it found."""

    force: InForce
    memory: Memory
    pending: list[Stretch] = field(default_factory=list)
    """What could not be judged so far."""
    last: list[Stretch] = field(default_factory=list)
    """What was judged in the last run."""
    _ripe: datetime = START
    _due: datetime = START

    def __post_init__(self) -> None:
        self.on_time = Hits(self.memory, self.force.bound, "on_time", self.force.excused)
        self.all: Hits | None = None

    def touched(self, stretches: Iterable[Stretch], before: datetime, settle: datetime) -> list[Stretch]:
        """What may have changed: by rows in `stretches` (both ends included), and as the clock went on."""
        rule, reach = self.force.bound.rule, self.force.bound.reach
        found = list(self.pending)
        for low, high in stretches:
            end = END if reach is None else later(high, reach + _INSTANT)
            found.append((earlier(low, rule.waits + self.force.bound.support), end))
        cap = END
        if self.force.bound.has_deadlines:
            found.append((earlier(before, rule.lateness), self._due))
        if rule.settle is not None:
            found.append((earlier(before, rule.waits), self._ripe))
            cap = self._ripe
        return joined((max(low, self.force.since), min(high, cap, self.force.until)) for low, high in found)

    def floor_for(self, stretch: Stretch) -> datetime:
        """From where on the memory must hold rows to judge `stretch`."""
        sets = [self.on_time] if self.all is None and not self.memory.any_late else [self.on_time, self.all]
        low = min(stretch[0], *(self._needed(hits, stretch) for hits in sets))
        return earlier(low, self.force.bound.rule.window)

    def covers(self, stretch: Stretch) -> bool:
        """Whether all that its bucket rests on was found already."""
        sets = [self.on_time, *(() if self.all is None else (self.all,))]
        return all(hits.needs_from(stretch[0]) >= hits.covered_from for hits in sets)

    def _needed(self, hits: Hits | None, stretch: Stretch) -> datetime:
        """From where on `hits` has to be found anew."""
        first = (hits or self.on_time).needs_from(stretch[0])
        needed = max(first, earlier(self.force.since, self.force.bound.support))
        return needed if hits is None or needed < hits.covered_from else stretch[0]

    def find(self, stretch: Stretch) -> None:
        """Find anew what lies in `stretch`."""
        self._find(self.on_time, stretch, self.force.bound.rule.lateness)
        if self.memory.any_late:
            if self.all is None:
                self.all = Hits(self.memory, self.force.bound, "all", self.force.excused)
            self._find(self.all, stretch, None)

    def answers(self, buckets: Stretch) -> dict[str, Answer]:
        """The alerts that should stand in `buckets`, which begin where the first of them does."""
        low, high = buckets
        answers = {one.alert_id: one for one in self._answers(self.on_time, low, high, late=False)}
        if self.all is not None:
            # A late row adds an alert, and changes none.
            for one in self._answers(self.all, low, high, late=True):
                answers.setdefault(one.alert_id, one)
        return answers

    def buckets(self, stretch: Stretch) -> Stretch:
        """`stretch` from where its first bucket begins."""
        return bucket_start(stretch[0], self.force.bound.rule.suppress), stretch[1]

    def let_ripen(self, settle: datetime) -> None:
        """Up to where hits are found that wait: for what may unmake them, or for the clock."""
        rule = self.force.bound.rule
        self._ripe = earlier(settle, rule.waits) + _INSTANT
        self._due = earlier(settle, rule.lateness) + _INSTANT

    def settled(self, window_start: datetime, settle: datetime) -> bool:
        """Whether no row that is on time can change a bucket any more."""
        rule = self.force.bound.rule
        return settle > window_start + rule.suppress + rule.waits + rule.lateness

    def forget(self, settle: datetime) -> None:
        """Drop hits of buckets that are settled."""
        rule = self.force.bound.rule
        low = earlier(settle, rule.suppress + rule.waits + rule.lateness)
        for hits in (self.on_time, self.all):
            if hits is not None:
                hits.forget_before(low)

    def _find(self, hits: Hits, stretch: Stretch, lateness: timedelta | None) -> None:
        low, high = self._needed(hits, stretch), stretch[1]
        if low < hits.covered_from:
            high = END if hits.covered_from == END else max(high, hits.covered_from)
            hits.covered_from = min(low, hits.covered_from)
        high = min(high, self.force.until, self._ripe if self.force.bound.rule.settle is not None else END)
        self._find_in_parts(hits, (low, min(high, self.memory.newest + LONGEST_WAIT)), lateness)

    def _find_in_parts(self, hits: Hits, stretch: Stretch, lateness: timedelta | None) -> None:
        """In halves where a stretch gives too much at once: a flood must not blind a rule."""
        low, high = stretch
        try:
            hits.replace(low, high, lateness, self._due)
        except TooManyRows:
            if high - low <= SHORTEST:
                raise
            middle = low + (high - low) / 2
            self._find_in_parts(hits, (low, middle), lateness)
            self._find_in_parts(hits, (middle, high), lateness)

    def _answers(self, hits: Hits, low: datetime, high: datetime, *, late: bool) -> list[Answer]:
        return [Answer(self.force.bound.rule, found, late) for found in hits.found(low, high)]


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same times in as few stretches as it takes, in order; empty ones left out."""
    found: list[Stretch] = []
    for low, high in sorted(one for one in stretches if one[0] < one[1]):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return found


def few(stretches: list[Stretch]) -> list[Stretch]:
    """At most MOST_STRETCHES that cover the same times: those closest to each other are joined first."""
    while len(stretches) > MOST_STRETCHES:
        gaps = [later[0] - one[1] for one, later in pairwise(stretches)]
        widest = sorted(sorted(range(len(gaps)), key=lambda n: gaps[n])[-(MOST_STRETCHES - 1) :])
        edges = [0, *(n + 1 for n in widest), len(stretches)]
        stretches = [(stretches[a][0], stretches[b - 1][1]) for a, b in pairwise(edges)]
    return stretches
