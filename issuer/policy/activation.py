"""Activating a policy, and going back to an earlier one: tests first, a reviewer's word, one atomic step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from issuer.emitting.recorder import Recorder
from issuer.emitting.steps import merged, of_policy
from issuer.policy.active import engine_for
from issuer.policy.bundle import Bundle
from issuer.policy.review import OwnerOf, find_review
from issuer.policy.scenario_tests import run_scenarios
from issuer.registry.registry import Registry
from issuer.revocation import POLICY_CHANGED, tell
from issuer.state.database import Database
from issuer.state.policies import Activation, active, add_activation, history, kept_bundle
from ledger.errors import UsageError

ACTIVATED: Final = "activated"
ROLLED_BACK: Final = "rolled_back"


def activate(
    db: Database,
    recorder: Recorder,
    registry: Registry,
    bundle: Bundle,
    *,
    reviews: Iterable[str],
    owner_of: OwnerOf,
    reason: str,
    outcome: str = ACTIVATED,
    approval_id: str | None = None,
) -> Activation:
    """From the next request on, this bundle decides; caches drop.

    Raises:
        UsageError: a scenario test fails, nobody but its author has reviewed it, or it does not fit what is
            registered. Nothing has changed then.
    """
    failed = [one for one in run_scenarios(bundle) if not one.ok]
    if failed:
        raise UsageError(
            f"{len(failed)} scenario tests of {bundle.about.name} {bundle.version} fail, the first one: "
            f"{failed[0].name}.",
            "`decision-ledger issuer policy test` lists them.",
        )
    review = find_review(bundle, reviews, owner_of, now=recorder.clock())
    engine_for(bundle, registry)
    with db.transaction():
        before = active(db)
        if before is not None and before.digest == bundle.digest:
            raise UsageError(f"{bundle.about.name} {bundle.version} is active already.", "Nothing to do.")
        add_activation(
            db, bundle, approved_by=review.reviewer, approval_id=approval_id, reason=reason,
            outcome=outcome, now=recorder.clock(),
        )  # fmt: skip
        tell(
            db, recorder, f"policy:{bundle.version}", POLICY_CHANGED,
            reason=outcome.replace("_", "-"), cause="policy_change", details={"digest": bundle.digest},
        )  # fmt: skip
        recorder.record(
            "policy",
            **merged(
                of_policy(bundle.version, bundle.digest),
                {"policy_id": bundle.about.name, "approved_by": review.reviewer, "owner": bundle.about.author,
                 "previous_policy_version": None if before is None else before.version,
                 "reason": reason, "approval_id": approval_id, "outcome": outcome,
                 "request_id": recorder.new_id()},
            ),
        )  # fmt: skip
        now_active = active(db)
    assert now_active is not None
    return now_active


def earlier_bundle(db: Database, asked: str | None) -> Bundle:
    """The bundle to go back to: by version or the beginning of a digest, else the one before this.

    Raises:
        UsageError: there is none, or several fit.
    """
    lines = history(db)
    if not lines:
        raise UsageError("No policy was ever activated.", "Activate one first.")
    current = lines[-1].digest
    others = [line for line in lines if line.digest != current]
    if asked is not None:
        others = [line for line in others if line.version == asked or line.digest.startswith(asked)]
    digests = list(dict.fromkeys(line.digest for line in reversed(others)))
    if not digests:
        raise UsageError("There is no such earlier policy.", "`issuer policy history` lists them.")
    if asked is not None and len(digests) > 1:
        raise UsageError(f"{asked} fits {len(digests)} policies.", "Name one by its digest.")
    bundle = kept_bundle(db, digests[0])
    assert bundle is not None
    return bundle
