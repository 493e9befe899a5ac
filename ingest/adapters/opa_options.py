"""What an intake may set for OPA decision logs, beside the mapping of fields.

`drop` names what the collector adds at the top level; `paths` says by policy path or glob where in `result`
the answer stands (`authz/*: {decision: /allowed, reason: /why}`).
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from ingest.adapters.mapping import Mapped


class PathRule(BaseModel):
    """Where in `result` the answer (true, false, allow, permit, deny) and its reason stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: str
    reason: str | None = None


class OpaOptions(Mapped):
    """Options of format `opa`."""

    paths: dict[str, PathRule] = Field(default_factory=dict)
    """By policy path or glob; an exact path wins, then the first glob that matches."""
    drop: frozenset[str] = frozenset({"_upload"})

    def rule_for(self, path: str) -> PathRule | None:
        """The mapping of one policy path."""
        if path in self.paths:
            return self.paths[path]
        return next((rule for glob, rule in self.paths.items() if fnmatchcase(path, glob)), None)
