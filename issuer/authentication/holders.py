"""Holders of tokens show a proof with each request, made for it by the token's own key (RFC 9449)."""

from __future__ import annotations

from issuer.authentication.refusal import INVALID_PROOF, INVALID_TOKEN, Refusal
from issuer.authentication.workloads import use_up
from issuer.deployment import Deployment
from issuer.tokens.dpop import Proof, check_proof
from issuer.tokens.jws import TokenRefused


def check_holder(
    deployment: Deployment, proof: str | None, method: str, url: str, *, token: str | None = None,
    status: int = 400,
) -> Proof:  # fmt: skip
    """The proof of one request, used up; `token` is the access token that it must go with.

    Raises:
        Refusal: `status` invalid_dpop_proof.
    """
    if not proof:
        raise Refusal(status, INVALID_PROOF, "proof_missing", "A DPoP proof is needed.")
    try:
        found = check_proof(proof, method, url, now=deployment.now(), token=token)
        use_up(deployment, "proof", found.jkt, found.jti, until=found.until)
    except TokenRefused as refused:
        raise Refusal.of_token(refused, status, INVALID_PROOF) from refused
    return found


def presented(authorization: str | None) -> str:
    """The token of an `Authorization: DPoP …` header.

    Raises:
        Refusal: 401 invalid_token, where there is none.
    """
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "dpop" or not token.strip():
        raise Refusal(401, INVALID_TOKEN, "token_missing", "An access token bound to a key is needed (DPoP).")
    return token.strip()
