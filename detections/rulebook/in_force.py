"""Which version of a rule judges a completing row: the one that was in force at the row's time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from detections.recall.memory import END, START
from detections.rulebook.bound_rule import BoundRule
from detections.rulebook.excused import Excused


@dataclass(frozen=True)
class InForce:
    """A bound rule that judges completing rows in [since, until)."""

    bound: BoundRule
    since: datetime = START
    until: datetime = END
    excused: tuple[Excused, ...] = ()

    @property
    def id(self) -> str:
        """The rule's id."""
        return self.bound.rule.id

    @property
    def horizon(self) -> timedelta:
        """How long rows may be needed after the settle clock passed them."""
        rule = self.bound.rule
        return rule.window + self.bound.support + rule.waits + rule.lateness
