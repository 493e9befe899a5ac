"""Running the tests inside a rule: their events are sealed in memory, and the engine itself judges them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
from pydantic import ValidationError

from detections.configs.models import parse_config
from detections.configs.timeline import Timeline
from detections.durations import parse_duration
from detections.recall.feed import Stamp, stamped
from detections.recall.memory import START
from detections.rulebook.bound_rule import bind
from detections.rulebook.rule import Rule
from detections.rulebook.rule_tests import EventLine, RuleTest
from detections.watch import last_steps
from ledger.errors import UsageError
from ledger.events import ARROW_SCHEMA, Event
from ledger.format.manifest import (
    Append,
    CompleteKey,
    Entry,
    OffsetsRow,
    SegmentRef,
    Tick,
    event_path,
    instant,
)

BEGIN: Final = datetime(2026, 11, 16, 10, tzinfo=UTC)
"""When every test begins: a Monday."""
QUIET: Final = timedelta(days=2)
"""How long after its last event a test looks, where it does not say: long enough for all to settle."""


@dataclass
class MemoryLog:
    """Entries and rows as a ledger would have them, without files, hashes or signatures."""

    entries: list[Entry] = field(default_factory=list)
    tables: dict[str, pa.Table] = field(default_factory=dict)

    def append(self, events: Sequence[Mapping[str, Any]], when: datetime, *, topic: str = "test") -> None:
        """Seal events at a time; their source is read to its end with them."""
        table = pa.Table.from_pylist([dict(one) for one in events], ARROW_SCHEMA)
        path = event_path("standard", when.date().isoformat(), f"{len(self.entries):032x}")
        times = [one["time"] for one in events]
        start = len(self.entries)
        ref = SegmentRef(
            path=path, retention="standard", date=when.date().isoformat(), rows=len(events), bytes=0,
            sha256="0" * 64, root="0" * 64, min_time=instant(min(times)), max_time=instant(max(times)),
            kinds={},
        )  # fmt: skip
        offsets = OffsetsRow(
            topic=topic, partition=0, from_=start, to=start + 1, accepted=1, complete=instant(when)
        )
        self.tables[path] = table
        self.entries.append(Append(**self._common(when), segments=[ref], offsets=[offsets]))

    def tick(self, when: datetime) -> None:
        """Let the clocks go on."""
        complete = [CompleteKey(topic="test", partition=0, complete=instant(when))]
        self.entries.append(Tick(**self._common(when), complete=complete))

    def rows(
        self, stamps: Mapping[str, Stamp], columns: Sequence[str], low: datetime | None, high: datetime | None
    ) -> Iterator[pa.Table]:
        """As `detections.watch.Loader` wants them."""
        for path, stamp in stamps.items():
            table = stamped(self.tables[path], columns, stamp)
            keep = [
                (low is None or time >= low) and (high is None or time < high)
                for time in table["time"].to_pylist()
            ]
            yield table.filter(pa.array(keep, pa.bool_()))

    def _common(self, when: datetime) -> dict[str, Any]:
        return {
            "index": len(self.entries), "prev": "0" * 64, "time": instant(when), "writer": "test",
            "software": "test",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one test: nothing wrong, or the lines of a readable difference."""

    rule_id: str
    name: str
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether exactly the alerts came that the test asks for."""
        return not self.problems


def try_rule(rule: Rule) -> list[Verdict]:
    """Run all tests of a rule.

    Raises:
        UsageError: its query cannot be bound, or an event of a test is none.
    """
    bind(rule)
    return [_try(rule, test) for test in rule.tests]


def _try(rule: Rule, test: RuleTest) -> Verdict:
    return Verdict(rule.id, test.name, tuple(_difference(test, standing_of(rule, test))))


def standing_of(rule: Rule, test: RuleTest) -> list[dict[str, Any]]:
    """The last step of every alert that stands at the end of a test.

    Raises:
        UsageError: the test names a configuration that there is not, or an event of it is none.
    """
    timeline = Timeline()
    timeline.set(
        "rules", [rule.model_copy(update={"state": "active", "params": {**rule.params, **test.params}})]
    )
    for name, value in test.configs.items():
        if name not in ("sources", "tiers", "exercises", "rule-exceptions"):
            raise UsageError(f"{rule.id}: there is no configuration {name!r}.", "Correct the test.")
        timeline.set(name, parse_config(name, value))
    return standing_alerts(timeline, log_of(rule.id, test))


def standing_alerts(timeline: Timeline, log: MemoryLog) -> list[dict[str, Any]]:
    """The last step of every alert that stands in the end, in order of time and key."""
    last = last_steps(timeline, log, ([entry] for entry in log.entries))
    standing = [step for step in last if step["outcome"] != "withdrawn"]
    return sorted(standing, key=lambda step: (step["window_start"], step["alert_key"]))


def log_of(rule_id: str, test: RuleTest) -> MemoryLog:
    """The log that a test's batches make: each is sealed right after its last event."""
    log = MemoryLog()
    batches = test.batches or [test.events]
    count = 0
    now = START
    for batch in batches:
        events = []
        for line in batch:
            for event in _events(rule_id, test, line, count):
                events.append(event)
                count += 1
        last = max(event["time"] for event in events)
        now = max(now, last + timedelta(seconds=1))
        log.append(events, now, topic="file:test" if test.source == "file" else "test")
    end = now + QUIET if test.until is None else BEGIN + test.until
    if end > now:
        log.tick(end)
    return log


def _events(rule_id: str, test: RuleTest, line: EventLine, count: int) -> Iterator[dict[str, Any]]:
    for number in range(line.times):
        when = BEGIN + line.at + (line.every or timedelta(0)) * number
        value = {
            "event_id": f"e{count + number}", "source": "test", "time": when, "retention": "standard",
            **test.defaults, **line.fields,
        }  # fmt: skip
        for name, one in list(value.items()):
            if name.endswith("_at") and isinstance(one, str):
                value[name] = BEGIN + _offset(one)
        try:
            Event.model_validate(value)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            message = f"{rule_id}: in the test {test.name!r}: {where}: {problem['msg']}."
            raise UsageError(message, "Correct the event.") from None
        yield value


def _offset(text: str) -> timedelta:
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text.removeprefix("+"))


def _difference(test: RuleTest, standing: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    left = list(standing)
    for wanted in test.alerts:
        key = [json.loads(one["alert_key"]) for one in left]
        if wanted.key not in key:
            yield f"- missing: an alert with the key {json.dumps(wanted.key)}"
            continue
        alert = left.pop(key.index(wanted.key))
        late = "late" in json.loads(alert["attributes"])
        for name, want, got in (
            ("count", wanted.count, alert["count"]), ("severity", wanted.severity, alert["severity"]),
            ("late", wanted.late, late),
        ):  # fmt: skip
            if want is not None and want != got:
                yield f"- {json.dumps(wanted.key)}: {name} should be {want}, and is {got}"
    for alert in left:
        yield (
            f"- not expected: {alert['alert_key']} with {alert['count']} events,"
            f" {instant(alert['first_seen'])} to {instant(alert['last_seen'])}"
        )
