"""The worker: takes what waits, judges it anew, and does it; what is too late or was moved is denied."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from issuer.authentication.refusal import Refusal
from issuer.deployment import Deployment
from issuer.emitting.steps import Fields, merged, of_action
from issuer.enforcement.point import Admitted, Point
from issuer.hops.context import check_context, make_context
from issuer.hops.queue import MAX_ATTEMPTS, Queued, complete, put, take
from issuer.pdp.decisions import Step, decide, find_action
from issuer.state.outbox import OutboxFull
from issuer.state.sessions import find_session
from issuer.state.signing_keys import BROKER
from issuer.tokens.claims import HopClaims, chain_of
from issuer.tokens.jws import TokenRefused
from ledger.errors import LedgerError
from ledger.format.scopes import beyond

LOOK_SECONDS: Final = 0.2
REPORTS: Final = "reports"

log = structlog.get_logger()


def enqueue(deployment: Deployment, admitted: Admitted, queue: str, body: bytes) -> str:
    """Let an admitted step wait in a queue, with its signed context; the message's id.

    Raises:
        queue.QueueFull: there is no room.
    """
    message_id = deployment.new_id()
    session = find_session(deployment.db, admitted.claims.sid)
    end = admitted.claims.exp if session is None else session.expires_at
    context = make_context(
        admitted.claims, issuer=deployment.urls["broker"], domain=deployment.environment,
        key=deployment.keys[BROKER].current(), message_id=message_id, queue=queue,
        action=admitted.action.name, resource=admitted.resource, body=body, now=deployment.now(),
        session_end=end,
    )  # fmt: skip
    put(deployment.db, message_id, queue, context, body, now=deployment.now())
    return message_id


class Worker:
    """Works through one queue, as the worker's own enforcement point."""

    def __init__(self, point: Point, queue: str = REPORTS) -> None:
        self._point = point
        self._deployment = point.deployment
        self._queue = queue
        self.done: list[str] = []
        """Resources whose work was done, the last thousand."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                worked = self.step()
            except (LedgerError, OutboxFull) as error:
                log.warning("queue", error=str(error))
                worked = False
            if not worked:
                await asyncio.sleep(LOOK_SECONDS)

    def step(self) -> bool:
        """Take one message and do it, or deny it; False where none waits."""
        message = take(self._deployment.db, self._queue)
        if message is None:
            return False
        facts: Fields = merged(
            self._deployment.policy_facts(),
            self._point.own_facts(),
            {"request_id": self._deployment.new_id()},
        )  # fmt: skip
        try:
            hop = self._context(message)
            facts = merged(facts, _of_hop(hop))
            self._judge(message, hop, facts)
        except (TokenRefused, Refusal) as refused:
            self._deny(message, facts, refused.reason)
            if refused.reason in _TRY_AGAIN and message.attempts < MAX_ATTEMPTS:
                return False
            complete(self._deployment.db, message.message_id, now=self._deployment.now())
        return True

    def _context(self, message: Queued) -> HopClaims:
        return check_context(
            message.context, self._deployment.keys[BROKER].key_for, issuer=self._deployment.urls["broker"],
            domain=self._deployment.environment, message_id=message.message_id, queue=self._queue,
            body=message.body, now=self._deployment.now(),
        )  # fmt: skip

    def _judge(self, message: Queued, hop: HopClaims, facts: Fields) -> None:
        deployment, point = self._deployment, self._point
        action = find_action(deployment, hop.tctx.action)
        if action is None or beyond(action.required_scopes, hop.scope.split()):
            raise TokenRefused("scope_missing", "The context does not hold what the action needs.")
        facts |= of_action(action, deployment.registry.resources.get(hop.tctx.resource, hop.tctx.resource))
        high = action.impact == "high"
        if point.feed.too_old(deployment.now(), high=high):
            raise TokenRefused("feed_stale", "What was revoked of late is not known here.")
        chain = chain_of(hop.sub, hop.act)
        if reason := point.feed.refuses_work(hop.tctx.sid, chain, hop.iat):
            raise TokenRefused(reason, "The context no longer counts.")
        with deployment.db.transaction():
            decided = decide(
                deployment,
                Step(action.name, hop.tctx.resource, hop.tctx.sid, hop.sub, chain[-1]),
            )  # fmt: skip
            facts |= decided.facts
            if not decided.verdict.allowed:
                raise TokenRefused(decided.verdict.reason or "not_permitted", "The policy says no.")
            decision_id, _ = deployment.recorder.record("decision", **{**facts, "session_verified": True})
            if not complete(deployment.db, message.message_id, now=deployment.now()):
                raise TokenRefused("message_completed", "The message was done before.")
            same = {name: value for name, value in facts.items() if name not in ("decision", "reason")}
            deployment.recorder.record(
                "action", **merged(same, {"decision_ref": decision_id, "outcome": "succeeded"})
            )
        self.done = [*self.done[-999:], hop.tctx.resource]

    def _deny(self, message: Queued, facts: Fields, reason: str) -> None:
        known = {name: value for name, value in facts.items() if name not in ("decision", "reason")}
        self._deployment.recorder.record(
            "decision",
            **merged(
                known,
                {"decision": "deny", "reason": reason, "session_verified": "session_id" in known,
                 "attributes": {"message_id": message.message_id, "attempt": message.attempts}},
            ),
        )  # fmt: skip


_TRY_AGAIN: Final = frozenset({"feed_stale"})


def _of_hop(hop: HopClaims) -> dict[str, Any]:
    chain = chain_of(hop.sub, hop.act)
    return {
        "trace_id": hop.txn, "task_id": hop.tctx.task_id, "session_id": hop.tctx.sid, "actor": chain[0],
        "delegated_actor": chain[-1], "delegation": chain, "scopes": hop.scope.split(),
        "exercise": hop.tctx.exercise,
    }  # fmt: skip
