"""Workloads authenticate by an assertion that their own key signed (RFC 7523, private_key_jwt)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from joserfc.jwk import OKPKey

from issuer.authentication.refusal import INVALID_CLIENT, INVALID_REQUEST, UNAVAILABLE, Refusal
from issuer.deployment import Deployment
from issuer.registry.identities import Workload, workload_id
from issuer.state.used_ids import StoreFull, use_once
from issuer.tokens.assertion import ASSERTION_TYPE
from issuer.tokens.claims import AssertionClaims, read_claims
from issuer.tokens.jws import ASSERTION, TokenRefused, check_times, split, verify_parts

LIFE_SECONDS: Final = 60


def authenticate_workload(
    deployment: Deployment, form: Mapping[str, str], audiences: Iterable[str]
) -> Workload:
    """The workload that a request's `client_assertion` proves; its assertion is used up.

    Raises:
        Refusal: 401 invalid_client; 503 where no more used ids can be kept.
    """
    if form.get("client_assertion_type") != ASSERTION_TYPE or not form.get("client_assertion"):
        raise Refusal(401, INVALID_CLIENT, "client_assertion_missing", "A client_assertion is needed.")
    workload = assertion_of(deployment, form["client_assertion"], audiences)
    named = form.get("client_id")
    if named is not None and workload_id(named) != workload.id:
        raise Refusal(401, INVALID_CLIENT, "client_mismatch", "client_id is not who the assertion names.")
    return workload


def workload_of_bearer(
    deployment: Deployment, authorization: str | None, audiences: Iterable[str]
) -> Workload:
    """The workload of an `Authorization: Bearer <client assertion>` header.

    Raises:
        Refusal: as `authenticate_workload`.
    """
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        raise Refusal(401, INVALID_CLIENT, "client_assertion_missing", "A client assertion is needed.")
    return assertion_of(deployment, text, audiences)


def assertion_of(deployment: Deployment, text: str, audiences: Iterable[str]) -> Workload:
    """The workload that an assertion proves, for one of these audiences.

    Raises:
        Refusal: as `authenticate_workload`.
    """
    facts: dict[str, object] = {}
    try:
        parts = split(text, ASSERTION)
        told = parts.claims.get("sub")
        identity = workload_id(told) if isinstance(told, str) else None
        workload = deployment.registry.workloads.get(identity or "")
        if workload is None:
            raise TokenRefused("client_unknown", "The assertion names no registered workload.")

        def key_for(kid: str) -> OKPKey | None:
            return deployment.trust.key_of(workload.id, kid)

        claims = verify_parts(parts, key_for)
        facts["workload"] = workload.spiffe
        read = read_claims(AssertionClaims, claims, issuer=str(told), audience=None)
        if read.aud not in set(audiences):
            raise TokenRefused("token_audience", "The assertion is for another service.")
        check_times(claims, deployment.now())
        if read.exp - read.iat > LIFE_SECONDS:
            raise TokenRefused("assertion_too_long", f"The assertion lives longer than {LIFE_SECONDS} s.")
        if workload.environment != deployment.environment:
            raise TokenRefused("environment_mismatch", "The workload is of another environment.")
        use_up(deployment, "assertion", workload.id, read.jti, until=read.exp)
    except TokenRefused as refused:
        refusal = Refusal.of_token(refused, 401, INVALID_CLIENT)
        refusal.facts = facts
        raise refusal from refused
    return workload


def use_up(deployment: Deployment, kind: str, owner: str, jti: str, *, until: int) -> None:
    """Count an id as used.

    Raises:
        TokenRefused: it was used before.
        Refusal: no more ids can be kept.
    """
    try:
        first = use_once(deployment.db, kind, owner, jti, until=until, now=deployment.now())
    except StoreFull:
        raise Refusal(
            503, UNAVAILABLE, "used_ids_full", "Too many requests are under way; try again in a minute."
        ) from None
    if not first:
        raise TokenRefused("token_reused", "This id was used before.")


def only_once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Form parameters, each given at most once (RFC 6749, section 3.2).

    Raises:
        Refusal: 400 invalid_request, where one is given twice.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Refusal(400, INVALID_REQUEST, "parameter_repeated", "A parameter is given twice.")
        found[name] = value
    return found
