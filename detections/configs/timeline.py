"""Which configuration is in force when: the last one sealed by a row's time; for earlier rows the first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from detections.configs.models import Ownership, RuleException, SourceSettings
from detections.configs.sealed import is_ours, sealed_config
from detections.recall.memory import END, START
from detections.rulebook.bound_rule import bind
from detections.rulebook.excused import Excused
from detections.rulebook.in_force import InForce
from detections.rulebook.rule import Rule
from ledger.format.manifest import Config
from ledger.storage.store import Store


@dataclass
class Timeline:
    """Every configuration of detections' own, with its time of sealing, in order."""

    sealed: dict[str, list[tuple[datetime, Any]]] = field(default_factory=dict)

    def take(self, store: Store, configs: Iterable[tuple[datetime, Config]]) -> list[datetime]:
        """Let sealed configurations count; the times from which on something is judged otherwise."""
        changed = []
        for when, entry in configs:
            if is_ours(entry.name):
                there = self.sealed.setdefault(entry.name, [])
                changed.append(when if there else START)
                there.append((when, sealed_config(store, entry.name, entry.sha256)))
        return changed

    def set(self, name: str, value: Any, since: datetime = START) -> None:
        """Let `value` be in force from `since` on, as a backtest or a test asks."""
        self.sealed.setdefault(name, []).append((since, value))

    def spans(self, name: str) -> list[tuple[datetime, datetime, Any]]:
        """(since, until, value) of each configuration of a name."""
        there = self.sealed.get(name, [])
        starts = [START, *(max(one[0] for one in there[: n + 1]) for n in range(1, len(there)))]
        ends = [*starts[1:], END]
        spans = zip(starts, ends, there, strict=False)
        return [(since, until, value) for since, until, (_, value) in spans if since < until]

    def last(self, name: str) -> Any:
        """The configuration of a name that is in force now; None where none was sealed."""
        spans = self.spans(name)
        return spans[-1][2] if spans else None

    def ownership(self) -> dict[str, Ownership]:
        """Who answers for each principal, by the configuration in force now."""
        return {one.id: one for one in self.last("ownership") or ()}

    def rules(self) -> list[InForce]:
        """The rules in force at any time, each version with its time; paused ones are left out."""
        found: list[InForce] = []
        for since, until, rules in self.spans("rules"):
            running: Sequence[Rule] = [rule for rule in rules if rule.state != "paused"]
            found += [InForce(bind(rule), since, until, self._excused(rule.id)) for rule in running]
        return found

    def source_rows(self) -> list[tuple[str, SourceSettings, datetime, datetime]]:
        """(source, what was said of it, since, until)."""
        return [
            (name, one, since, until)
            for since, until, said in self.spans("sources")
            for name, one in said.items()
            if "*" not in name
        ]

    def agent_rows(self) -> list[tuple[str, str, datetime, datetime]]:
        """(source, principal, since, until): patterns of LIKE, escaped by !, of who counts as an agent."""
        return [
            (_like(name), _like(principal), since, until)
            for since, until, said in self.spans("sources")
            for name, one in said.items()
            for principal in [*one.agents, *(["*"] if "*" in name and one.agentic else [])]
        ]

    def tier_rows(self) -> list[tuple[str, str, datetime, datetime]]:
        """(action, impact, since, until)."""
        return [
            (action, impact, since, until)
            for since, until, tiers in self.spans("tiers")
            for action, impact in tiers.items()
        ]

    def drill_rows(self) -> list[tuple[str, str, datetime, datetime]]:
        """(id, source, begin, end) of the drills that were ever declared."""
        return [
            (one.id, source, one.begins_at, one.ends_at)
            for _, _, value in self.spans("exercises")
            for one in value
            for source in one.sources
        ]

    def _excused(self, rule_id: str) -> tuple[Excused, ...]:
        found = []
        for since, until, value in self.spans("rule-exceptions"):
            exceptions: Sequence[RuleException] = value
            found += [
                Excused(one.rule, one.match, since, min(until, one.expires_at))
                for one in exceptions
                if one.rule == rule_id and since < one.expires_at
            ]
        return tuple(found)


def _like(pattern: str) -> str:
    """A pattern whose `*` stands for any letters, as LIKE has it with the escape sign !."""
    for sign in "!%_":
        pattern = pattern.replace(sign, f"!{sign}")
    return pattern.replace("*", "%")
