"""What all services of one deployment share: one environment, its registry, its state, its clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from joserfc.jwk import OKPKey

from issuer.defaults import PURPOSES
from issuer.emitting.recorder import Recorder, random_id
from issuer.emitting.steps import Fields, of_policy
from issuer.policy.active import ActivePolicy
from issuer.registry.identities import environment_of
from issuer.registry.registry import Registry
from issuer.registry.trust import Trust
from issuer.state.database import Database
from issuer.state.signing_keys import KeyRing
from ledger.errors import UsageError

SERVICES: Final = (
    "authority", "broker", "pdp", "gateway", "router", "adapter", "worker", "egress", "signals",
)  # fmt: skip
"""In the order of their ports."""


@dataclass(slots=True)
class Deployment:
    """One environment's services. `urls` are where each service is reached: its issuer name as well."""

    environment: str
    registry: Registry
    trust: Trust
    db: Database
    recorder: Recorder
    urls: Mapping[str, str]
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = random_id
    transmitters: Mapping[str, Mapping[str, OKPKey]] = field(default_factory=dict)
    """Who may push security events: the issuers' names, and their keys by key id."""
    policy: ActivePolicy = field(init=False)
    keys: Mapping[str, KeyRing] = field(init=False)

    def __post_init__(self) -> None:
        self.policy = ActivePolicy(self.db, self.registry)
        self.keys = {purpose: KeyRing(self.db, purpose, self.clock) for purpose in PURPOSES}

    def now(self) -> float:
        """Seconds since 1970."""
        return self.clock()

    def policy_facts(self) -> Fields:
        """The policy that is active, for events that nothing was decided in; nothing where there is none."""
        try:
            bundle = self.policy.engine().bundle
        except UsageError:
            return {}
        return of_policy(bundle.version, bundle.digest)

    def identity(self, kind: str) -> str:
        """The registered identity of this deployment's own workload of a kind, such as `router`."""
        found = [
            name
            for name, one in self.registry.workloads.items()
            if one.kind == kind and environment_of(name) == self.environment
        ]
        return found[0] if found else f"{kind}:{self.environment}/main"
