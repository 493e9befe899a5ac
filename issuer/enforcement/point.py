"""One enforcement point: may this request be carried out, and what was decided about it.

The order is the same everywhere: the token, its holder, what is known to be revoked, environment and scopes,
the policy, the single use of a `once` token; then the event, and for a high impact the ledger's word that it
has the event, before anything is called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from issuer.authentication.holders import check_holder, presented
from issuer.authentication.refusal import (
    INSUFFICIENT_SCOPE,
    INVALID_TOKEN,
    UNAVAILABLE,
    Refusal,
)
from issuer.authentication.workloads import use_up
from issuer.deployment import Deployment
from issuer.emitting.emitter import Emitter
from issuer.emitting.steps import Fields, merged, of_action, of_credential, of_workload
from issuer.enforcement.cache import DecisionCache, Entry
from issuer.enforcement.feed import Feed
from issuer.enforcement.keys import RemoteKeys
from issuer.pdp.decisions import Decided, Step, decide
from issuer.policy.engine import APPROVAL_REQUIRED
from issuer.policy.question import SEND
from issuer.registry.tools import Action
from issuer.signals.events import Told
from issuer.tokens.claims import CredentialClaims, read_claims
from issuer.tokens.jws import ACCESS, TokenRefused, check_times, split, verify_parts
from issuer.web.service import Call
from ledger.errors import OutsideError
from ledger.format.scopes import beyond

ACCEPTED_SECONDS: Final = 5.0
"""How long a step of high impact waits for the ledger's intake."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may be carried out."""

    claims: CredentialClaims
    action: Action
    resource: str
    facts: Fields
    decision_id: str
    high: bool


@dataclass(slots=True)
class Point:
    """What one enforcement point has: who it is, what it knows, whom it asks."""

    deployment: Deployment
    workload: str
    pep: str
    keys: RemoteKeys
    emitter: Emitter | None
    """None where no events are sent from here: nothing of a high impact passes then."""
    feed: Feed
    cache: DecisionCache

    @classmethod
    def of(
        cls, deployment: Deployment, kind: str, pep: str, keys: RemoteKeys, emitter: Emitter | None
    ) -> Point:
        """The point of this deployment's own workload of a kind, such as `router`."""

        def dropped(cause: str, target: str, count: int) -> None:
            deployment.recorder.record(
                "revocation",
                **merged(
                    deployment.policy_facts(),
                    {"environment": deployment.environment, "pep": pep, "target": target,
                     "reason": "cache-dropped", "outcome": "dropped", "request_id": deployment.new_id(),
                     "attributes": {"cause": cause, "entries": count}},
                ),
            )  # fmt: skip

        return cls(deployment, deployment.identity(kind), pep, keys, emitter, Feed(), DecisionCache(dropped))

    def hear(self, told: Told) -> None:
        """A signal has arrived."""
        self.feed.take(told)
        self.cache.drop_for(told)
        if told.cause == "key_replaced":
            self.keys.forget()

    async def admit(
        self, call: Call, *, endpoint: str, action: Action, resource: str, extra: Fields | None = None
    ) -> Admitted:
        """The request may be carried out. Its event is left, and where it matters accepted.

        `extra` are fields of the event that the caller knows, such as where data goes.

        Raises:
            Refusal: 401 invalid_token, 403 insufficient_scope, 503; its event is the caller's to leave.
        """
        call.facts = merged(
            self.own_facts(), {"audience": endpoint}, of_action(action, self._resource(resource)),
            extra or {},
        )  # fmt: skip
        claims = await self._holder(call, endpoint)
        self._check_bounds(claims, action)
        high = action.impact == "high"
        self._check_known(claims, high=high)
        decided = self._decide(claims, action, resource, high=high)
        call.facts = merged(call.facts, decided.facts)
        if not decided.verdict.allowed:
            raise _denied(decided)
        self._consume(claims)
        return await self._tell(call, claims, action, resource, high=high)

    def _resource(self, name: str) -> Any:
        return self.deployment.registry.resources.get(name, name)

    async def _holder(self, call: Call, endpoint: str) -> CredentialClaims:
        token = presented(call.header("authorization"))
        try:
            parts = split(token, ACCESS)
            kid = parts.header.get("kid")
            await self.keys.prepare(kid if isinstance(kid, str) else None)
            claims = verify_parts(parts, self.keys.key_for)
            now = self.deployment.now()
            read = read_claims(
                CredentialClaims, claims, issuer=self.deployment.urls["broker"], audience=endpoint
            )
            call.facts = merged(call.facts, of_credential(read))
            call.trace_id = read.txn
            check_times(claims, now)
        except TokenRefused as refused:
            raise Refusal.of_token(refused, 401, INVALID_TOKEN) from refused
        except OutsideError as error:
            raise Refusal(503, UNAVAILABLE, "keys_unavailable", "The broker's keys cannot be had.") from error
        proof = check_holder(
            self.deployment, call.header("dpop"), call.request.method, call.url, token=token, status=401
        )
        if proof.jkt != read.cnf.jkt:
            raise Refusal(401, INVALID_TOKEN, "proof_of_another_key", "The token is bound to another key.")
        return read

    def _check_bounds(self, claims: CredentialClaims, action: Action) -> None:
        if claims.env != self.deployment.environment:
            raise Refusal(401, INVALID_TOKEN, "environment_mismatch", "The token is of another environment.")
        if lacking := beyond(action.required_scopes, claims.scopes):
            raise Refusal(403, INSUFFICIENT_SCOPE, "scope_missing", f"The token lacks {lacking[0]}.")

    def _check_known(self, claims: CredentialClaims, *, high: bool) -> None:
        now = self.deployment.now()
        if self.feed.too_old(now, high=high):
            raise Refusal(503, UNAVAILABLE, "feed_stale", "What was revoked of late is not known here.")
        if reason := self.feed.refuses(claims):
            raise Refusal(401, INVALID_TOKEN, reason, "The token no longer counts.")
        if high and (self.emitter is None or self.emitter.failing):
            raise _no_ledger()

    def _decide(self, claims: CredentialClaims, action: Action, resource: str, *, high: bool) -> Decided:
        now = self.deployment.now()
        key = (claims.jti, action.name, resource)
        held = None if high else self.cache.get(key, now=now)
        # A policy counts from its activation on, and not from when the signal of it arrives.
        if held is not None and held.verdict.digest == self.deployment.policy_facts().get("policy_digest"):
            return held
        chain = claims.chain
        step = Step(
            action=action.name, resource=resource, sid=claims.sid, subject=claims.sub, agent=chain[-1],
            credential_id=claims.jti,
        )  # fmt: skip
        with self.deployment.db.transaction():
            decided = decide(self.deployment, step, action if action.name == SEND else None)
        if decided.verdict.allowed and not high and decided.verdict.exception_id is None:
            self.cache.put(
                Entry(decided, float(claims.exp), claims.jti, claims.sid, tuple(chain), action.name, resource,
                      decided.verdict.version),
                now=now,
            )  # fmt: skip
        return decided

    def _consume(self, claims: CredentialClaims) -> None:
        if not claims.once:
            return
        try:
            use_up(self.deployment, "capability", claims.aud, claims.jti, until=claims.exp)
        except TokenRefused:
            raise Refusal(
                401, INVALID_TOKEN, "token_reused", "The token counts for one use, and it was used."
            ) from None

    async def _tell(
        self, call: Call, claims: CredentialClaims, action: Action, resource: str, *, high: bool
    ) -> Admitted:
        facts = merged(call.trace, call.facts, {"trace_id": claims.txn, "session_verified": True})
        decision_id, number = self.deployment.recorder.record("decision", **facts)
        admitted = Admitted(claims, action, resource, facts, decision_id, high)
        if high:
            accepted = self.emitter is not None and await self.emitter.accepted(
                number, seconds=ACCEPTED_SECONDS
            )
            if not accepted:
                self.done(admitted, outcome="failed", reason="ledger_unavailable")
                refusal = _no_ledger()
                refusal.is_told = True
                raise refusal
        return admitted

    def done(self, admitted: Admitted, *, outcome: str, reason: str | None = None, **more: Any) -> int:
        """The call was made, or was not to be: its event. Kept here until the ledger has it."""
        facts = {
            name: value
            for name, value in admitted.facts.items()
            if name not in ("decision", "reason", "span_id", "parent_span_id", "bytes_out", "attributes")
        }
        _, number = self.deployment.recorder.record(
            "action",
            **merged(
                facts,
                {"decision_ref": admitted.decision_id, "outcome": outcome, "reason": reason,
                 "parent_span_id": admitted.facts.get("span_id"),
                 "span_id": self.deployment.new_id()[:16].rjust(16, "1")},
                more,
            ),
        )  # fmt: skip
        return number

    def own_facts(self) -> Fields:
        """What every event of this point says."""
        return {
            "pep": self.pep, "environment": self.deployment.environment, **of_workload(self.workload),
        }  # fmt: skip


def _denied(decided: Decided) -> Refusal:
    verdict = decided.verdict
    reason = verdict.reason or "not_permitted"
    if verdict.decision == "error":
        refusal = Refusal(403, INSUFFICIENT_SCOPE, reason, "The policy could not decide.")
    elif reason == APPROVAL_REQUIRED:
        refusal = Refusal(403, INSUFFICIENT_SCOPE, reason, "Somebody else must approve this step.")
    else:
        refusal = Refusal(403, INSUFFICIENT_SCOPE, reason, "The policy does not permit this.")
    refusal.extra = {"reason": reason, "policy_id": verdict.policy_id}
    if decided.approval_id is not None:
        refusal.extra["approval_id"] = decided.approval_id
        refusal.facts = {"approval_id": decided.approval_id}
    return refusal


def _no_ledger() -> Refusal:
    return Refusal(503, UNAVAILABLE, "ledger_unavailable", "The ledger takes no events; nothing was done.")
