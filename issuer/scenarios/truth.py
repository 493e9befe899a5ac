"""Ground truth: what was planted in a scenario, so that a detection can be judged by it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from issuer.emitting.steps import time_text


@dataclass(slots=True)
class Incident:
    """One thing that went wrong, or a drill: which failure mode it is, and which rules must find it."""

    id: str
    kind: str
    failure_mode: int | None
    rules: list[str]
    principals: list[str] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)

    def say(self, event: dict[str, Any]) -> dict[str, Any]:
        """This event is a part of it."""
        self.events.append(event)
        return event

    def document(self) -> dict[str, Any]:
        """As it stands in the file."""
        times = sorted(event["at"] for event in self.events)
        return {
            "id": self.id, "failure_mode": self.failure_mode, "kind": self.kind, "rules": self.rules,
            "principals": self.principals,
            "trace_ids": sorted({event["trace_id"] for event in self.events if event.get("trace_id")}),
            "event_ids": [event["event_id"] for event in sorted(self.events, key=lambda one: one["at"])],
            "from": time_text(times[0]), "to": time_text(times[-1]),
        }  # fmt: skip


def truth_document(scenario: str, seed: int, events: int, incidents: Iterable[Incident]) -> dict[str, Any]:
    """The whole file: how much there is, and what was planted, in order of time."""
    documents = sorted((one.document() for one in incidents), key=lambda one: str(one["from"]))
    return {"scenario": scenario, "seed": seed, "events": events, "incidents": documents}
