"""People show the access token that the authority gave them at login, bound to a key of their client's."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import StringConstraints

from issuer.authentication.holders import check_holder, presented
from issuer.authentication.refusal import INVALID_TOKEN, Refusal
from issuer.deployment import Deployment
from issuer.registry.people import User
from issuer.state.signals import revoked_since
from issuer.state.signing_keys import AUTHORITY
from issuer.tokens.claims import Claims, Confirmation, read_claims
from issuer.tokens.jws import ACCESS, TokenRefused, check_times, verify

ROLE_NEEDED: Final = "role_needed"


class UserClaims(Claims):
    """A person's access token at the authority."""

    sub: str
    aud: str
    client_id: str
    scope: Annotated[str, StringConstraints(max_length=512)]
    cnf: Confirmation | None = None


def user_of_token(deployment: Deployment, text: str) -> tuple[User, UserClaims]:
    """The person whom an access token of the authority names.

    Raises:
        Refusal: 401 invalid_token.
    """
    authority = deployment.urls["authority"]
    try:
        claims = verify(text, ACCESS, deployment.keys[AUTHORITY].key_for)
        check_times(claims, deployment.now())
        read = read_claims(UserClaims, claims, issuer=authority, audience=authority)
        user = deployment.registry.users.get(read.sub)
        if user is None:
            raise TokenRefused("user_unknown", "The token names nobody who is registered.")
        if revoked_since(deployment.db, user.id, read.iat):
            raise TokenRefused("principal_revoked", "The person's tokens of that time were revoked.")
    except TokenRefused as refused:
        raise Refusal.of_token(refused, 401, INVALID_TOKEN) from refused
    return user, read


def user_of_request(
    deployment: Deployment, authorization: str | None, proof: str | None, method: str, url: str
) -> User:
    """The person who makes a request, by token and proof.

    Raises:
        Refusal: 401 invalid_token, or invalid_dpop_proof.
    """
    token = presented(authorization)
    user, claims = user_of_token(deployment, token)
    found = check_holder(deployment, proof, method, url, token=token, status=401)
    if claims.cnf is None or claims.cnf.jkt != found.jkt:
        raise Refusal(401, INVALID_TOKEN, "proof_of_another_key", "The token is bound to another key.")
    return user


def need_role(user: User, *roles: str) -> None:
    """Nothing where the person has one of these roles.

    Raises:
        Refusal: 403 insufficient_scope.
    """
    if not {*user.roles} & {*roles}:
        raise Refusal(
            403, "insufficient_scope", ROLE_NEEDED, f"This needs one of the roles {', '.join(roles)}.",
            facts={"actor": user.id},
        )  # fmt: skip
