"""How much stands against each principal: its open alerts, added up by their severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from detections.alerting.standing import UNRESOLVED, stands
from detections.rulebook.rule import rank

WEIGHTS: Final = {"informational": 1, "low": 3, "medium": 10, "high": 30, "critical": 100}
"""What one open alert adds: three of a level outweigh one of the next."""


@dataclass(frozen=True, slots=True)
class Risk:
    """One principal: its score, its open alerts, the worst of them, and the rules that fired."""

    principal: str
    score: int
    alerts: int
    worst: str
    rules: tuple[str, ...]


def risk_scores(alerts: Iterable[Mapping[str, Any]]) -> list[Risk]:
    """Principals with open alerts, the highest score first.

    `alerts` as they stand. Withdrawn ones, drills, rules in staging, and alerts whose evidence names no one
    principal count for nobody.
    """
    held: dict[str, list[Mapping[str, Any]]] = {}
    for one in alerts:
        principal = one["delegated_actor"] or one["actor"]
        if principal is not None and one["state"] in UNRESOLVED and stands(one):
            held.setdefault(principal, []).append(one)
    found = [
        Risk(
            principal, sum(WEIGHTS.get(one["severity"], 0) for one in own), len(own),
            max((one["severity"] for one in own), key=rank), tuple(sorted({one["rule_id"] for one in own})),
        )
        for principal, own in held.items()
    ]  # fmt: skip
    return sorted(found, key=lambda one: (-one.score, one.principal))
