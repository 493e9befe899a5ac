"""The responder: takes sealed alert steps, and asks once for each session or credential that they name.

It can do little harm: only what the engine marked (`attributes.respond`), never a principal, at most so many
an hour, nothing while the stop file is there. What waited then is dropped and not made up for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import structlog

from detections.alerting.alert import CONFIRMED, FIRED, UPDATED, WITHDRAWN
from detections.response.settings import ResponseSettings
from detections.response.transmitter import KINDS, Refused, Transmitter
from detections.retries import Retries
from ledger.errors import OutsideError
from ledger.format.state import ENGINE_TOPIC

OLD: Final = timedelta(hours=24)
"""What happened longer ago is answered by people."""
LONGEST_WAIT: Final = timedelta(hours=1)
"""An answer waits so long for its receiver, or for the hour's cap; then it is dropped."""
LONGEST_PAUSE: Final = 60.0
MAX_WAITING: Final = 1_000
MAX_TARGET_LETTERS: Final = 1_024
MAX_REVOKED: Final = 100_000
"""Targets that are remembered as revoked; the receiver counts an event once for ever."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Asked:
    """One target, and the alert that names it."""

    alert_id: str
    reason: str
    since: datetime


class Responder:
    """One engine's answers. `file` keeps how far it has got and what was revoked."""

    def __init__(self, settings: ResponseSettings, file: Path, head: int) -> None:
        """A responder that is new begins at `head`: what lies before is not answered."""
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = settings
        self._transmitter = Transmitter(settings)
        self._file = file
        self._cursor = head
        self._revoked: dict[str, int] = {}
        self._waiting: dict[str, _Asked] = {}
        self._retries = Retries(LONGEST_PAUSE)
        self._recall()
        self._seen = self._cursor

    @property
    def cursor(self) -> int:
        """The entry from which on steps are wanted."""
        return self._seen

    @property
    def revoked(self) -> Mapping[str, int]:
        """What was asked for, and when (seconds since 1970)."""
        return self._revoked

    def take(self, index: int, sealed_at: datetime, steps: Iterable[Mapping[str, Any]]) -> None:
        """The engine's steps of entry `index`, in order; entries come in order."""
        for step in steps:
            if step.get("topic") != ENGINE_TOPIC:
                continue
            if step.get("outcome") == WITHDRAWN:
                for target in [one for one, by in self._waiting.items() if by.alert_id == step["alert_id"]]:
                    del self._waiting[target]
                continue
            if step.get("outcome") in (FIRED, UPDATED, CONFIRMED) and sealed_at - step["last_seen"] <= OLD:
                self._note(step, sealed_at)
        self._seen = index + 1

    def send(self, now: datetime) -> int:
        """Ask for what is due; how many answers left."""
        self._drop_what_is_not_to_be(now)
        count = 0
        if self._retries.due(now.timestamp()):
            try:
                count = self._send(now)
                self._retries.worked()
            except OutsideError as error:
                pause = self._retries.failed(now.timestamp())
                log.warning("a revocation did not arrive", error=error.message, wait_seconds=pause)
        if not self._waiting and self._cursor != self._seen:
            self._cursor = self._seen
            self._keep()
        return count

    def waiting(self) -> int:
        """Targets that wait."""
        return len(self._waiting)

    def close(self) -> None:
        """Close the connection."""
        self._transmitter.close()

    def _note(self, step: Mapping[str, Any], sealed_at: datetime) -> None:
        attributes = json.loads(step.get("attributes") or "{}")
        if attributes.get("respond") is not True or step.get("exercise"):
            return
        for target in attributes.get("revoke", []):
            kind, _, name = str(target).partition(":")
            if kind not in KINDS or not 0 < len(name) <= MAX_TARGET_LETTERS:
                log.warning("this is not revoked by itself", target=target, alert=step["alert_id"])
            elif target in self._revoked or target in self._waiting:
                continue
            elif len(self._waiting) >= MAX_WAITING:
                log.warning("too many revocations wait", target=target, alert=step["alert_id"])
            else:
                reason = f"{step['rule_id']}: {step.get('reason') or attributes.get('title') or 'an alert'}"
                self._waiting[target] = _Asked(step["alert_id"], reason[:256], sealed_at)

    def _drop_what_is_not_to_be(self, now: datetime) -> None:
        stopped = self._settings.stop_file.exists()
        for target, asked in list(self._waiting.items()):
            if stopped or now - asked.since > LONGEST_WAIT:
                del self._waiting[target]
                why = "answers are stopped" if stopped else "it waited too long"
                log.warning("not revoked", target=target, alert=asked.alert_id, why=why)

    def _send(self, now: datetime) -> int:
        count = 0
        for target, asked in list(self._waiting.items()):
            if self._in_the_last_hour(now) >= self._settings.per_hour:
                log.warning("the hour's cap of revocations is reached", waiting=len(self._waiting))
                self._retries.pause(now.timestamp(), LONGEST_PAUSE)
                break
            try:
                self._transmitter.push(target, asked.alert_id, asked.reason, now.timestamp())
            except Refused as refused:
                log.error("the receiver refuses to revoke", target=target, why=str(refused))
                del self._waiting[target]
                continue
            # A crash in between asks once more, under the same id.
            self._revoked[target] = int(now.timestamp())
            del self._waiting[target]
            self._keep()
            log.info("revoked", target=target, alert=asked.alert_id)
            count += 1
        return count

    def _in_the_last_hour(self, now: datetime) -> int:
        hour_ago = now.timestamp() - 3_600
        return sum(1 for _ in takewhile(lambda at: at > hour_ago, reversed(self._revoked.values())))

    def _recall(self) -> None:
        try:
            value = json.loads(self._file.read_text(encoding="utf-8"))
            self._cursor = int(value["cursor"])
            self._revoked = {str(target): int(at) for target, at in value["revoked"].items()}
        except FileNotFoundError:
            self._keep()
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("what was revoked could not be read: it begins anew", file=str(self._file))

    def _keep(self) -> None:
        while len(self._revoked) > MAX_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"cursor": self._cursor, "revoked": self._revoked}), encoding="utf-8")
        fresh.replace(self._file)
