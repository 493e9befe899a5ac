"""Keeps a feed fresh: polls the signals service as the enforcement point's own workload (RFC 8936)."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx
import structlog
from joserfc.jwk import OKPKey

from issuer.enforcement.point import Point
from issuer.signals.events import read_event
from issuer.tokens.assertion import make_assertion
from issuer.tokens.jws import TokenRefused
from issuer.tokens.keys import BadKey, read_key_set
from ledger.errors import OutsideError

RETRY_SECONDS: Final = 1.0
SHORT_POLL_SECONDS: Final = 2.0

log = structlog.get_logger()


class FeedReader:
    """Reads for one point. `waits`: whether a poll is held until there is news."""

    def __init__(self, point: Point, key: OKPKey, client: httpx.AsyncClient, *, waits: bool = True) -> None:
        self._point = point
        self._deployment = point.deployment
        self._key = key
        self._client = client
        self._waits = waits
        self._keys: dict[str, OKPKey] = {}
        self._has_read = False

    async def run(self) -> None:
        """Until cancelled. A poll that fails is tried again; meanwhile the feed grows old."""
        failing = False
        while True:
            try:
                more = await self.step()
                failing = False
            except (OutsideError, TokenRefused) as error:
                if not failing:
                    log.warning("signals cannot be read", pep=self._point.pep, error=str(error))
                failing = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if not more and not self._waits:
                await asyncio.sleep(SHORT_POLL_SECONDS)

    async def step(self) -> bool:
        """One poll; whether there is more to read at once.

        Raises:
            OutsideError: the service did not answer.
            TokenRefused: it gave something that is no signal of ours.
        """
        feed = self._point.feed
        behind = not (self._has_read and self._waits)
        begun = self._deployment.now()
        body = await self._ask({"cursor": feed.cursor, "returnImmediately": behind})
        for text in body["sets"].values():
            self._point.hear(await self._read(text))
        feed.cursor = body["cursor"]
        if not body["moreAvailable"]:
            # What was put there while we asked is for the next poll: so fresh it is, and no fresher.
            feed.caught_up(begun if behind else self._deployment.now())
            self._has_read = True
        return bool(body["moreAvailable"])

    async def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        url = self._deployment.urls["signals"]
        assertion = make_assertion(
            self._point.workload, url, self._key, jti=self._deployment.new_id(), now=self._deployment.now()
        )
        try:
            answer = await self._client.post(
                f"{url}/poll", json=body, headers={"Authorization": f"Bearer {assertion}"}
            )
            if answer.status_code != 200:
                raise OutsideError(f"The signals service answered {answer.status_code}.")
            value: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise OutsideError(f"The signals service does not answer: {type(error).__name__}.") from error
        return value

    async def _read(self, text: str) -> Any:
        authority, signals = self._deployment.urls["authority"], self._deployment.urls["signals"]
        for attempt in (0, 1):
            try:
                return read_event(
                    text, self._keys.get, issuers=(authority,), audience=signals, now=self._deployment.now()
                )
            except TokenRefused as refused:
                if refused.reason != "token_kid" or attempt:
                    raise
                await self._fetch_keys(authority)
        raise AssertionError("two attempts")

    async def _fetch_keys(self, authority: str) -> None:
        try:
            answer = await self._client.get(f"{authority}/jwks")
            self._keys = read_key_set(answer.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, BadKey) as error:
            raise OutsideError(f"The authority gave no keys: {type(error).__name__}.") from error
