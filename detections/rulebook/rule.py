"""What a rule says: one YAML file, in Sigma's vocabulary where it has one (docs/rules.md)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Final, Literal, Self

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from detections.durations import Duration, duration_text, parse_duration
from detections.rulebook.rule_tests import RuleTest
from ledger.format.plain_text import plain

Level = Literal["informational", "low", "medium", "high", "critical"]
State = Literal["active", "staging", "paused"]
LEVELS: Final[tuple[Level, ...]] = ("informational", "low", "medium", "high", "critical")
"""In order of severity."""
MAX_BUCKETS_OF_WINDOW: Final = 64
"""Windows may be so many times longer than `suppress`."""


def rank(level: str | None, unknown: int = 0) -> int:
    """Where a severity stands in LEVELS, from 0; `unknown` for any other word."""
    return [*LEVELS].index(level) if level in LEVELS else unknown


Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Param = bool | int | float | str | list[str]


class History(BaseModel):
    """How far back a first-seen rule looks, and how long it must have been looking before it judges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    look_back: Duration
    warm_up: Duration

    @model_validator(mode="after")
    def _days(self) -> Self:
        # What came before is kept by UTC day: a shorter look back would be answered inexactly.
        if self.look_back < timedelta(days=2):
            raise ValueError("look_back is at least 2d; a shorter one is a window")
        if self.warm_up > self.look_back:
            raise ValueError("warm_up is no longer than look_back")
        return self


class Rule(BaseModel):
    """One rule as its file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Line
    id: Id
    version: int = Field(default=1, ge=1)
    status: Literal["stable", "test", "experimental"] = "stable"
    state: State = "active"
    description: Line
    references: list[Line] = []
    tags: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]+$", max_length=64)]] = []
    level: Level
    falsepositives: list[Line] = []
    params: dict[Word, Param] = {}
    window: Duration = timedelta(0)
    suppress: Duration
    settle: Duration | None = None
    lateness: Duration = timedelta(minutes=5)
    history: History | None = None
    key: list[Word] = Field(min_length=1, max_length=8)
    missing: Literal["drop", "keep"] = "drop"
    runbook: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+\.md$")]
    respond: Literal["revoke"] | None = None
    query: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    tests: list[RuleTest] = Field(min_length=2, max_length=100)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.suppress < timedelta(minutes=1):
            raise ValueError("suppress is at least 1m: each key would else give an alert in every moment")
        if self.window > self.suppress * MAX_BUCKETS_OF_WINDOW:
            raise ValueError(f"window is at most {MAX_BUCKETS_OF_WINDOW} times suppress")
        if len(set(self.key)) != len(self.key):
            raise ValueError("key names a column twice")
        reserved = {"window", "settle", "look_back", "warm_up"} & self.params.keys()
        if reserved:
            raise ValueError(f"the parameter {min(reserved)} is the rule's own field")
        for name, said in (("positive", True), ("negative", False)):
            if not any(bool(test.alerts) == said for test in self.tests):
                raise ValueError(f"a rule has at least one {name} test")
        if plain(self.title) != self.title:
            raise ValueError("the title holds characters that do not print")
        return self

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of all that decides what the rule finds and says; its tests do not."""
        value = self.model_dump(mode="json", exclude={"tests", "state"})
        for name in ("window", "suppress", "settle", "lateness"):
            span = getattr(self, name)
            value[name] = None if span is None else duration_text(span)
        return hashlib.sha256(rfc8785.dumps(value)).hexdigest()

    @property
    def rule_version(self) -> str:
        """What alerts name: the version that people count, and which text it was."""
        return f"{self.version}-{self.digest[:12]}"

    @property
    def waits(self) -> timedelta:
        """How long after a moment its hits may still change by what a rule's own text asks for."""
        return self.settle or timedelta(0)

    def values(self) -> dict[str, Any]:
        """The values of the query's parameters, by name; texts that are spans of time are spans."""
        given: dict[str, Any] = {name: _value(value) for name, value in self.params.items()}
        given["window"], given["settle"] = self.window, self.waits
        if self.history is not None:
            given["look_back"], given["warm_up"] = self.history.look_back, self.history.warm_up
        return given


def _value(value: Param) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError:
            return value
    return value
