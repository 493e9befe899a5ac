"""A review: another person's word, under that person's key, that one bundle may be activated.

It is a JWS over {digest, reviewer, at} and lies outside the bundle, so that it does not change the digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from joserfc.jwk import OKPKey

from issuer.policy.bundle import Bundle
from issuer.tokens.jws import TokenRefused, sign, verify
from ledger.errors import UsageError

TYP: Final = "policy-review+jwt"
OwnerOf = Callable[[str], tuple[str, OKPKey] | None]


@dataclass(frozen=True, slots=True)
class Review:
    """Who agreed to which bundle, and when (seconds since 1970)."""

    digest: str
    reviewer: str
    at: int


def make_review(bundle: Bundle, reviewer: str, key: OKPKey, *, now: float) -> str:
    """The signed review of a bundle.

    Raises:
        UsageError: the reviewer is its author.
    """
    if reviewer == bundle.about.author:
        raise UsageError(
            f"{reviewer} is the author of bundle {bundle.about.name} {bundle.version}.",
            "Somebody else must review it.",
        )
    return sign({"digest": bundle.digest, "reviewer": reviewer, "at": int(now)}, TYP, key)


def find_review(
    bundle: Bundle,
    reviews: Iterable[str],
    owner_of: Callable[[str], tuple[str, OKPKey] | None],
    *,
    now: float,
) -> Review:
    """The first review that counts for this bundle.

    `owner_of` gives the person and the public key of a key id, or None.

    Raises:
        UsageError: none counts.
    """
    for text in reviews:
        review = _read(text, owner_of)
        if review is None or review.digest != bundle.digest or review.at > now + 5:
            continue
        if review.reviewer != bundle.about.author:
            return review
    raise UsageError(
        f"Nobody but its author has reviewed bundle {bundle.about.name} {bundle.version}, "
        f"digest {bundle.digest[:12]}….",
        "Somebody else must: `decision-ledger issuer policy review BUNDLE --reviewer user:NAME`.",
    )


def _read(text: str, owner_of: OwnerOf) -> Review | None:
    owners: list[str] = []

    def key_for(kid: str) -> OKPKey | None:
        found = owner_of(kid)
        if found is None:
            return None
        owners.append(found[0])
        return found[1]

    try:
        claims = verify(text.strip(), TYP, key_for)
    except TokenRefused:
        return None
    digest, reviewer, at = claims.get("digest"), claims.get("reviewer"), claims.get("at")
    if not isinstance(digest, str) or not isinstance(at, int) or [reviewer] != owners:
        return None
    return Review(digest, owners[0], at)
