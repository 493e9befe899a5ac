"""How much one caller may ask: a bucket of requests per second for each client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

REQUESTS_PER_SECOND: Final = 100
MAX_CLIENTS: Final = 10_000
MAX_BODY_BYTES: Final = 65_536
REQUEST_SECONDS: Final = 10.0


class Buckets:
    """A bucket per client, filled at a steady rate; the least recently seen client is forgotten."""

    def __init__(self, clock: Callable[[], float], *, rate: float = REQUESTS_PER_SECOND) -> None:
        self._clock = clock
        self._rate = rate
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._told: dict[str, int] = {}

    def take(self, client: str) -> bool:
        """Whether the client may ask once more now."""
        now = self._clock()
        left, since = self._held.pop(client, (self._rate, now))
        left = min(self._rate, left + max(0.0, now - since) * self._rate)
        passes = left >= 1
        self._held[client] = (left - 1 if passes else left, now)
        if len(self._held) > MAX_CLIENTS:
            self._held.popitem(last=False)
        return passes

    def is_news(self, client: str) -> bool:
        """Whether this second's flood of a client was not told yet: one event a second, not one a request."""
        second = int(self._clock())
        if self._told.get(client) == second:
            return False
        if len(self._told) > MAX_CLIENTS:
            self._told.clear()
        self._told[client] = second
        return True
