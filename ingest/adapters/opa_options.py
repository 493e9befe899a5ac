"""What an intake may set for OPA decision logs.

`drop` names what the collector adds at the top level, `fields` fills a field of ours from a pointer
(`tenant: /input/context/tenant`), `paths` says by policy path or glob where in `result` the answer
stands (`authz/*: {decision: /allowed, reason: /why}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ingest.rows import SENDER_FIELDS
from ledger.errors import UsageError

MISSING: Final = object()
"""What `at` gives where there is nothing: null is something."""
_OWN: Final = frozenset({"event_id", "kind", "time", "source", "attributes", "retention", "decision"})
_SETTABLE: Final = frozenset(f.name for f in SENDER_FIELDS if f.type in ("text", "list")) - _OWN


def at(value: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901), or at dotted names; `MISSING` where there is none."""
    if not pointer:
        return value
    if pointer.startswith("/"):
        names = [name.replace("~1", "/").replace("~0", "~") for name in pointer[1:].split("/")]
    else:
        names = pointer.split(".")
    for name in names:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


class PathRule(BaseModel):
    """Where in `result` the answer (true, false, allow, permit, deny) and its reason stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: str
    reason: str | None = None


class OpaOptions(BaseModel):
    """Options of format `opa`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paths: dict[str, PathRule] = Field(default_factory=dict)
    """By policy path or glob; an exact path wins, then the first glob that matches."""
    fields: dict[str, str] = Field(default_factory=dict)
    """Fields of ours by the pointer in the decision that fills them, before the AuthZEN defaults."""
    drop: frozenset[str] = frozenset({"_upload"})

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str]) -> dict[str, str]:
        for name in fields:
            if name not in _SETTABLE:
                raise ValueError(f"{name} is not a field that can be filled from a pointer")
        return fields

    def rule_for(self, path: str) -> PathRule | None:
        """The mapping of one policy path."""
        if path in self.paths:
            return self.paths[path]
        return next((rule for glob, rule in self.paths.items() if fnmatchcase(path, glob)), None)


def parse_options(options: Mapping[str, Any]) -> OpaOptions:
    """Options as configured.

    Raises:
        UsageError: one is unknown or unusable.
    """
    try:
        return OpaOptions.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"The options of format opa are unusable at {place}: {first['msg']}.",
            "Known options: paths, fields, drop.",
        ) from None
