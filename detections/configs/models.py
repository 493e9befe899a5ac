"""What each configuration file says. All are YAML, with one mapping or list under the file's own name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from detections.durations import Duration
from detections.metric_catalogue import METRICS
from detections.rulebook.rule import Id, Rule
from ledger.events import Time

Name = Annotated[str, StringConstraints(min_length=1, max_length=1_024)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
MAX_RECORDS: Final = 10_000
MAX_PATTERNS: Final = 200
METRIC_NAMES: Final = tuple(metric.name for metric in METRICS)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(_Record):
    """One source: which context grade is asked of it, how long it may be silent, what it may cause.

    `agents` are patterns of principals that are agents there, with `*` for any letters.
    """

    agentic: bool = False
    agents: list[Name] = Field(default=[], max_length=100)
    trusted: bool = False
    grade: int | None = Field(default=None, ge=0, le=4)
    silent_after: Duration | None = None


class Exercise(_Record):
    """A declared drill: its events count as one only from these sources and in this time."""

    id: Name
    sources: list[Name] = Field(min_length=1, max_length=100)
    begins_at: Time
    ends_at: Time

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ends_at <= self.begins_at:
            raise ValueError("it ends before it begins")
        return self


class RuleException(_Record):
    """What a rule finds and nobody wants to hear of: which key, who answers for it, why, until when."""

    rule: Id
    match: dict[str, Name] = Field(min_length=1, max_length=8)
    owner: Name
    reason: Reason
    expires_at: Time


class Ownership(_Record):
    """Who answers for one principal: the fields of the registry of agents."""

    id: Name
    owner: Name
    system: Name
    purposes: list[Name] = Field(min_length=1, max_length=100)
    environment: Name
    credential_type: Name


Sources = dict[Name, SourceSettings]


def _patterns(sources: Sources) -> Sources:
    for name, one in sources.items():
        if "*" in name and one != SourceSettings(agentic=one.agentic, agents=one.agents):
            raise ValueError(f"{name} is a pattern, which may say agentic and agents only; name each source")
    count = sum(len(one.agents) + ("*" in name and one.agentic) for name, one in sources.items())
    if count > MAX_PATTERNS:
        raise ValueError(f"{count} patterns; at most {MAX_PATTERNS} are looked at for each event")
    return sources


Tiers = dict[Name, Literal["low", "medium", "high"]]


def _metric(name: str) -> str:
    if name not in METRIC_NAMES:
        raise ValueError(f"there is no metric of this name; use one of {', '.join(METRIC_NAMES)}")
    return name


_KINDS: Final[dict[str, TypeAdapter[Any]]] = {
    "sources": TypeAdapter(Annotated[Sources, Field(max_length=MAX_RECORDS), AfterValidator(_patterns)]),
    "tiers": TypeAdapter(Annotated[Tiers, Field(max_length=MAX_RECORDS)]),
    "exercises": TypeAdapter(Annotated[list[Exercise], Field(max_length=MAX_RECORDS)]),
    "rule-exceptions": TypeAdapter(Annotated[list[RuleException], Field(max_length=MAX_RECORDS)]),
    "ownership": TypeAdapter(Annotated[list[Ownership], Field(max_length=MAX_RECORDS)]),
    "targets": TypeAdapter(dict[Annotated[str, AfterValidator(_metric)], Annotated[float, Field(ge=0)]]),
    "rules": TypeAdapter(Annotated[list[Rule], Field(max_length=500)]),
}
NAMES: Final = tuple(_KINDS)


def parse_config(name: str, value: Any) -> Any:
    """The configuration `name` from plain data. Raises pydantic's ValidationError."""
    return _KINDS[name].validate_python(value)
