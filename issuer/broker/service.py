"""The broker's endpoints: metadata, keys, token, introspection, revocation, grants."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from starlette.responses import Response

from issuer.authentication.people import need_role, user_of_request
from issuer.authentication.refusal import INVALID_REQUEST, Refusal
from issuer.authentication.workloads import authenticate_workload
from issuer.broker.exchange import GRANT_TYPE, exchange
from issuer.deployment import Deployment
from issuer.emitting.steps import merged, of_grant, of_workload, time_text
from issuer.registry.people import Grant
from issuer.revocation import revoke
from issuer.state.credentials import find_credential
from issuer.state.grants import add_grant, close_grant, find_grant
from issuer.state.sessions import find_session
from issuer.state.signing_keys import BROKER
from issuer.tokens.assertion import ASSERTION_TYPE
from issuer.tokens.jws import ACCESS, ASSERTION, TokenRefused, split, verify
from issuer.tokens.keys import ALGORITHM
from issuer.web.limits import Buckets
from issuer.web.service import Call, Service, answered_json

MAX_GRANT_DAYS: Final = 400


def broker_service(deployment: Deployment) -> Service:
    """The broker, as a service."""
    return _Broker(deployment).service


class _Broker:
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._buckets = Buckets(deployment.clock)
        self.service = Service("broker", deployment, "issuance", own={"pep": "broker"})
        self.service.route("/.well-known/oauth-authorization-server", self._metadata, "GET")
        self.service.route("/jwks", self._jwks, "GET")
        self.service.route("/token", self._token, "POST")
        self.service.route("/introspect", self._introspect, "POST")
        self.service.route("/revoke", self._revoke, "POST")
        self.service.route("/grants", self._grant, "POST")
        self.service.route("/grants/{id}/close", self._close_grant, "POST")

    async def _metadata(self, _: Call) -> Response:
        base = self._deployment.urls["broker"]
        return answered_json(
            {
                "issuer": base,
                "token_endpoint": f"{base}/token",
                "jwks_uri": f"{base}/jwks",
                "introspection_endpoint": f"{base}/introspect",
                "revocation_endpoint": f"{base}/revoke",
                "grant_types_supported": [GRANT_TYPE],
                "response_types_supported": [],
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": [ALGORITHM],
                "introspection_endpoint_auth_methods_supported": ["private_key_jwt"],
                "introspection_endpoint_auth_signing_alg_values_supported": [ALGORITHM],
                "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
                "revocation_endpoint_auth_signing_alg_values_supported": [ALGORITHM],
                "dpop_signing_alg_values_supported": [ALGORITHM],
            }
        )

    async def _jwks(self, _: Call) -> Response:
        response = answered_json(self._deployment.keys[BROKER].public())
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    async def _token(self, call: Call) -> Response:
        form = call.form()
        self._limit(form)
        issued = exchange(self._deployment, form, call.header("dpop"), call.url, request_id=call.request_id)
        call.trace_id = issued.claims.txn
        return answered_json(issued.answer())

    def _limit(self, form: dict[str, str]) -> None:
        # By the name that the caller claims, before any signature is checked: a flood costs little.
        claimed = _claimed_client(form)
        workload = self._deployment.registry.workloads.get(claimed)
        if workload is not None and workload.pep is not None:
            return
        if not self._buckets.take(claimed):
            refusal = Refusal(429, INVALID_REQUEST, "too_many_requests", "Too many requests; wait a second.")
            if workload is not None:
                refusal.facts = of_workload(workload.id)
            refusal.is_told = not self._buckets.is_news(claimed)
            raise refusal

    async def _introspect(self, call: Call) -> Response:
        form = call.form()
        client = authenticate_workload(self._deployment, form, self._audiences(call))
        claims = self._credential(form.get("token", ""))
        if claims is None:
            return answered_json({"active": False})
        if not self._may_know(client.id, claims):
            return answered_json({"active": False})
        found = find_credential(self._deployment.db, claims["jti"])
        session = find_session(self._deployment.db, claims["sid"])
        now = self._deployment.now()
        lives = session is not None and session.lives(now) and claims["exp"] > now
        if found is None or found[1] is not None or not lives:
            return answered_json({"active": False})
        return answered_json({"active": True, "token_type": "DPoP", **claims})

    def _may_know(self, client: str, claims: dict[str, Any]) -> bool:
        """Introspection stays within the tenant: by those who act in it, and the points that enforce it."""
        workload = self._deployment.registry.workloads[client]
        if workload.pep is not None:
            return True
        acting = claims["act"]
        while acting is not None:
            if acting["sub"] == client:
                return True
            acting = acting.get("act")
        return bool(claims["aud"] == client)

    async def _revoke(self, call: Call) -> Response:
        form = call.form()
        by = self._revoker(call, form)
        claims = self._credential(form.get("token", ""))
        if claims is None:
            return answered_json({})  # RFC 7009, section 2.2: an invalid token is no error
        if by.startswith("user:") or by in (claims["client_id"], claims["act"]["sub"]):
            revoke(
                self._deployment.db, self._deployment.recorder, f"credential:{claims['jti']}",
                reason=form.get("reason", "revoked by its owner")[:256], by=by, request_id=call.request_id,
            )  # fmt: skip
            return answered_json({})
        raise Refusal(400, "unauthorized_client", "credential_of_another", "The token is another client's.")

    def _revoker(self, call: Call, form: dict[str, str]) -> str:
        if call.header("authorization") is not None:
            user = user_of_request(
                self._deployment, call.header("authorization"), call.header("dpop"), "POST", call.url
            )
            need_role(user, "operator")
            return user.id
        return authenticate_workload(self._deployment, form, self._audiences(call)).id

    async def _grant(self, call: Call) -> Response:
        user = user_of_request(
            self._deployment, call.header("authorization"), call.header("dpop"), "POST", call.url
        )
        need_role(user, "operator")
        body = call.json_object()
        body.pop("approver", None)
        try:
            grant = Grant.model_validate(
                {"id": f"grant-{self._deployment.new_id()}", "approver": user.id, **body}
            )
        except ValidationError as error:
            raise Refusal.of_validation(error, "grant_malformed") from None
        now = self._deployment.now()
        if not now < grant.expires_at.timestamp() < now + MAX_GRANT_DAYS * 86_400:
            raise Refusal(400, INVALID_REQUEST, "grant_malformed", "It ends in the past, or too late.")
        if grant.approver in (grant.delegator, grant.delegate):
            raise Refusal(400, INVALID_REQUEST, "own_approval", "Neither of the two may approve it.")
        with self._deployment.db.transaction():
            if not add_grant(self._deployment.db, grant):
                raise Refusal(400, INVALID_REQUEST, "grant_known", "There is a grant of this id.")
            self._deployment.recorder.record(
                "delegation",
                **merged(
                    call.trace, self._deployment.policy_facts(), of_grant(grant),
                    {"environment": self._deployment.environment, "tenant": user.tenant,
                     "issued_at": time_text(now), "outcome": "opened"},
                ),
            )  # fmt: skip
        return answered_json({"grant_id": grant.id, "expires_at": grant.expires_at.isoformat()}, 201)

    async def _close_grant(self, call: Call) -> Response:
        user = user_of_request(
            self._deployment, call.header("authorization"), call.header("dpop"), "POST", call.url
        )
        need_role(user, "operator")
        name = call.request.path_params["id"]
        grant = find_grant(self._deployment.db, name, now=self._deployment.now())
        if grant is None:
            raise Refusal(404, INVALID_REQUEST, "grant_unknown", "No such grant is open.")
        with self._deployment.db.transaction():
            close_grant(self._deployment.db, name, now=self._deployment.now())
            self._deployment.recorder.record(
                "delegation",
                **merged(
                    call.trace, self._deployment.policy_facts(), of_grant(grant),
                    {"environment": self._deployment.environment, "tenant": user.tenant,
                     "reason": f"closed by {user.id}", "outcome": "closed"},
                ),
            )  # fmt: skip
        return answered_json({"grant_id": name, "closed": True})

    def _credential(self, token: str) -> dict[str, Any] | None:
        try:
            return dict(verify(token, ACCESS, self._deployment.keys[BROKER].key_for))
        except TokenRefused:
            return None

    def _audiences(self, call: Call) -> tuple[str, ...]:
        base = self._deployment.urls["broker"]
        return (base, f"{base}/token", call.url)


def _claimed_client(form: dict[str, str]) -> str:
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        return ""
    try:
        told = split(form.get("client_assertion", ""), ASSERTION).claims.get("sub")
    except TokenRefused:
        return ""
    return told if isinstance(told, str) else ""
