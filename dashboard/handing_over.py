"""The way of what people do to the intake: answered when durable; what they looked at in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from dashboard.serving import is_loopback
from ledger.errors import OutsideError, UsageError

MAX_BUFFERED: Final = 10_000
"""Views that wait for an intake; when so many do, no further page is shown."""
BATCH: Final = 500
BATCH_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 10.0
_STEPS_TOLD: Final = 2_000


def check_address(url: str) -> None:
    """Raise UsageError for an address to which no token should go."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or parts.hostname is None or not is_loopback(parts.hostname):
        raise UsageError(
            f"{url!r} is no address of an intake: others could read what goes there.",
            "Use https://…, or http:// on this machine alone.",
        )


def read_token(path: Path) -> str:
    """The first token in a file. Raises UsageError where there is none."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"The token in {path} cannot be read.", "Correct --intake-token-file.") from None
    for line in lines:
        if line.strip() and not line.startswith("#"):
            return line.strip()
    raise UsageError(f"{path} holds no token.", "Write the one that the intake knows into it.")


@dataclass(slots=True)
class Intake:
    """One intake at `url`, shared by all sessions."""

    url: str
    token: str
    transport: httpx.BaseTransport | None = None
    _views: deque[dict[str, Any]] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _saved: deque[str] = field(default_factory=lambda: deque(maxlen=_STEPS_TOLD))
    _client: httpx.Client = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        self._client = httpx.Client(transport=self.transport, timeout=TIMEOUT_SECONDS, headers=headers)
        self._thread = threading.Thread(target=self._run, name="access", daemon=True)
        self._thread.start()

    def hand_over(self, events: Sequence[dict[str, Any]]) -> None:
        """Hand events over; returns when they are durable.

        Raises:
            OutsideError: the intake cannot be reached or does not take them.
        """
        try:
            # One message a line, so that one is never refused for another's sake.
            answer = self._client.post(
                f"{self.url.rstrip('/')}/events",
                content=b"".join(orjson.dumps(event) + b"\n" for event in events),
                headers={"Content-Type": "application/x-ndjson"},
            )
        except httpx.HTTPError as error:
            raise OutsideError(
                f"What you did cannot be saved: the intake does not answer ({type(error).__name__}).",
                "Nothing was changed; try again when it is back.",
            ) from None
        if not answer.is_success:
            raise OutsideError(
                f"What you did cannot be saved: the intake answers {answer.status_code}.",
                "Nothing was changed; tell the platform team.",
            )
        with self._lock:
            self._saved.extend(event["event_id"] for event in events)

    def looked(self, event: dict[str, Any]) -> None:
        """Note that somebody looked at something. Raises OutsideError where too much waits to be noted."""
        with self._lock:
            if len(self._views) >= MAX_BUFFERED:
                raise OutsideError(
                    "Who looks at what cannot be recorded: the intake has not answered for long.",
                    "No page is shown until it does; tell the platform team.",
                )
            self._views.append(event)
        self._wake.set()

    def saved(self, event_id: str) -> bool:
        """Whether an event was taken by the intake, sealed or not."""
        with self._lock:
            return event_id in self._saved

    def close(self) -> None:
        """Hand over what waits, once, and end."""
        self._ended.set()
        self._wake.set()
        self._thread.join(TIMEOUT_SECONDS)
        self._client.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wake.wait()
            # What comes within two seconds goes together.
            self._ended.wait(BATCH_SECONDS)
            self._wake.clear()
            self._send_views()

    def _send_views(self) -> None:
        while True:
            with self._lock:
                batch = [self._views[number] for number in range(min(BATCH, len(self._views)))]
            if not batch:
                return
            try:
                self.hand_over(batch)
            except OutsideError:
                self._wake.set()  # again with the next batch
                return
            with self._lock:
                for _ in batch:
                    self._views.popleft()
