"""The engine's judgement over a log: fed its entries, it says which alert steps have to be sealed.

Nothing here reads a clock or a ledger: entries come in order, rows from a `Loader`. The same entries give the
same settled alerts, however they are cut into runs (docs/detections.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import duckdb
import pyarrow as pa
import structlog

from detections.alerting.alert import (
    Answer,
    alert_id,
    alert_key,
    event,
    merged,
    next_outcome,
    withdrawal,
)
from detections.alerting.known_alerts import KnownAlerts
from detections.clocks import Clocks
from detections.configs.timeline import Timeline
from detections.judging import RuleJudge, Stretch, few, joined
from detections.recall.feed import Stamp, read_entries_into
from detections.recall.memory import END, START, Memory
from detections.rulebook.in_force import InForce
from ledger.errors import LedgerError, UsageError
from ledger.format.manifest import Entry
from ledger.query.sql_guard import first_line

SLACK: Final = timedelta(minutes=10)
"""Rows are remembered so much longer than any rule on time needs them."""

log = structlog.get_logger()


class Loader(Protocol):
    """Where rows come from."""

    def rows(
        self, stamps: Mapping[str, Stamp], columns: Sequence[str], low: datetime | None, high: datetime | None
    ) -> Iterator[pa.Table]:
        """The rows of the stamped segments in [low, high), as `Memory.take` wants them."""
        ...


@dataclass(slots=True)
class RuleTrouble:
    """A rule that could not be judged: since when, and what it said last."""

    rule_id: str
    message: str
    times: int = 1


def last_steps(timeline: Timeline, loader: Loader, runs: Iterable[Sequence[Entry]]) -> list[dict[str, Any]]:
    """The last step of each alert after all `runs`, nothing sealed.

    Raises:
        UsageError: a rule could not be judged.
    """
    watch = Watch.over(timeline, loader)
    last: dict[str, dict[str, Any]] = {}
    try:
        for entries in runs:
            steps = watch.advance(entries)
            watch.sealed(steps)
            last |= {step["alert_id"]: step for step in steps}
        for trouble in watch.troubles.values():
            raise UsageError(f"{trouble.rule_id} could not be judged: {trouble.message}", "Correct the rule.")
    finally:
        watch.close()
    return list(last.values())


@dataclass(frozen=True, slots=True)
class _Task:
    """One rule's part in a run: by version what is to be found anew, and the buckets that are due."""

    rule_id: str
    judges: Sequence[RuleJudge]
    touched: Sequence[list[Stretch]]
    due: list[Stretch]


@dataclass
class Watch:
    """One engine's view of a log."""

    rules: Sequence[InForce]
    loader: Loader
    memory: Memory
    known: KnownAlerts = field(default_factory=KnownAlerts)
    clocks: Clocks = field(default_factory=Clocks)
    size: int = 0
    troubles: dict[str, RuleTrouble] = field(default_factory=dict)
    rule_seconds: dict[str, float] = field(default_factory=dict)
    """What each rule took in the last run; for people, no answer depends on it."""

    def __post_init__(self) -> None:
        self._stamps: dict[str, Stamp] = {}
        self._judges = [RuleJudge(force, self.memory) for force in self.rules]
        self._by_rule: dict[str, list[RuleJudge]] = {}
        for judge in self._judges:
            self._by_rule.setdefault(judge.force.id, []).append(judge)
        self._pool = ThreadPoolExecutor(self.memory.threads, thread_name_prefix="rules")
        self._horizon = max((force.horizon for force in self.rules), default=timedelta(0)) + SLACK

    @classmethod
    def over(cls, timeline: Timeline, loader: Loader, **options: Any) -> Watch:
        """A watch by the configurations of `timeline`, whose memory holds what its rules ask for."""
        rules = timeline.rules()
        asked = frozenset(name for force in rules for name in force.bound.columns)
        views = frozenset(name for force in rules for name in force.bound.facts.views)
        latenesses = {force.bound.rule.lateness for force in rules}
        memory = Memory(asked, views, latenesses, **options)
        memory.set_sources(
            (name, one.agentic, one.trusted, one.grade, one.silent_after, since, until)
            for name, one, since, until in timeline.source_rows()
        )
        memory.set_agents(timeline.agent_rows())
        memory.set_tiers(timeline.tier_rows())
        memory.set_drills(timeline.drill_rows())
        return cls(rules, loader, memory)

    def recall(self, entries: Sequence[Entry]) -> None:
        """Take in entries that were judged before: they are remembered, and nothing is said."""
        self._take(entries)
        self._trim()

    def advance(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Take in new entries, and say which alert steps have to be sealed now that they are in."""
        before = self.clocks.settle
        stretches = self._take(entries)
        tasks = [self._task(rule_id, judges, stretches, before) for rule_id, judges in self._by_rule.items()]
        for task in tasks:
            # Before any rule runs: it moves what the others read.
            self._reach_back(task)
        found = list(self._pool.map(self._run, tasks))
        for number, task in enumerate(tasks):
            if found[number] is None:
                # Alone it shows whether it took the memory, or another did.
                found[number] = self._run(task, alone=True)
        self._trim()
        return [step for steps in found for step in steps or ()]

    def sealed(self, steps: Iterable[Mapping[str, Any]]) -> None:
        """The steps that `advance` gave are sealed."""
        self.known.take_all(steps)

    def judge_from(self, when: datetime) -> None:
        """In the next run judge anew everything from `when` on."""
        for judge in self._judges:
            judge.pending = joined([*judge.pending, (when, END)])

    @property
    def waiting(self) -> bool:
        """Whether something is to be judged anew, whatever comes. What failed waits for the next entries."""
        return any(judge.pending for judge in self._judges if judge.force.id not in self.troubles)

    def superseded(self) -> None:
        """Another engine was faster: all that was just judged is judged again, against what it sealed."""
        for judge in self._judges:
            judge.pending = joined([*judge.pending, *judge.last])

    def close(self) -> None:
        """Free the memory."""
        self._pool.shutdown(cancel_futures=True)
        self.memory.close()

    def _take(self, entries: Sequence[Entry]) -> list[Stretch]:
        stamps = read_entries_into(self.clocks, entries)
        self.size += len(entries)
        self._stamps.update(stamps)
        if self.memory.floor == END and stamps:
            self.memory.floor = START
        stretches: list[Stretch] = []
        for table in self.loader.rows(stamps, self.memory.columns, None, None):
            stretches += self.memory.take(table)
        return joined(stretches)

    def _trim(self) -> None:
        for judge in self._judges:
            judge.forget(self.clocks.settle)
        if self.clocks.settle - START > self._horizon:
            self.memory.forget_before(self.clocks.settle - self._horizon)

    def _task(
        self, rule_id: str, judges: Sequence[RuleJudge], stretches: list[Stretch], before: datetime
    ) -> _Task:
        due = self._due(rule_id, judges)
        touched = []
        for judge in judges:
            judge.let_ripen(self.clocks.settle)
            again = (one for one in due if not judge.covers(one))
            touched.append(few(joined([*judge.touched(stretches, before, self.clocks.settle), *again])))
        return _Task(rule_id, judges, touched, due)

    def _reach_back(self, task: _Task) -> None:
        """Let the memory hold all rows that a rule needs."""
        for judge, touched in zip(task.judges, task.touched, strict=True):
            for stretch in touched:
                low = judge.floor_for(stretch)
                if low < self.memory.floor != END:
                    older = self.loader.rows(self._stamps, self.memory.columns, low, self.memory.floor)
                    self.memory.take_older(older, low)

    def _run(self, task: _Task, *, alone: bool = False) -> list[dict[str, Any]] | None:
        """One rule; several run at once, each on a connection of its own. None: memory ran out among them."""
        begun = time.perf_counter()
        steps: list[dict[str, Any]] = []
        try:
            for judge, touched in zip(task.judges, task.touched, strict=True):
                judge.last = touched
                for stretch in touched:
                    judge.find(stretch)
            changed = [one for touched in task.touched for one in touched]
            for buckets in joined(
                judge.buckets(one) for judge in task.judges for one in (*changed, *task.due)
            ):
                answers: dict[str, Answer] = {}
                for judge in task.judges:
                    for one in judge.answers(buckets).values():
                        there = answers.get(one.alert_id)
                        answers[one.alert_id] = one if there is None else merged(there, one)
                steps += self._difference(task.rule_id, task.judges, *buckets, answers)
        except (duckdb.Error, LedgerError) as error:
            if isinstance(error, duckdb.OutOfMemoryException) and not alone:
                return None
            self._trouble(task, error)
            return []
        finally:
            self.rule_seconds[task.rule_id] = time.perf_counter() - begun
        for judge in task.judges:
            judge.pending = []
        self.troubles.pop(task.rule_id, None)
        return steps

    def _due(self, rule_id: str, judges: Sequence[RuleJudge]) -> list[Stretch]:
        """The buckets of alerts that are out as provisional, and may be settled now."""
        return [
            (one.window_start, one.window_start + timedelta(microseconds=1))
            for one in self.known.unsettled(rule_id)
            if any(judge.settled(one.window_start, self.clocks.settle) for judge in judges)
        ]

    def _difference(
        self,
        rule_id: str,
        judges: Sequence[RuleJudge],
        low: datetime,
        high: datetime,
        answers: dict[str, Answer],
    ) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = []
        settle = self.clocks.settle
        now = self.clocks.ledger
        withdrawn: dict[str, str] = {}
        for sealed in list(self.known.of_rule(rule_id, low, high)):
            if sealed.alert_id not in answers:
                for _ in next_outcome(None, sealed, settled=True):
                    last = self.known.last(sealed.alert_id)
                    steps.append(withdrawal(sealed, last, now=now, size=self.size))
                    withdrawn[sealed.key] = sealed.alert_id
        for answer in sorted(answers.values(), key=lambda one: (one.found.window_start, one.alert_id)):
            known = self.known.get(answer.alert_id)
            settled = all(judge.settled(answer.found.window_start, settle) for judge in judges)
            step = known.steps if known is not None else 0
            for outcome in next_outcome(answer, known, settled=settled):
                follows = self._follows(answer, withdrawn) if outcome == "fired" else None
                state = answer.rule.state
                steps.append(
                    event(answer, outcome, step, now=now, size=self.size, state=state, follows=follows)
                )
                step += 1
        return steps

    def _follows(self, answer: Answer, withdrawn: Mapping[str, str]) -> str | None:
        """The alert that this one goes on from: of the bucket before, unresolved, or withdrawn just now."""
        key = alert_key(answer.found.key)
        if key in withdrawn:
            return withdrawn[key]
        start = answer.found.window_start - answer.rule.suppress
        before = self.known.get(alert_id(answer.rule.id, key, start))
        return before.alert_id if before is not None and self.known.is_open(before) else None

    def _trouble(self, task: _Task, error: Exception) -> None:
        message = error.message if isinstance(error, LedgerError) else first_line(error)
        there = self.troubles.get(task.rule_id)
        times = 1 if there is None else there.times + 1
        self.troubles[task.rule_id] = RuleTrouble(task.rule_id, message, times)
        for judge, touched in zip(task.judges, task.touched, strict=True):
            judge.pending = joined([*judge.pending, *touched])
        log.warning("a rule could not be judged", rule=task.rule_id, error=message)
