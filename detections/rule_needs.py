"""What a rule needs of the events to find anything, learned from its own tests.

A test that asks for an alert is run again without one field, or without one kind of event: where the rule
then no longer finds it, it needs that. Tests of one rule may need different things, since it may find its
alert in different ways: any of them will do. The answers for our own rules are kept in `rules/needs.json`,
which `python -m detections.rule_needs` writes, since they take a while to work out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from detections.metric_catalogue import METRICS
from detections.rulebook.rule import Rule
from detections.rulebook.rule_files import shipped_rules
from detections.rulebook.rule_tests import EventLine, RuleTest
from detections.trial import standing_of

PRINCIPAL: Final = "actor or delegated_actor"
"""Either will do: whoever acts."""
_OTHER: Final = {"actor": "delegated_actor", "delegated_actor": "actor"}
FILE: Final = "needs.json"
_ALWAYS: Final = frozenset({"kind", "time", "source", "event_id", "retention"})


@dataclass(frozen=True, slots=True)
class Needs:
    """Kinds of events and fields without which a rule or a metric has nothing to say."""

    kinds: tuple[str, ...]
    fields: tuple[str, ...]

    def within(self, other: Needs) -> bool:
        """Whether it needs nothing that the other does not need."""
        return {*self.kinds} <= {*other.kinds} and {*self.fields} <= {*other.fields}

    def missing(self, kinds: Collection[str], fields: Collection[str]) -> list[str]:
        """What a source with these kinds and filled fields does not give."""
        lacking = [f"{kind} events" for kind in self.kinds if kind not in kinds]
        has_principal = "actor" in fields or "delegated_actor" in fields
        for name in self.fields:
            if name == PRINCIPAL:
                lacking += [] if has_principal else [PRINCIPAL]
            elif name not in fields:
                lacking.append(name)
        return lacking


def lacking(ways: Sequence[Needs], kinds: Collection[str], fields: Collection[str]) -> list[str]:
    """What is missing for the way that comes closest; nothing where one of them works."""
    return min((way.missing(kinds, fields) for way in ways), key=len, default=[])


@cache
def shipped_needs() -> Mapping[str, Sequence[Needs]]:
    """By rule, the ways in which it may find something."""
    text = (resources.files("detections") / "rules" / FILE).read_text("utf-8")
    return {
        name: [Needs(tuple(one["kinds"]), tuple(one["fields"])) for one in ways]
        for name, ways in json.loads(text).items()
    }


def metric_needs() -> Mapping[str, Sequence[Needs]]:
    """By metric, what it counts by."""
    return {metric.name: [Needs(metric.kinds, metric.fields)] for metric in METRICS}


def needs_of(rule: Rule) -> list[Needs]:
    """By each test that asks for an alert, what it needs; of two ways the one that needs more is left out."""
    ways: set[Needs] = set()
    for test in rule.tests:
        if not test.alerts:
            continue
        kinds, fields = _used(test)
        needed = {_named(rule, test, name) for name in fields if not _fires(rule, _without(test, name))}
        asked = {kind for kind in kinds if not _fires(rule, _without_kind(test, kind))}
        ways.add(Needs(tuple(sorted(asked)), tuple(sorted(needed))))
    return sorted(
        (one for one in ways if not any(other != one and other.within(one) for other in ways)),
        key=lambda one: (one.kinds, one.fields),
    )


def written(rules: Sequence[Rule]) -> str:
    """What the file holds for these rules."""
    value = {
        rule.id: [{"kinds": one.kinds, "fields": one.fields} for one in needs_of(rule)] for rule in rules
    }
    return json.dumps(value, indent=2) + "\n"


def _named(rule: Rule, test: RuleTest, field: str) -> str:
    """A field that is needed; `PRINCIPAL` where the other of the two would do as well."""
    other = _OTHER.get(field)
    if other is None:
        return field
    return PRINCIPAL if _fires(rule, _changed(test, lambda said: _moved(said, field, other))) else field


def _moved(said: dict[str, Any], field: str, other: str) -> dict[str, Any]:
    kept = {name: value for name, value in said.items() if name != field}
    return {**kept, other: said[field]} if said.get(field) is not None else kept


def _used(test: RuleTest) -> tuple[set[str], set[str]]:
    said = [{**test.defaults, **line.fields} for batch in _batches(test) for line in batch]
    kinds = {str(one.get("kind")) for one in said}
    return kinds, {name for one in said for name in one} - _ALWAYS


def _batches(test: RuleTest) -> list[list[EventLine]]:
    return test.batches or [test.events]


def _without(test: RuleTest, field: str) -> RuleTest:
    """The test with events that lack a field."""
    return _changed(test, lambda said: {name: value for name, value in said.items() if name != field})


def _without_kind(test: RuleTest, kind: str) -> RuleTest:
    return _changed(test, lambda said: None if said.get("kind") == kind else said)


def _changed(test: RuleTest, change: Any) -> RuleTest:
    batches = []
    for batch in _batches(test):
        lines = []
        for line in batch:
            said = change({**test.defaults, **line.fields})
            if said is not None:
                lines.append(EventLine(at=line.at, times=line.times, every=line.every, **said))
        if lines:
            batches.append(lines)
    return test.model_copy(update={"defaults": {}, "events": [], "batches": batches})


def _fires(rule: Rule, test: RuleTest) -> bool:
    if not any(_batches(test)):
        return False
    wanted = [one.key for one in test.alerts]
    # An alert about nobody, or about something else, is not the one that the test asks for.
    return any(json.loads(one["alert_key"]) in wanted for one in standing_of(rule, test))


if __name__ == "__main__":
    Path(__file__).with_name("rules").joinpath(FILE).write_text(written(shipped_rules()), "utf-8")
