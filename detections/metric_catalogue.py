"""The eight metrics by name: the unit of each, which way is better, its target unless a file says another."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal

Shape = Literal["ratio", "rate", "seconds", "days"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: a share, a rate per 10,000, or the median of items."""

    name: str
    title: str
    shape: Shape
    better: Literal["higher", "lower"]
    target: float
    details: tuple[str, ...] = ()
    """Sums that are shown beside the figure, by their column in the SQL file."""
    kinds: tuple[str, ...] = ()
    """Kinds of events, and"""
    fields: tuple[str, ...] = ()
    """fields, without which it has nothing to count."""

    @property
    def unit(self) -> str:
        """What the figure is counted in."""
        return {"ratio": "share", "rate": "per 10,000", "seconds": "s", "days": "d"}[self.shape]


METRICS: Final = (
    Metric("session-scoped-credential-coverage", "Session-scoped credential coverage",
           "ratio", "higher", 0.95, kinds=("action",),
           fields=("credential_type", "session_id", "expires_at")),
    Metric("over-privileged-action-rate", "Over-privileged action rate", "ratio", "lower", 0.05,
           ("actions",), ("action",), ("scopes", "required_scopes")),
    Metric("revocation-effectiveness-time", "Revocation effectiveness time", "seconds", "lower", 5.0,
           kinds=("signal",), fields=("target", "reason")),
    Metric("policy-evaluation-coverage", "Policy evaluation coverage", "ratio", "higher", 0.99,
           ("despite_deny",), ("action", "decision"),
           ("policy_engine", "policy_version", "action", "resource")),
    Metric("exception-half-life", "Exception half-life", "days", "lower", 14.0,
           kinds=("exception",), fields=("exception_id", "outcome")),
    Metric("cross-tenant-denies", "Cross-tenant deny events", "rate", "lower", 10.0,
           ("without_resource_tenant",), ("decision",), ("tenant", "resource_tenant", "decision")),
    Metric("decision-log-completeness", "Decision-log completeness", "ratio", "higher", 0.98,
           ("grade_0", "grade_1", "grade_2", "grade_3", "grade_4"),
           ("decision",), ("actor", "trace_id", "policy_version")),
    Metric("security-adjusted-task-success", "Security-adjusted task success", "ratio", "higher", 0.9,
           ("succeeded", "unended", "actions_without_task"), ("task", "action"), ("task_id", "outcome")),
)  # fmt: skip
BY_NAME: Final = {metric.name: metric for metric in METRICS}


def prelude() -> str:
    """The CTEs that all files share."""
    return statement("prelude")


def statement(name: str) -> str:
    """The text of one of our SQL files."""
    return (resources.files("detections.metrics") / f"{name}.sql").read_text(encoding="utf-8")
