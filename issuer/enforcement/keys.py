"""The broker's public keys as an enforcement point knows them: fetched once, and again for an unknown one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httpx
from joserfc.jwk import OKPKey

from issuer.tokens.keys import BadKey, read_key_set
from ledger.errors import OutsideError

REFETCH_SECONDS: Final = 10.0
"""At most one fetch in this time: a token with an invented key id costs no more."""
KEPT_SECONDS: Final = 300.0
MAX_BYTES: Final = 65_536


class RemoteKeys:
    """A JWK Set somewhere else."""

    def __init__(self, url: str, client: httpx.AsyncClient, clock: Callable[[], float]) -> None:
        self._url = url
        self._client = client
        self._clock = clock
        self._keys: dict[str, OKPKey] = {}
        self._fetched_at = float("-inf")
        self._stale = False

    async def prepare(self, kid: str | None) -> None:
        """Before a token is judged: fetch the set, if this key is not known or the set is old.

        Raises:
            OutsideError: it cannot be had, and nothing usable is kept.
        """
        age = self._clock() - self._fetched_at
        wanted = self._stale or age > KEPT_SECONDS or (kid is not None and kid not in self._keys)
        if not wanted or (age < REFETCH_SECONDS and not self._stale):
            return
        try:
            answer = await self._client.get(self._url, follow_redirects=False)
            if answer.status_code != 200 or len(answer.content) > MAX_BYTES:
                raise OutsideError(f"{self._url} gave no keys.")
            keys = read_key_set(answer.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, BadKey) as error:
            if self._keys and not self._stale:
                return
            raise OutsideError(f"{self._url} gave no keys.") from error
        self._keys = keys
        self._fetched_at, self._stale = self._clock(), False

    def key_for(self, kid: str) -> OKPKey | None:
        """A key of the set as it was fetched last."""
        return None if self._stale else self._keys.get(kid)

    def forget(self) -> None:
        """A key was replaced: nothing counts until the set is fetched anew."""
        self._stale = True
