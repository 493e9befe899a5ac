"""The endpoints of signals: transmitters push (RFC 8935), enforcement points poll (RFC 8936)."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import Any, Final

from joserfc.jwk import OKPKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response

from issuer.authentication.refusal import INVALID_REQUEST, Refusal
from issuer.authentication.workloads import workload_of_bearer
from issuer.deployment import Deployment
from issuer.emitting.steps import merged, of_workload
from issuer.revocation import RISK_CHANGE, facts_of_credential, risk_word, take_back, tell
from issuer.signals.events import Told, event_token, read_event, understood
from issuer.state.sessions import find_session, set_risk
from issuer.state.signals import Signal, signals_after
from issuer.state.signing_keys import AUTHORITY
from issuer.tokens.jws import TokenRefused
from issuer.web.service import Call, Service, answered_json

WAIT_SECONDS: Final = 8.0
"""How long a poll without news is held; less than a request may take."""
LOOK_SECONDS: Final = 0.1
"""How often the state is looked at meanwhile: another process may have put a signal there."""
MAX_EVENTS: Final = 100
SIGNED_KEPT: Final = 1_000


class Poll(BaseModel):
    """The body of a poll. `cursor` is ours: the position up to which the reader has all."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, hide_input_in_errors=True)

    maxEvents: int = Field(default=MAX_EVENTS, ge=0, le=MAX_EVENTS)  # noqa: N815 - the RFC's name
    returnImmediately: bool = False  # noqa: N815 - the RFC's name
    cursor: int = Field(default=0, ge=0)


def signals_service(deployment: Deployment) -> Service:
    """Signals, as a service."""
    return _Signals(deployment).service


class _Signals:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._signed: OrderedDict[int, str] = OrderedDict()
        self.service = Service("signals", deployment, "decision")
        self.service.route("/events", self._push, "POST")
        self.service.route("/poll", self._poll, "POST")

    async def _push(self, call: Call) -> Response:
        if call.media_type != "application/secevent+jwt":
            raise _push_refusal("invalid_request", "body_malformed", "Send application/secevent+jwt.")
        transmitters = self._deployment.transmitters
        try:
            told = read_event(
                call.body.decode("latin-1").strip(), self._transmitter_key,
                issuers=tuple(transmitters), audience=self._deployment.urls["signals"],
                now=self._deployment.now(),
            )  # fmt: skip
            if not understood(told.event):
                raise TokenRefused("event_unknown", "The event type is not one that is read here.")
        except TokenRefused as refused:
            error = "invalid_key" if refused.reason in ("token_kid", "token_signature") else "invalid_request"
            raise _push_refusal(error, refused.reason, str(refused)) from refused
        self._take(call, told)
        return Response(status_code=202)

    def _take(self, call: Call, told: Told) -> None:
        deployment = self._deployment
        with deployment.db.transaction():
            # The transmitter's own id counts once, but it cannot collide with ours.
            jti = hashlib.sha256(f"transmitted:{told.jti}".encode()).hexdigest()
            kind, _, name = told.target.partition(":")
            if told.event == RISK_CHANGE:
                level = str(told.details.get("current_level", "HIGH")).upper()
                risk = {"LOW": 0, "MEDIUM": 50}.get(level, 100)
                reason = f"risk-level-change:{risk_word(risk)}"
                if kind == "session":
                    set_risk(deployment.db, name, risk)
                is_new = tell(
                    deployment.db, deployment.recorder, told.target, told.event,
                    reason=reason, cause=told.cause, details={"risk": risk}, jti=jti,
                )  # fmt: skip
            else:
                words = {"session": "session-revoked", "credential": "credential-compromised"}
                reason = words.get(kind, told.reason)
                is_new = take_back(
                    deployment.db, deployment.recorder, told.target, told.event, reason=reason, jti=jti
                ) is not None  # fmt: skip
            if not is_new:
                return
            facts = merged(
                call.trace, deployment.policy_facts(), self._facts(kind, name),
                {"environment": deployment.environment, "target": told.target, "reason": reason,
                 "request_id": call.request_id, "alert_id": told.alert_id},
            )  # fmt: skip
            deployment.recorder.record("signal", **facts)
            if told.event != RISK_CHANGE:
                deployment.recorder.record(
                    "revocation", **facts, outcome="revoked", attributes={"cause": told.cause}
                )

    def _facts(self, kind: str, name: str) -> dict[str, Any]:
        if kind == "credential":
            return facts_of_credential(self._deployment.db, name)
        session = find_session(self._deployment.db, name) if kind == "session" else None
        if session is None:
            return {}
        return {
            "session_id": name, "tenant": session.facts.tenant, "trace_id": session.txn,
            "task_id": session.task_id, "actor": session.facts.user,
        }  # fmt: skip

    def _transmitter_key(self, kid: str) -> OKPKey | None:
        return next((keys[kid] for keys in self._deployment.transmitters.values() if kid in keys), None)

    async def _poll(self, call: Call) -> Response:
        base = self._deployment.urls["signals"]
        workload = workload_of_bearer(self._deployment, call.header("authorization"), (base, call.url))
        call.facts.update(of_workload(workload.id))
        try:
            asked = Poll.model_validate(call.json_object())
        except ValidationError:
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "The poll cannot be read.") from None
        found = await self._news(asked)
        more = len(found) > asked.maxEvents
        found = found[: asked.maxEvents]
        cursor = found[-1].position if found else asked.cursor
        return answered_json(
            {"sets": {one.jti: self._token(one) for one in found}, "moreAvailable": more, "cursor": cursor}
        )

    async def _news(self, asked: Poll) -> list[Signal]:
        until = asyncio.get_running_loop().time() + (0.0 if asked.returnImmediately else WAIT_SECONDS)
        while True:
            found = signals_after(self._deployment.db, asked.cursor, asked.maxEvents + 1)
            if found or asyncio.get_running_loop().time() >= until:
                return found
            await asyncio.sleep(LOOK_SECONDS)

    def _token(self, signal: Signal) -> str:
        if signal.position not in self._signed:
            self._signed[signal.position] = event_token(
                signal, issuer=self._deployment.urls["authority"], audience=self._deployment.urls["signals"],
                key=self._deployment.keys[AUTHORITY].current(),
            )  # fmt: skip
            if len(self._signed) > SIGNED_KEPT:
                self._signed.popitem(last=False)
        return self._signed[signal.position]


def _push_refusal(err: str, reason: str, description: str) -> Refusal:
    """RFC 8935, section 2.3: the answer has `err` and `description`."""
    refusal = Refusal(400, INVALID_REQUEST, reason, description)
    refusal.extra = {"err": err, "description": description}
    return refusal
