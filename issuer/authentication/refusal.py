"""A refusal: what the caller is told (the standards' words), and what the event says."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from issuer.registry.faults import first_problem
from issuer.tokens.jws import TokenRefused

INVALID_CLIENT: Final = "invalid_client"
INVALID_REQUEST: Final = "invalid_request"
INVALID_TARGET: Final = "invalid_target"
INVALID_SCOPE: Final = "invalid_scope"
INVALID_PROOF: Final = "invalid_dpop_proof"
INVALID_TOKEN: Final = "invalid_token"  # noqa: S105 - an error's name
INSUFFICIENT_SCOPE: Final = "insufficient_scope"
UNAVAILABLE: Final = "temporarily_unavailable"


class Refusal(Exception):
    """The answer is no. `error` and `description` go to the caller; `reason` into the event.

    `facts` are fields of the event that were established before it was refused.
    """

    def __init__(
        self, status: int, error: str, reason: str, description: str, *, facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.reason = reason
        self.description = description
        self.facts = facts or {}
        self.extra: dict[str, Any] = {}
        """Members of the answer beside `error` and `error_description`."""
        self.is_told = False
        """Whether an event says it already: a flood is one event a second."""

    @classmethod
    def of_validation(cls, error: ValidationError, reason: str) -> Refusal:
        """A body whose members are not what they must be: 400, with the first of them."""
        return cls(400, INVALID_REQUEST, reason, first_problem(error)[1])

    @classmethod
    def of_token(cls, refused: TokenRefused, status: int, error: str) -> Refusal:
        """A token that proves nothing, as this error."""
        return cls(status, error, refused.reason, str(refused))
