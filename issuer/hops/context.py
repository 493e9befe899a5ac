"""The context of a queued message: for whom, for which queue and body, until when (Transaction Tokens)."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from issuer.tokens.claims import CredentialClaims, HopClaims, chain_of, nested, read_claims
from issuer.tokens.jws import HOP, KeyFor, TokenRefused, check_times, sign, verify
from issuer.tokens.keys import Key

QUEUE_SECONDS: Final = 900
"""How long a message may wait."""
GRACE_SECONDS: Final = 300


def make_context(
    claims: CredentialClaims, *, issuer: str, domain: str, key: Key, message_id: str, queue: str, action: str,
    resource: str, body: bytes, now: float, session_end: int,
) -> str:  # fmt: skip
    """The signed context of one message; it ends with the session at the latest."""
    whole: dict[str, Any] = {
        "iss": issuer, "iat": int(now), "exp": min(int(now) + QUEUE_SECONDS + GRACE_SECONDS, session_end),
        "jti": message_id, "aud": domain, "txn": claims.txn, "sub": claims.sub, "act": nested(claims.chain),
        "scope": claims.scope,
        "tctx": {
            "queue": queue, "action": action, "resource": resource, "sid": claims.sid,
            "task_id": claims.task_id, "body_sha256": hashlib.sha256(body).hexdigest(),
            **({} if claims.exercise is None else {"exercise": claims.exercise}),
        },
    }  # fmt: skip
    return sign(whole, HOP, key)


def check_context(
    text: str, key_for: KeyFor, *, issuer: str, domain: str, message_id: str, queue: str, body: bytes,
    now: float,
) -> HopClaims:  # fmt: skip
    """The context of a message, where it is that message's own.

    Raises:
        TokenRefused: `context_expired` where it waited too long; otherwise it was moved, changed or forged.
    """
    claims = verify(text, HOP, key_for)
    read = read_claims(HopClaims, claims, issuer=issuer, audience=domain)
    chain_of(read.sub, read.act)
    if read.jti != message_id or read.tctx.queue != queue:
        raise TokenRefused("context_moved", "The context is another message's, or for another queue.")
    if read.tctx.body_sha256 != hashlib.sha256(body).hexdigest():
        raise TokenRefused("body_changed", "The body is not the one that the context was signed for.")
    try:
        check_times(claims, now)
    except TokenRefused as refused:
        if refused.reason == "token_expired":
            raise TokenRefused("context_expired", "The message waited too long.") from refused
        raise
    return read
