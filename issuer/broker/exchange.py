"""Token exchange: from a session to a credential, from a credential to a capability for one endpoint.

Who acts is the client that authenticated; what was signed into the subject token is copied, never asked for;
the new scopes lie within the old ones; and every exchange is a decision of the policy of that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from issuer.authentication.holders import check_holder
from issuer.authentication.refusal import (
    INVALID_PROOF,
    INVALID_REQUEST,
    INVALID_SCOPE,
    INVALID_TARGET,
    Refusal,
)
from issuer.authentication.workloads import authenticate_workload
from issuer.broker.subject import Subject, read_subject
from issuer.broker.target import Target, find_target
from issuer.deployment import Deployment
from issuer.emitting.steps import merged, of_credential, of_grant, of_verdict, of_workload
from issuer.exceptions import fields_of
from issuer.policy.question import Question, Verdict
from issuer.registry.exceptions import ExceptionRecord
from issuer.registry.identities import Workload
from issuer.state.credentials import add_credential
from issuer.state.grants import active_exception, covers, find_grant
from issuer.state.signing_keys import BROKER
from issuer.tokens.claims import Actor, CredentialClaims, chain_of, nested
from issuer.tokens.jws import ACCESS, TokenRefused, sign
from ledger.errors import UsageError
from ledger.format.scopes import beyond

GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TYPE: Final = "urn:ietf:params:oauth:token-type:access_token"
JWT_TYPE: Final = "urn:ietf:params:oauth:token-type:jwt"
KNOWN: Final = frozenset({
    "grant_type", "subject_token", "subject_token_type", "audience", "scope", "requested_token_type",
    "client_assertion", "client_assertion_type", "client_id", "grant_id",
})  # fmt: skip
COPIED: Final = frozenset({
    "actor_token", "actor_token_type", "tenant", "env", "environment", "zone", "sid", "session_id", "txn",
    "task_id", "purpose", "act", "sub", "resource", "cnf",
})  # fmt: skip
"""Never parameters: they come from the subject token, or are not to be had at all."""
BREAK_GLASS_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class Issued:
    """A credential that was issued."""

    token: str
    claims: CredentialClaims
    now: int

    def answer(self) -> dict[str, Any]:
        """RFC 8693, section 2.2.1."""
        return {
            "access_token": self.token, "issued_token_type": ACCESS_TYPE, "token_type": "DPoP",
            "expires_in": self.claims.exp - self.now, "scope": self.claims.scope,
        }  # fmt: skip


def exchange(
    deployment: Deployment, form: Mapping[str, str], proof: str | None, url: str, *, request_id: str
) -> Issued:
    """One token exchange. Its event is in the outbox when this returns; a refusal's event is the caller's.

    Raises:
        Refusal: as the RFCs spell it.
    """
    facts: dict[str, Any] = {}
    try:
        return _exchange(deployment, form, proof, url, request_id=request_id, facts=facts)
    except Refusal as refusal:
        refusal.facts = merged(facts, refusal.facts)
        raise


def _exchange(
    deployment: Deployment,
    form: Mapping[str, str],
    proof: str | None,
    url: str,
    *,
    request_id: str,
    facts: dict[str, Any],
) -> Issued:
    client = authenticate_workload(deployment, form, (deployment.urls["broker"], url))
    facts.update(of_workload(client.id))
    _check_parameters(form)
    jkt = _key_of(deployment, client, proof, url)
    subject = read_subject(deployment, client, form["subject_token"], jkt)
    facts.update(subject.facts())
    chain = _chain(subject, client)
    facts.update({"delegated_actor": chain[-1], "delegation": chain})
    target = find_target(deployment, client, form.get("audience"))
    facts["audience"] = target.name
    grants = _grants(deployment, client, subject, target, form.get("grant_id"))
    scopes, exception = _scopes(deployment, client, subject, target, form.get("scope"))
    facts["scopes"] = scopes
    verdict = _decide(deployment, client, subject, target, grants)
    facts.update(of_verdict(verdict))
    if not verdict.allowed:
        raise Refusal(
            400,
            INVALID_REQUEST,
            verdict.reason or "not_permitted",
            "The policy does not permit this exchange.",
        )
    now = int(deployment.now())
    life = target.life(scopes)
    if exception is not None:
        life = min(BREAK_GLASS_SECONDS, int(exception.expires_at.timestamp()) - now)
    claims = {
        "iss": deployment.urls["broker"], "iat": now, "exp": min(now + life, subject.expires_at),
        "jti": deployment.new_id(), "sub": chain[0], "client_id": client.id, "act": nested(chain),
        "sid": subject.session.facts.sid, "txn": subject.session.txn, "task_id": subject.session.task_id,
        "aud": target.name, "scope": " ".join(scopes), "tenant": subject.session.facts.tenant,
        "env": subject.session.facts.environment, "zone": subject.session.facts.zone,
        "purpose": subject.session.facts.purpose, "policy_version": verdict.version, "request_id": request_id,
        "cnf": {"jkt": target.jkt or jkt}, "parent": subject.jti,
        **({"grant_id": grants[-1]} if grants else {}),
        **({"once": True} if target.is_once(scopes) else {}),
        **({"exercise": subject.session.facts.exercise} if subject.session.facts.exercise else {}),
        **({"exception_id": exception.id} if exception is not None else {}),
    }  # fmt: skip
    read = CredentialClaims.model_validate(claims)
    token = _sign(deployment, claims)
    with deployment.db.transaction():
        # In the transaction that records it: what is revoked meanwhile has no more children.
        subject.check_lives(deployment, client)
        add_credential(deployment.db, claims)
        deployment.recorder.record(
            "issuance",
            **merged(
                of_verdict(verdict), of_credential(read), of_workload(client.id),
                {"pep": "broker", "request_id": request_id, "impact": target.impact(scopes),
                 "session_risk": subject.session.facts.risk},
            ),
        )  # fmt: skip
        if form.get("grant_id") is not None:
            deployment.recorder.record("delegation", **_grant_used(deployment, read, request_id))
        if exception is not None:
            used = fields_of(deployment.recorder, exception, "used")
            own = {"request_id": request_id, "scopes": read.scopes}
            deployment.recorder.record("exception", **merged(of_credential(read), used, own))
    return Issued(token, read, now)


def _check_parameters(form: Mapping[str, str]) -> None:
    if form.get("grant_type") != GRANT_TYPE:
        raise Refusal(400, "unsupported_grant_type", "grant_type_unknown", "Only token exchange is offered.")
    if told := sorted(set(form) & COPIED):
        raise Refusal(
            400, INVALID_REQUEST, "parameter_not_allowed", f"{told[0]} is not a parameter: it is copied."
        )
    if set(form) - KNOWN:
        raise Refusal(400, INVALID_REQUEST, "parameter_unknown", "A parameter is not known here.")
    if not form.get("subject_token"):
        raise Refusal(400, INVALID_REQUEST, "subject_token_missing", "A subject_token is needed.")
    if form.get("subject_token_type") not in (ACCESS_TYPE, JWT_TYPE):
        raise Refusal(400, INVALID_REQUEST, "subject_token_type", "subject_token_type is not one known here.")
    if form.get("requested_token_type", ACCESS_TYPE) != ACCESS_TYPE:
        raise Refusal(400, INVALID_REQUEST, "requested_token_type", "Only access tokens are issued.")


def _key_of(deployment: Deployment, client: Workload, proof: str | None, url: str) -> str:
    found = check_holder(deployment, proof, "POST", url)
    if deployment.trust.key_of(client.id, found.jkt) is None:
        raise Refusal(400, INVALID_PROOF, "proof_of_another_key", "The proof is not by the client's key.")
    return found.jkt


def _chain(subject: Subject, client: Workload) -> list[str]:
    chain = [*subject.chain] if subject.chain[-1] == client.id else [*subject.chain, client.id]
    try:
        return chain_of(chain[0], Actor.model_validate(nested(chain)))
    except TokenRefused as refused:
        raise Refusal.of_token(refused, 400, INVALID_REQUEST) from refused


def _scopes(
    deployment: Deployment, client: Workload, subject: Subject, target: Target, asked: str | None
) -> tuple[list[str], ExceptionRecord | None]:
    """The scopes of the new credential: asked for, or all that fit; and the exception that they rest on."""
    if asked is None:
        wanted = [scope for scope in target.scopes or subject.scopes if not beyond([scope], subject.scopes)]
        wanted = [scope for scope in wanted if not beyond([scope], client.scopes)]
    else:
        wanted = list(dict.fromkeys(asked.split()))
    if not wanted or any(":" not in scope or not scope.isprintable() for scope in wanted):
        raise Refusal(400, INVALID_SCOPE, "scope_missing", "No scope is left of what was asked for.")
    if target.scopes is not None and beyond(wanted, target.scopes):
        raise Refusal(
            400, INVALID_SCOPE, "scope_beyond_target", "The target has no action for one of the scopes.",
            facts={"scopes": wanted},
        )  # fmt: skip
    if beyond(wanted, subject.scopes) or beyond(wanted, client.scopes):
        exception = active_exception(
            deployment.db, client.id, environment=deployment.environment, scopes=wanted, resource=None,
            now=deployment.now(),
        )  # fmt: skip
        if exception is None or any("*" in scope for scope in wanted):
            raise Refusal(
                400, INVALID_SCOPE, "scope_inflation", "A scope is wider than subject token or client.",
                facts={"scopes": wanted},
            )  # fmt: skip
        return wanted, exception
    return wanted, None


def _grants(
    deployment: Deployment, client: Workload, subject: Subject, target: Target, asked: str | None
) -> list[str]:
    """Grants that the new credential rests on, the newest last: inherited, and the one for a hand-over."""
    held = list(subject.grants)
    if asked is None:
        if target.kind == "workload":
            raise Refusal(400, INVALID_TARGET, "grant_missing", "Handing over needs a grant_id.")
        return held
    grant = find_grant(deployment.db, asked, now=deployment.now())
    if grant is None or grant.delegator not in (client.id, *subject.chain):
        raise Refusal(400, INVALID_TARGET, "grant_unknown", "No such grant of the client's is open.")
    if target.kind == "workload":
        if grant.delegator != client.id or grant.delegate != target.name:
            raise Refusal(400, INVALID_TARGET, "grant_of_others", "The grant is for another hand-over.")
    elif grant.delegate not in (client.id, *subject.chain):
        raise Refusal(400, INVALID_TARGET, "grant_of_others", "The grant is for another delegate.")
    return [*held, asked]


def _decide(
    deployment: Deployment, client: Workload, subject: Subject, target: Target, grants: list[str]
) -> Verdict:
    try:
        engine = deployment.policy.engine()
    except UsageError:
        raise Refusal(503, "temporarily_unavailable", "no_policy", "No policy is active.") from None
    facts = subject.session.facts
    question = Question(
        session=facts, action=target.issue_action(), resource=target.endpoint,
        user=deployment.registry.users.get(facts.user), agent=client.id,
        covers=covers(deployment.db, grants, now=deployment.now()),
    )  # fmt: skip
    return engine.decide(question)


def _sign(deployment: Deployment, claims: dict[str, Any]) -> str:
    try:
        return sign(claims, ACCESS, deployment.keys[BROKER].current())
    except TokenRefused as refused:
        raise Refusal.of_token(refused, 400, INVALID_REQUEST) from refused


def _grant_used(deployment: Deployment, claims: CredentialClaims, request_id: str) -> dict[str, Any]:
    grant = find_grant(deployment.db, str(claims.grant_id), now=deployment.now())
    credential = of_credential(claims)
    kept = ("tenant", "environment", "trace_id", "session_id", "task_id", "credential_id", "exercise")
    return merged(
        {} if grant is None else of_grant(grant), {name: credential[name] for name in kept},
        {"request_id": request_id, "outcome": "used"},
    )  # fmt: skip
