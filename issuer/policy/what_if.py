"""Past decisions asked again of another bundle: what it would have said, and where that differs.

A decision can be asked again where it was made by Cedar and its event names the session's bounds, the
action, the resource and what the policy was told beside them (context grade 3). What the ledger holds is
asked about as it was; who people, agents and endpoints are comes from today's registry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from issuer.policy.engine import NAME, Engine
from issuer.policy.question import Question, SessionFacts
from issuer.registry.people import Resource
from issuer.registry.registry import Registry
from issuer.registry.tools import Action

COLUMNS: Final = (
    "source", "event_id", "time", "decision", "reason", "policy_id", "policy_version", "policy_engine",
    "session_id", "tenant", "environment", "trust_zone", "session_data_classes", "session_risk", "actor",
    "delegated_actor", "action", "action_type", "impact", "data_class", "required_scopes", "resource",
    "resource_tenant", "resource_environment", "resource_trust_zone", "purpose", "approval_id", "attributes",
)  # fmt: skip
"""Of a decision, what is needed to ask it again."""
MAX_EXAMPLES: Final = 20


@dataclass(slots=True)
class Difference:
    """Decisions that would be answered otherwise, and in the same way: how many, and the first of them."""

    was: str
    now: str
    policy: str
    action: str
    principal: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WhatIf:
    """How many were asked again, how many would stay, which would differ, which cannot be asked."""

    asked: int = 0
    same: int = 0
    differences: dict[tuple[str, ...], Difference] = field(default_factory=dict)
    not_asked: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For machines; the most frequent difference first."""
        ordered = sorted(self.differences.values(), key=lambda one: (-one.count, one.was, one.action))
        return {
            "asked": self.asked, "same": self.same, "different": self.asked - self.same,
            "differences": [
                {"was": one.was, "now": one.now, "policy": one.policy, "action": one.action,
                 "principal": one.principal, "count": one.count, "examples": one.examples}
                for one in ordered
            ],
            "not_asked": self.not_asked,
        }  # fmt: skip


def ask_again(rows: Iterable[Mapping[str, Any]], engine: Engine, registry: Registry) -> WhatIf:
    """Ask every decision of `rows` (columns COLUMNS) again."""
    found = WhatIf()
    answers: dict[tuple[Any, ...], tuple[str, str]] = {}
    endpoints = registry.endpoints
    for row in rows:
        why = _why_not(row, registry, endpoints)
        if why is not None:
            found.not_asked[why] = found.not_asked.get(why, 0) + 1
            continue
        told = json.loads(row["attributes"])
        key = (*(str(row[name]) for name in COLUMNS[9:-2]), row["approval_id"] is not None,
               told.get("approved"), told.get("break_glass"), str(told.get("crosses")))  # fmt: skip
        if key not in answers:
            verdict = engine.decide(_question(row, told, registry), break_glass=bool(told.get("break_glass")))
            answers[key] = (verdict.decision, verdict.policy_id)
        now, policy = answers[key]
        found.asked += 1
        if now == row["decision"]:
            found.same += 1
            continue
        principal = str(row["delegated_actor"] or row["actor"])
        place = (row["decision"], now, policy, row["action"], principal)
        one = found.differences.setdefault(place, Difference(*place))
        one.count += 1
        if len(one.examples) < MAX_EXAMPLES:
            one.examples.append(f"{row['source']}#{row['event_id']}")
    return found


def with_resources_of(rows: Iterable[Mapping[str, Any]], registry: Registry) -> Registry:
    """The registry with the resources that decisions speak of, as their events have them."""
    seen = {
        row["resource"]: Resource.model_construct(
            id=row["resource"], tenant=row["resource_tenant"], environment=row["resource_environment"],
            zone=row["resource_trust_zone"] or "internal", data_class=row["data_class"],
        )
        for row in rows
        if row["resource"] and row["resource_tenant"] and row["resource_environment"] and row["data_class"]
    }  # fmt: skip
    return replace(registry, resources={**seen, **registry.resources})


def _why_not(row: Mapping[str, Any], registry: Registry, endpoints: Collection[str]) -> str | None:
    if row["policy_engine"] != NAME:
        return "another engine decided"
    if not row["attributes"]:
        return "what the policy was told is not in it"
    if not all(row[name] for name in ("action", "resource", "tenant", "environment", "required_scopes")):
        return "action, resource or session are not in it"
    if row["resource_tenant"] is None and row["resource"] not in endpoints:
        return "the endpoint is not registered"
    if row["resource_tenant"] is not None and row["resource"] not in registry.resources:
        return "the resource's environment or data class is not in it"
    if row["delegated_actor"] is not None and row["delegated_actor"] not in registry.workloads:
        return "the agent is not registered"
    if row["actor"] is not None and row["actor"].startswith("user:") and row["actor"] not in registry.users:
        return "the person is not registered"
    return None


def _question(row: Mapping[str, Any], told: Mapping[str, Any], registry: Registry) -> Question:
    session = SessionFacts(
        row["session_id"] or "", row["actor"] or "", row["tenant"], row["environment"],
        row["trust_zone"] or "internal", str(told.get("purpose") or row["purpose"] or ""),
        int(told.get("risk") or row["session_risk"] or 0), tuple(row["session_data_classes"] or ()),
    )  # fmt: skip
    action = Action.model_construct(
        name=row["action"], impact=row["impact"], action_type=row["action_type"],
        required_scopes=list(row["required_scopes"]), data_class=row["data_class"],
    )  # fmt: skip
    crosses = told.get("crosses") or []
    question = Question(
        session=session, action=action, resource=_resource(row, registry), agent=row["delegated_actor"],
        user=registry.users.get(row["actor"] or ""),
        approved=bool(told.get("approved") or row["approval_id"] is not None),
    )  # fmt: skip
    # What was not crossed then was covered by a grant: the event says which bounds were left.
    covered = frozenset(question.crosses) - frozenset(crosses)
    return replace(question, covers=covered)


def _resource(row: Mapping[str, Any], registry: Registry) -> Resource | str:
    if row["resource_tenant"] is None:
        return str(row["resource"])
    return registry.resources[row["resource"]]
