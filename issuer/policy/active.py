"""The policy that is active: one immutable engine per activation, so that no request sees two versions."""

from __future__ import annotations

from issuer.policy.bundle import Bundle
from issuer.policy.engine import Engine
from issuer.registry.registry import Registry
from issuer.state.database import Database
from issuer.state.policies import active, kept_bundle
from ledger.errors import UsageError


class ActivePolicy:
    """Looks at the state for each request: an activation counts from the next one on."""

    def __init__(self, db: Database, registry: Registry) -> None:
        self._db = db
        self._registry = registry
        self._position = -1
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """The engine of the newest activation.

        Raises:
            UsageError: no policy was ever activated.
        """
        now_active = active(self._db)
        if now_active is None:
            raise UsageError(
                "No policy is active.", "`decision-ledger issuer policy activate BUNDLE` activates one."
            )
        if self._engine is None or now_active.position != self._position:
            bundle = kept_bundle(self._db, now_active.digest)
            assert bundle is not None  # kept in the same transaction
            self._engine, self._position = engine_for(bundle, self._registry), now_active.position
        return self._engine


def engine_for(bundle: Bundle, registry: Registry) -> Engine:
    """A bundle over all that is registered.

    Raises:
        UsageError: what is registered does not fit its schema.
    """
    return Engine(
        bundle, users=registry.users.values(), workloads=registry.workloads.values(),
        resources=registry.resources.values(), endpoints=registry.endpoints,
    )  # fmt: skip
