"""The authority's endpoints: sessions, approvals, and the login (OpenID Connect)."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from starlette.responses import RedirectResponse, Response

from issuer.authentication.holders import check_holder
from issuer.authentication.people import need_role, user_of_request, user_of_token
from issuer.authentication.refusal import (
    INVALID_CLIENT,
    INVALID_PROOF,
    INVALID_REQUEST,
    INVALID_TOKEN,
    Refusal,
)
from issuer.authentication.workloads import authenticate_workload, only_once
from issuer.authority.login import (
    SCOPES,
    asked_login,
    check_secret,
    finish_login,
    keep_login,
    profile,
    redeem,
)
from issuer.authority.pages import login_page
from issuer.authority.passwords import fits
from issuer.authority.sessions import change_risk, close_session, known_session, open_session, read_asked
from issuer.deployment import Deployment
from issuer.emitting.steps import of_workload
from issuer.pdp.decisions import record_approval
from issuer.registry.people import Client, User
from issuer.revocation import APPROVAL_WITHDRAWN, tell
from issuer.state.approvals import Approval, approve, find_approval, withdraw
from issuer.state.signing_keys import AUTHORITY, ID_TOKEN
from issuer.tokens.keys import ALGORITHM, ID_TOKEN_ALGORITHM
from issuer.web.limits import Buckets
from issuer.web.service import Call, Service, answered_json

LOGINS_PER_SECOND = 5


def authority_service(deployment: Deployment) -> Service:
    """The authority, as a service."""
    return _Authority(deployment).service


class _Authority:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._logins = Buckets(deployment.clock, rate=LOGINS_PER_SECOND)
        service = Service("authority", deployment, "issuance")
        service.route("/.well-known/openid-configuration", self._metadata, "GET")
        service.route("/services", self._services, "GET")
        service.route("/jwks", self._jwks, "GET")
        service.route("/authorize", self._authorize, "GET")
        service.route("/authorize", self._answer_login, "POST")
        service.route("/token", self._token, "POST")
        service.route("/userinfo", self._userinfo, "GET", "POST")
        service.route("/sessions", self._open, "POST")
        service.route("/sessions/{sid}/end", self._end, "POST")
        service.route("/sessions/{sid}/risk", self._risk, "POST")
        service.route("/approvals/{id}/approve", self._approve, "POST")
        service.route("/approvals/{id}/withdraw", self._withdraw, "POST")
        self.service = service

    async def _metadata(self, _: Call) -> Response:
        base = self._deployment.urls["authority"]
        return answered_json(
            {
                "issuer": base,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "userinfo_endpoint": f"{base}/userinfo",
                "jwks_uri": f"{base}/jwks",
                "scopes_supported": list(SCOPES),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["authorization_code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ID_TOKEN_ALGORITHM],
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic", "client_secret_post", "private_key_jwt", "none",
                ],
                "token_endpoint_auth_signing_alg_values_supported": [ALGORITHM],
                "code_challenge_methods_supported": ["S256"],
                "dpop_signing_alg_values_supported": [ALGORITHM],
                "authorization_response_iss_parameter_supported": True,
                "claims_supported": ["sub", "name", "preferred_username", "tenant", "roles"],
            }
        )  # fmt: skip

    async def _services(self, _: Call) -> Response:
        """Where the other services of this deployment are."""
        deployment = self._deployment
        return answered_json({"environment": deployment.environment, "services": dict(deployment.urls)})

    async def _jwks(self, _: Call) -> Response:
        keys = [
            *self._deployment.keys[AUTHORITY].public()["keys"],
            *self._deployment.keys[ID_TOKEN].public()["keys"],
        ]
        response = answered_json({"keys": keys})
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    async def _authorize(self, call: Call) -> Response:
        query = only_once(call.request.query_params.multi_items())
        login = asked_login(self._deployment, query)
        return login_page(login.client_id, keep_login(self._deployment, login))

    async def _answer_login(self, call: Call) -> Response:
        form = call.form()
        name = form.get("username", "")[:128]
        user = self._deployment.registry.users.get(name if name.startswith("user:") else f"user:{name}")
        if not self._logins.take(name):
            raise Refusal(429, INVALID_REQUEST, "too_many_requests", "Too many logins; wait a second.")
        kept = None if user is None else user.password
        if not await asyncio.to_thread(fits, form.get("password", ""), kept) or user is None:
            self.service.record_refusal(
                call, Refusal(401, INVALID_REQUEST, "login_failed", "", facts=_maybe(user))
            )
            return login_page("", form.get("login", "")[:128], "Name or password do not fit.", 401)
        return RedirectResponse(finish_login(self._deployment, form.get("login", ""), user), 303)

    async def _token(self, call: Call) -> Response:
        form = call.form()
        if form.get("grant_type") != "authorization_code":
            raise Refusal(
                400, "unsupported_grant_type", "grant_type_unknown", "Only authorization_code is offered."
            )
        client = await self._client(call, form)
        jkt = None
        if call.header("dpop") is not None:
            jkt = check_holder(self._deployment, call.header("dpop"), "POST", call.url).jkt
        if client.workload is not None and (
            jkt is None or self._deployment.trust.key_of(client.workload, jkt) is None
        ):
            raise Refusal(400, INVALID_PROOF, "proof_of_another_key", "A proof by its own key is needed.")
        return answered_json(redeem(self._deployment, client, form, jkt=jkt))

    async def _client(self, call: Call, form: Mapping[str, str]) -> Client:
        clients = self._deployment.registry.clients
        if "client_assertion" in form:
            workload = authenticate_workload(self._deployment, _bare(form), self._audiences(call))
            found = next((one for one in clients.values() if one.workload == workload.id), None)
            if found is None or form.get("client_id", found.id) != found.id:
                raise Refusal(401, INVALID_CLIENT, "client_unknown", "No client has this workload.")
            return found
        name, secret = _basic(call.header("authorization"))
        if name is None:
            name, secret = form.get("client_id"), form.get("client_secret")
        return await asyncio.to_thread(check_secret, clients.get(name or ""), secret)

    async def _userinfo(self, call: Call) -> Response:
        scheme, _, token = (call.header("authorization") or "").partition(" ")
        if scheme.lower() not in ("bearer", "dpop") or not token:
            raise Refusal(401, INVALID_TOKEN, "token_missing", "An access token is needed.")
        user, claims = user_of_token(self._deployment, token)
        if claims.cnf is not None:
            proof = check_holder(
                self._deployment, call.header("dpop"), call.request.method, call.url, token=token, status=401
            )
            if scheme.lower() != "dpop" or claims.cnf.jkt != proof.jkt:
                raise Refusal(401, INVALID_TOKEN, "proof_of_another_key", "The token is bound to a key.")
        return answered_json(profile(user, claims.scope))

    async def _open(self, call: Call) -> Response:
        body = call.json_object()
        form = {name: value for name in _ASSERTION if isinstance(value := body.pop(name, None), str)}
        token = body.pop("user_token", None)
        orchestrator = authenticate_workload(self._deployment, form, self._audiences(call))
        call.facts.update(of_workload(orchestrator.id))
        if orchestrator.kind != "orchestrator":
            raise Refusal(401, INVALID_CLIENT, "not_an_orchestrator", "Only an orchestrator opens sessions.")
        user, claims = user_of_token(self._deployment, token if isinstance(token, str) else "")
        call.facts.update(_maybe(user))
        proof = check_holder(self._deployment, call.header("dpop"), "POST", call.url)
        if claims.cnf is None or claims.cnf.jkt != proof.jkt:
            raise Refusal(401, INVALID_TOKEN, "proof_of_another_key", "The user's token is bound to a key.")
        if self._deployment.trust.key_of(orchestrator.id, proof.jkt) is None:
            raise Refusal(400, INVALID_PROOF, "proof_of_another_key", "The proof is by a key of another.")
        session, opened = open_session(self._deployment, user, orchestrator, read_asked(body))
        call.trace_id = opened["txn"]
        return answered_json(
            {
                "session": session, "sid": opened["sid"], "txn": opened["txn"], "task_id": opened["task_id"],
                "expires_in": opened["exp"] - opened["iat"],
            },
            201,
        )  # fmt: skip

    async def _end(self, call: Call) -> Response:
        body = call.json_object()
        sid, cause = call.request.path_params["sid"], body.get("cause", "session_end")
        outcome = body.get("outcome", "succeeded")
        if cause not in ("session_end", "task_end") or outcome not in ("succeeded", "failed", "cancelled"):
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "cause or outcome is not one known here.")
        by = self._ender(call, body, sid)
        close_session(self._deployment, sid, cause=cause, by=by, outcome=outcome)
        return answered_json({"sid": sid, "ended": True})

    def _ender(self, call: Call, body: dict[str, Any], sid: str) -> str:
        """An operator, or the orchestrator: it knows when its task is done."""
        if call.header("authorization") is not None:
            return self._operator(call, "operator").id
        form = {name: value for name in _ASSERTION if isinstance(value := body.get(name), str)}
        workload = authenticate_workload(self._deployment, form, self._audiences(call))
        known_session(self._deployment, sid)
        if workload.kind != "orchestrator":
            raise Refusal(403, "insufficient_scope", "not_an_orchestrator", "Only orchestrators end it.")
        return workload.id

    async def _risk(self, call: Call) -> Response:
        user = self._operator(call, "operator")
        risk = call.json_object().get("risk")
        if type(risk) is not int or not 0 <= risk <= 100:
            raise Refusal(400, INVALID_REQUEST, "body_malformed", "risk is a whole number from 0 to 100.")
        change_risk(self._deployment, call.request.path_params["sid"], risk, by=user.id)
        return answered_json({"sid": call.request.path_params["sid"], "risk": risk})

    async def _approve(self, call: Call) -> Response:
        user = self._operator(call, "approver")
        known = self._approval(call)
        if known.user == user.id:
            raise Refusal(403, "insufficient_scope", "own_approval", "Nobody approves their own step.")
        with self._deployment.db.transaction():
            if not approve(self._deployment.db, known.id, user.id, now=self._deployment.now()):
                raise Refusal(400, INVALID_REQUEST, "approval_closed", "It is closed or too old.")
            record_approval(self._deployment, known, outcome="approved", by=user.id)
        return answered_json({"approval_id": known.id, "approved_by": user.id})

    async def _withdraw(self, call: Call) -> Response:
        self._operator(call, "approver")
        known = self._approval(call)
        with self._deployment.db.transaction():
            if not withdraw(self._deployment.db, known.id, now=self._deployment.now()):
                raise Refusal(400, INVALID_REQUEST, "approval_closed", "It was withdrawn before.")
            details = {"sid": known.sid, "action": known.action, "resource": known.resource}
            tell(
                self._deployment.db, self._deployment.recorder, f"approval:{known.id}", APPROVAL_WITHDRAWN,
                reason="approval-withdrawn", cause="withdrawn_approval", details=details,
            )  # fmt: skip
            record_approval(self._deployment, known, outcome="withdrawn", by=None)
        return answered_json({"approval_id": known.id, "withdrawn": True})

    def _operator(self, call: Call, role: str) -> User:
        user = user_of_request(
            self._deployment, call.header("authorization"), call.header("dpop"), "POST", call.url
        )
        call.facts.update(_maybe(user))
        need_role(user, role)
        return user

    def _approval(self, call: Call) -> Approval:
        known = find_approval(self._deployment.db, call.request.path_params["id"])
        if known is None:
            raise Refusal(404, INVALID_REQUEST, "approval_unknown", "There is no such approval.")
        return known

    def _audiences(self, call: Call) -> tuple[str, ...]:
        base = self._deployment.urls["authority"]
        return (base, f"{base}/token", call.url)


_ASSERTION = ("client_assertion_type", "client_assertion", "client_id")


def _maybe(user: User | None) -> dict[str, Any]:
    return {} if user is None else {"actor": user.id, "tenant": user.tenant}


def _bare(form: Mapping[str, str]) -> dict[str, str]:
    """The form without `client_id`, which here is the client's name and not its workload's."""
    return {name: value for name, value in form.items() if name != "client_id"}


def _basic(header: str | None) -> tuple[str | None, str | None]:
    scheme, _, text = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None, None
    try:
        name, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Refusal(401, INVALID_CLIENT, "client_secret", "The header is malformed.") from None
    return unquote_plus(name), unquote_plus(secret)
