"""Tools: what agents call, at which endpoint, and what each action costs if it goes wrong (`tools.yml`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from issuer.registry.words import NAME, Name, Principal, Record, Scope, Words
from ledger.events import ActionType, DataClass, Impact
from ledger.format.scopes import beyond

_ENDPOINT: Final = re.compile(rf"tool:({NAME})/({NAME})")
IMPACTS: Final[tuple[Impact, ...]] = ("low", "medium", "high")
"""From the least to the greatest."""


def _endpoint(value: str) -> str:
    if not _ENDPOINT.fullmatch(value):
        raise ValueError("write it as tool:environment/name")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]


class Action(Record):
    """One thing that a tool does."""

    name: Scope = Field(description="resource type and verb, such as ticket:read")
    impact: Impact = Field(description="of one call: low, medium or high")
    action_type: ActionType = Field(description="read, write, execute or admin")
    required_scopes: list[Scope] = Field(min_length=1, description="what a credential must hold for it")
    data_class: DataClass = Field(description="of the data that it touches")

    @property
    def resource_type(self) -> str:
        """The type of what it acts on."""
        return self.name.rpartition(":")[0]


class Tool(Record):
    """One tool, behind one enforcement point."""

    endpoint: Endpoint = Field(description="tool:environment/name: the audience of its capabilities")
    pep: Literal["gateway", "tool_router", "data_adapter", "worker"] = Field(
        default="tool_router", description="the enforcement point in front of it"
    )
    owner: Principal = Field(description="who answers for it")
    system: Words = Field(description="the system that it is a part of")
    purpose: Words = Field(description="what it is for")
    environment: Name = Field(description="where it runs")
    actions: list[Action] = Field(min_length=1, description="what it does")

    @property
    def name(self) -> str:
        """The last part of its endpoint."""
        return self.endpoint.partition("/")[2]

    @property
    def scopes(self) -> tuple[str, ...]:
        """All scopes that any of its actions needs, sorted."""
        return tuple(sorted({scope for action in self.actions for scope in action.required_scopes}))

    def action(self, name: str) -> Action | None:
        """The action of this name."""
        return next((action for action in self.actions if action.name == name), None)

    def allowed(self, scopes: Iterable[str]) -> list[Action]:
        """The actions that a credential with these scopes reaches."""
        held = tuple(scopes)
        return [action for action in self.actions if not beyond(action.required_scopes, held)]


def greatest(impacts: Iterable[Impact]) -> Impact:
    """The greatest of some impacts; low for none."""
    return max(impacts, key=IMPACTS.index, default="low")
