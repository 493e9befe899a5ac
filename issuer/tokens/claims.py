"""The claims of each kind of token: what must be there, of which type, and how large (RFC 9068, RFC 8693).

A chain is written as in RFC 8693: `sub` is the initiator, the outermost `act` the current actor, and each
`act` holds the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from issuer.tokens.jws import TokenRefused

MAX_CHAIN: Final = 8
"""Actors of a chain, the initiator not counted."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Names = Annotated[list[Short], Field(max_length=64)]

_Claims = TypeVar("_Claims", bound="Claims")


class Claims(BaseModel):
    """What every token of ours says. Other claims are allowed and not read."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    iss: Short
    iat: int
    exp: int
    jti: Id


class SessionClaims(Claims):
    """What the authority says of a user's session."""

    sub: Short
    aud: Short
    sid: Id
    txn: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    task_id: Id
    tenant: Short
    env: Short
    zone: Short
    risk: Annotated[int, Field(ge=0, le=100)]
    data_classes: Names
    requested_actions: Names
    agents: Names
    purpose: Short
    exercise: Id | None = None


class Actor(BaseModel):
    """One link of `act`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    sub: Short
    act: Actor | None = None


class Confirmation(BaseModel):
    """`cnf`: the key whose holder may use the token (RFC 7800, RFC 9449)."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    jkt: Short


class CredentialClaims(Claims):
    """What the broker says: a session credential or a capability."""

    sub: Short
    client_id: Short
    act: Actor
    sid: Id
    txn: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    task_id: Id
    aud: Short
    scope: Annotated[str, StringConstraints(max_length=2_048)]
    tenant: Short
    env: Short
    zone: Short
    purpose: Short
    policy_version: Short
    request_id: Id
    cnf: Confirmation
    parent: Id
    grant_id: Id | None = None
    once: bool = False
    exception_id: Id | None = None
    exercise: Id | None = None

    @property
    def scopes(self) -> list[str]:
        """Its scopes, in their order."""
        return self.scope.split()

    @property
    def chain(self) -> list[str]:
        """The whole chain, initiator first, current actor last.

        Raises:
            TokenRefused: it is too deep, or one principal stands in it twice.
        """
        return chain_of(self.sub, self.act)


class AssertionClaims(Claims):
    """How a workload says who it is (RFC 7523)."""

    sub: Short
    aud: Short


class HopContext(BaseModel):
    """`tctx` of a queue message: what it may be used for, and for which body."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", hide_input_in_errors=True)

    queue: Short
    action: Short
    resource: Short
    sid: Id
    task_id: Id
    body_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    exercise: Id | None = None


class HopClaims(Claims):
    """A signed context that goes through a queue with the work (Transaction Tokens draft)."""

    sub: Short
    aud: Short
    txn: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    act: Actor
    scope: Annotated[str, StringConstraints(max_length=2_048)]
    tctx: HopContext


def read_claims(
    model: type[_Claims], claims: Mapping[str, Any], *, issuer: str, audience: str | None
) -> _Claims:
    """The claims as `model`, of this issuer and for this one audience (None: judged by the caller).

    Raises:
        TokenRefused: a claim is missing or malformed, or issuer or audience is another.
    """
    if claims.get("iss") != issuer:
        raise TokenRefused("token_issuer", "The token's issuer is not the expected one.")
    if audience is not None and claims.get("aud") != audience:
        raise TokenRefused("token_audience", "The token is for another audience.")
    try:
        return model.model_validate(claims)
    except (ValidationError, RecursionError) as error:
        raise TokenRefused("token_claims", "The token lacks a claim, or one is malformed.") from error


def chain_of(subject: str, actor: Actor | None) -> list[str]:
    """Initiator first, current actor last.

    Raises:
        TokenRefused: more than `MAX_CHAIN` actors, or one principal twice.
    """
    found: list[str] = []
    link = actor
    while link is not None:
        found.append(link.sub)
        if len(found) > MAX_CHAIN:
            raise TokenRefused("chain_too_deep", f"The chain has more than {MAX_CHAIN} actors.")
        link = link.act
    whole = [subject, *reversed(found)]
    if len(set(whole)) != len(whole):
        raise TokenRefused("chain_cycle", "One principal stands twice in the chain.")
    return whole


def nested(chain: Sequence[str]) -> dict[str, Any]:
    """The `act` claim of a chain of at least one actor, its initiator first."""
    act: dict[str, Any] = {}
    for name in chain[1:]:
        act = {"sub": name, **({"act": act} if act else {})}
    return act
