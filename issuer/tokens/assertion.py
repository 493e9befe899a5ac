"""A workload's assertion of who it is, for one service and once (RFC 7523)."""

from __future__ import annotations

from typing import Final

from joserfc.jwk import OKPKey

from issuer.tokens.jws import ASSERTION, sign

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SECONDS: Final = 30
"""How long one of ours lives."""


def make_assertion(workload: str, audience: str, key: OKPKey, *, jti: str, now: float) -> str:
    """An assertion by the workload's own key."""
    claims = {
        "iss": workload, "sub": workload, "aud": audience, "iat": int(now), "exp": int(now) + SECONDS,
        "jti": jti,
    }  # fmt: skip
    return sign(claims, ASSERTION, key)


def client_form(assertion: str) -> dict[str, str]:
    """The form parameters that carry an assertion."""
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
