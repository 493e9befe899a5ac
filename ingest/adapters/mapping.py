"""Which of a source's own fields hold agent, tenant, session or trace: a small file, reviewed, and no code.

[options.fields]
tenant = "/metadata/tenant"                                   # a JSON pointer
actor = { pointer = "/user/name", prefix = "user:" }
delegated_actor = { first = ["/agent/id", "/client"], prefix = "agent:" }
environment = { const = "production" }
impact = { pointer = "/labels/tier", map = { "1" = "high", "2" = "low" } }
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest.adapters.json_values import MISSING, at
from ingest.rows import SENDER_FIELDS
from ledger.errors import UsageError

_Model = TypeVar("_Model", bound=BaseModel)
_OWN: Final = frozenset({"event_id", "kind", "source", "time", "attributes", "retention", "decision"})
"""What the format itself decides."""
SETTABLE: Final = frozenset(f.name for f in SENDER_FIELDS if f.type in ("text", "list")) - _OWN
PRINCIPALS: Final = frozenset({"actor", "delegated_actor"})


class FieldRule(BaseModel):
    """Where one field comes from: a pointer, the first of several that holds something, or a word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pointer: str | None = None
    first: list[str] = Field(default_factory=list)
    const: str | list[str] | None = None
    prefix: str = ""
    map: dict[str, str] = Field(default_factory=dict)
    """What a value becomes; one that is not in it stays as it is."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"pointer": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_origin(self) -> FieldRule:
        if sum((self.pointer is not None, bool(self.first), self.const is not None)) != 1:
            raise ValueError("give one of pointer, first and const")
        return self

    def pointers(self) -> list[str]:
        """Where it is looked for, in order."""
        return [self.pointer] if self.pointer is not None else self.first

    def value(self, sent: Mapping[str, Any]) -> tuple[str | list[str] | None, str | None]:
        """What a message says, and the pointer that said it."""
        if self.const is not None:
            return self.const, None
        for pointer in self.pointers():
            found = at(sent, pointer)
            if found is MISSING or found in (None, "", [], {}):
                continue
            if isinstance(found, list):
                return [self._worded(one) for one in found], pointer
            return self._worded(found), pointer
        return None, None

    def _worded(self, value: Any) -> str:
        text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        text = self.map.get(text, text)
        return text if not self.prefix or text.startswith(self.prefix) else f"{self.prefix}{text}"


class Mapped(BaseModel):
    """Options of a format whose fields a deployment may map."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fields: dict[str, FieldRule] = Field(default_factory=dict)
    """Fields of ours by where they come from, before what the format itself reads."""

    @model_validator(mode="after")
    def _known(self) -> Mapped:
        for name in self.fields:
            if name not in SETTABLE:
                raise ValueError(f"{name} is not a field that can be mapped")
        return self

    def filled(self, sent: Mapping[str, Any]) -> dict[str, str | list[str]]:
        """The mapped fields of a message that say something."""
        found: dict[str, str | list[str]] = {}
        for name, rule in self.fields.items():
            value, _ = rule.value(sent)
            if value is None:
                continue
            person = of_user(value) if name in PRINCIPALS and isinstance(value, str) else None
            found[name] = person or value
        return found


def read_options(model: type[_Model], format_: str, options: Mapping[str, Any]) -> _Model:
    """The options of a format as configured.

    Raises:
        UsageError: one is unknown or unusable.
    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "its top"
        raise UsageError(
            f"The options of format {format_} are unusable at {place}: {first['msg']}.",
            f"Known options: {', '.join(model.model_fields)}.",
        ) from None


class Sourced(Mapped):
    """Options of a format whose messages do not say which of several installations wrote them."""

    source: str | None = Field(default=None, min_length=1, max_length=200)
    """The name under which this installation's events are sealed; without it the format's own."""


def of_user(name: str | None) -> str | None:
    """A principal of ours: one without a type is a user."""
    return name if name is None or ":" in name else f"user:{name}"
