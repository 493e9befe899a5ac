"""One question to the policy, and its answer. All that stands in a question comes from our own state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from issuer.registry.people import Resource, User
from issuer.registry.tools import Action
from ledger.events import Answer

ISSUE = "credential:issue"
"""The action that the broker asks about: resource is the endpoint that a credential is for."""
SEND = "egress:send"
"""The action that the egress mediator asks about: resource is the endpoint of the destination."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is known of the session that acts."""

    sid: str
    user: str
    tenant: str
    environment: str
    zone: str
    purpose: str
    risk: int
    data_classes: Sequence[str]
    exercise: str | None = None
    """The drill that the session is a part of."""


@dataclass(frozen=True, slots=True)
class Question:
    """May this principal do this action on this resource?

    `agent` acts for the session's user; without an agent the user acts, without a user (`user` is None)
    the service does. `resource` is a resource, or the name of an endpoint that a credential is asked for.
    """

    session: SessionFacts
    action: Action
    resource: Resource | str
    user: User | None
    agent: str | None
    covers: frozenset[str] = frozenset()
    """What a grant lets it cross: `tenant:b`, `zone:pci`, `class:restricted`."""
    approved: bool = False

    @property
    def crosses(self) -> list[str]:
        """The bounds of the session that it would cross and no grant covers."""
        if isinstance(self.resource, str):
            return []
        target, session = self.resource, self.session
        found = []
        if target.tenant != session.tenant and f"tenant:{target.tenant}" not in self.covers:
            found.append("tenant")
        if target.zone != session.zone and f"zone:{target.zone}" not in self.covers:
            found.append("zone")
        # What is stricter counts: the class of the thing, or of what the action touches.
        for name in {target.data_class, self.action.data_class}:
            if name not in session.data_classes and f"class:{name}" not in self.covers:
                found.append("class")
                break
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy said, by which of its rules, in which version."""

    decision: Answer
    reason: str | None
    policy_id: str
    version: str
    digest: str
    exception_id: str | None = None
    errors: Sequence[str] = field(default=())
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the policy was told beside names: with it, the decision can be asked for again."""

    @property
    def allowed(self) -> bool:
        """True for allow, and for nothing else."""
        return self.decision == "allow"
