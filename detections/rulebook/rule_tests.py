"""The tests inside a rule: small sequences of events with times, and exactly the alerts that must come."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from detections.durations import Duration
from ledger.events import FIELD_NAMES, LEDGER_SET

MAX_TEST_EVENTS = 10_000


class EventLine(BaseModel):
    """An event at a time after the test's beginning; `times` and `every` repeat it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    at: Duration
    times: int = Field(default=1, ge=1, le=MAX_TEST_EVENTS)
    every: Duration | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        unknown = set(self.model_extra or {}) - set(FIELD_NAMES)
        if unknown:
            raise ValueError(f"an event has no field {min(unknown)}")
        if set(self.model_extra or {}) & LEDGER_SET:
            raise ValueError("an event sets a field that only the ledger sets")
        if (self.times > 1) != (self.every is not None):
            raise ValueError("times and every stand together")
        return self

    @property
    def fields(self) -> dict[str, Any]:
        """What the event says besides its time."""
        return dict(self.model_extra or {})


class ExpectedAlert(BaseModel):
    """An alert that must come: what is given here must agree."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: list[str | None]
    count: int | None = None
    severity: str | None = None
    late: bool = False


class RuleTest(BaseModel):
    """`events` in one commit, or `batches` of them in several; `alerts` are all that stand in the end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=200)
    defaults: dict[str, Any] = {}
    events: list[EventLine] = []
    batches: list[list[EventLine]] = []
    configs: dict[str, Any] = {}
    params: dict[str, Any] = {}
    until: Duration | None = None
    source: Literal["stream", "file"] = "stream"
    alerts: list[ExpectedAlert] = []

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if bool(self.events) == bool(self.batches):
            raise ValueError("a test has either events or batches")
        unknown = set(self.defaults) - set(FIELD_NAMES)
        if unknown:
            raise ValueError(f"an event has no field {min(unknown)}")
        return self
