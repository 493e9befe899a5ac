"""What a credential is asked for: one endpoint, another workload, or the broker for a later exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from issuer.authentication.refusal import INVALID_TARGET, Refusal
from issuer.deployment import Deployment
from issuer.policy.question import ISSUE
from issuer.registry.identities import Workload, environment_of, workload_id
from issuer.registry.tools import Action, Tool, greatest
from ledger.events import Impact

LIFE_SECONDS: Final[dict[str, int]] = {"low": 900, "medium": 300, "high": 60}
"""The longest life of a credential by the impact that it reaches."""


@dataclass(frozen=True, slots=True)
class Target:
    """The audience of a new credential, and what follows from it."""

    kind: Literal["broker", "workload", "tool", "destination"]
    name: str
    endpoint: str
    """What the policy is asked about."""
    scopes: Sequence[str] | None
    """All scopes that it has a use for; None: any."""
    jkt: str | None = None
    """The key of the workload that a credential is handed to."""
    tool: Tool | None = None
    reach: Impact = "low"

    def impact(self, scopes: Sequence[str]) -> Impact:
        """The greatest impact that these scopes reach there."""
        if self.tool is not None:
            return greatest(action.impact for action in self.tool.allowed(scopes))
        return self.reach

    def life(self, scopes: Sequence[str]) -> int:
        """How long a credential with these scopes may live, in seconds."""
        return LIFE_SECONDS[self.impact(scopes)]

    def is_once(self, scopes: Sequence[str]) -> bool:
        """Whether it counts for one use."""
        return self.kind in ("tool", "destination") and self.impact(scopes) == "high"

    def issue_action(self) -> Action:
        """The action that the policy is asked about."""
        return Action(
            name=ISSUE, impact="low", action_type="execute", required_scopes=[ISSUE], data_class="internal"
        )


def find_target(deployment: Deployment, client: Workload, audience: str | None) -> Target:
    """What an audience names.

    Raises:
        Refusal: 400 invalid_target, where it names nothing here or something of another environment.
    """
    if audience is None or audience == deployment.urls["broker"]:
        return Target("broker", deployment.urls["broker"], deployment.identity("broker"), None)
    target = _tool(deployment, audience) or _destination(deployment, audience)
    if target is None:
        target = _workload(deployment, client, audience)
    if target is None:
        raise Refusal(400, INVALID_TARGET, "audience_unknown", "The audience is not known here.")
    if environment_of(target.endpoint) != deployment.environment:
        raise Refusal(
            400, INVALID_TARGET, "environment_mismatch", "The audience is of another environment.",
            facts={"audience": target.name},
        )  # fmt: skip
    return target


def _tool(deployment: Deployment, audience: str) -> Target | None:
    tool = deployment.registry.tools.get(audience)
    return None if tool is None else Target("tool", audience, audience, tool.scopes, tool=tool)


def _destination(deployment: Deployment, audience: str) -> Target | None:
    found = deployment.registry.destination_of(audience)
    if found is None:
        return None
    return Target("destination", audience, audience, tuple(found.required_scopes), reach=found.impact)


def _workload(deployment: Deployment, client: Workload, audience: str) -> Target | None:
    identity = workload_id(audience)
    workload = deployment.registry.workloads.get(identity or "")
    if workload is None or workload.id == client.id or workload.kind != "agent":
        return None
    keys = deployment.trust.thumbprints(workload.id)
    if not keys:
        return None
    return Target("workload", workload.id, workload.id, tuple(workload.scopes), jkt=keys[-1])
