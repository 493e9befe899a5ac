"""Who may send, how fast, and how much at once."""

from __future__ import annotations

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Self

IN_FLIGHT_BYTES: Final = 256 * 1024 * 1024
"""Of bodies that are being read or written, of all senders together."""
MAX_SENDERS: Final = 10_000
"""Whose pace is remembered; those that were silent longest are forgotten."""


class Tokens:
    """Tokens that senders may show; none: anybody may send."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def sender(self, authorization: str) -> int | None:
        """The number of the token in an `Authorization` header; all are compared, in constant time."""
        scheme, _, token = authorization.partition(" ")
        shown = token.strip().encode("utf-8", "replace")
        fits = [hmac.compare_digest(shown, known) for known in self._tokens]
        return fits.index(True) if scheme.lower() == "bearer" and any(fits) else None


class Pace:
    """How many messages a second a sender may send; a burst of one second's worth is fine.

    What a request held is counted when it was read: a large one is taken, and those that follow wait.
    """

    def __init__(self, messages_per_second: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = messages_per_second
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()
        """By sender, when what it sent would have been sent at this pace."""

    def wait_seconds(self, sender: str) -> int:
        """Whole seconds until this sender may send again; 0: now."""
        if self._rate is None:
            return 0
        ahead = self._due.get(sender, 0.0) - self._clock()
        return math.ceil(ahead - 1.0) if ahead > 1.0 else 0

    def count(self, sender: str, messages: int) -> None:
        """It sent so many."""
        if self._rate is None:
            return
        due = max(self._due.get(sender, 0.0), self._clock()) + messages / self._rate
        self._due[sender] = due
        self._due.move_to_end(sender)
        while len(self._due) > MAX_SENDERS:
            self._due.popitem(last=False)


class Busy(Exception):
    """More is being taken than there is memory for."""


class Room:
    """Bytes that requests hold until they are on the disk."""

    def __init__(self, limit: int = IN_FLIGHT_BYTES) -> None:
        self._limit = limit
        self.held = 0

    def share(self) -> Share:
        """What one request holds, given back when its block ends."""
        return Share(self)

    def change(self, size: int) -> None:
        """Take so much more.

        Raises:
            Busy: there is not as much.
        """
        if size > 0 and self.held + size > self._limit:
            raise Busy
        self.held += size


class Share:
    """One request's part of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.change(-self._held)
        self._held = 0

    def take(self, size: int) -> None:
        """Hold so much more. Raises Busy."""
        self._room.change(size)
        self._held += size
