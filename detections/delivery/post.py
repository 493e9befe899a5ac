"""The post room: takes sealed alert steps in order and sends each route what is meant for it, at least once.

How far a route has got lies in one small file for each, written before anything is forgotten: after a crash a
message may go out twice, under the same key. A route that fails waits longer each time and stops no other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from detections.alerting.alert import ENGINE_OUTCOMES, WITHDRAWN
from detections.delivery.forms import digest, message
from detections.delivery.routes import Route
from detections.delivery.senders import Sender, read_secret, sender_of
from detections.retries import Retries
from ledger.errors import OutsideError
from ledger.format.state import ENGINE_TOPIC

OLD: Final = timedelta(hours=24)
"""What happened longer before it was sealed goes out in one digest."""
LONGEST_WAIT: Final = 300.0
MAX_WAITING: Final = 10_000
"""Alerts that wait for one route; more are told by a count alone."""
MAX_SENT: Final = 100_000
"""Alerts of which a route remembers that it sent them, for their withdrawal."""

log = structlog.get_logger()


@dataclass
class _Desk:
    """One route: what waits for it, what it was sent, how far it has got."""

    route: Route
    sender: Sender
    file: Path
    cursor: int
    routing_key: str | None = None
    waiting: dict[str, dict[str, Any]] = field(default_factory=dict)
    old: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: dict[str, str] = field(default_factory=dict)
    retries: Retries = field(default_factory=lambda: Retries(LONGEST_WAIT))

    def take(self, step: dict[str, Any], sealed_at: datetime) -> None:
        """Let a step wait, in place of an earlier one of its alert."""
        alert_id = step["alert_id"]
        if step["outcome"] == WITHDRAWN:
            self.old.pop(alert_id, None)
            self.waiting.pop(alert_id, None)
            # It goes wherever its alert went, and nowhere else.
            if alert_id in self.sent:
                self.waiting[alert_id] = step
            return
        if self.sent.get(alert_id) == step["event_id"] or not self.route.takes(
            _tenant(step), step["severity"]
        ):
            return
        old = sealed_at - step["last_seen"] > OLD
        place = self.old if old and alert_id not in self.sent else self.waiting
        if len(place) < MAX_WAITING or alert_id in place:
            place[alert_id] = step

    def ready(self, now: datetime) -> list[dict[str, Any]]:
        """What is to be sent now."""
        quiet = self.route.quiet
        return [
            one for one in self.waiting.values() if quiet is None or not quiet.holds(now, one["severity"])
        ]

    def keep(self) -> None:
        """Write down how far it has got: all before `cursor` but what still waits."""
        while len(self.sent) > MAX_SENT:
            del self.sent[next(iter(self.sent))]
        value = {"cursor": self.cursor, "sent": self.sent}
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(value), encoding="utf-8")
        fresh.replace(self.file)


class PostRoom:
    """All routes of one engine."""

    def __init__(self, routes: Iterable[Route], folder: Path, head: int) -> None:
        """`folder` keeps the cursors; a route that is new begins at `head`: what lies before is not sent."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._desks = [_desk(route, folder, head) for route in routes]
        self._seen = min((one.cursor for one in self._desks), default=head)

    @property
    def cursor(self) -> int:
        """The entry from which on steps are wanted."""
        return self._seen

    def take(self, index: int, sealed_at: datetime, steps: Iterable[Mapping[str, Any]]) -> None:
        """The engine's steps of entry `index`, in order; entries come in order."""
        for step in steps:
            if step.get("topic") != ENGINE_TOPIC or step.get("outcome") not in ENGINE_OUTCOMES:
                continue
            attributes = json.loads(step.get("attributes") or "{}")
            if step.get("exercise") or attributes.get("rule_state") == "staging":
                continue
            for desk in self._desks:
                if index >= desk.cursor:
                    desk.take(dict(step), sealed_at)
        self._seen = index + 1

    def send(self, now: datetime) -> int:
        """Send what is due; how many messages left."""
        count = 0
        for desk in self._desks:
            if not desk.retries.due(now.timestamp()):
                continue
            try:
                count += self._send(desk, now)
                desk.retries.worked()
            except OutsideError as error:
                wait = desk.retries.failed(now.timestamp())
                log.warning("a route failed", route=desk.route.name, error=error.message, wait_seconds=wait)
        return count

    def waiting(self) -> dict[str, int]:
        """By route, how many alerts wait."""
        return {desk.route.name: len(desk.waiting) + len(desk.old) for desk in self._desks}

    def close(self) -> None:
        """Close every connection."""
        for desk in self._desks:
            desk.sender.close()

    def _send(self, desk: _Desk, now: datetime) -> int:
        count = 0
        if desk.old:
            steps = [*desk.old.values()]
            key = f"digest/{steps[0]['event_id']}/{len(steps)}"
            desk.sender.send(key, digest(desk.route, steps), now.timestamp())
            desk.sent |= {one["alert_id"]: one["event_id"] for one in steps}
            desk.old.clear()
            count += 1
        for step in desk.ready(now):
            body = message(desk.route, step, desk.routing_key)
            desk.sender.send(step["event_id"], body, now.timestamp())
            del desk.waiting[step["alert_id"]]
            desk.sent[step["alert_id"]] = step["event_id"]
            count += 1
        # What waits is read again after a crash, and what was sent of it is known.
        moved = not desk.waiting and desk.cursor != self._seen
        if moved:
            desk.cursor = self._seen
        if moved or count:
            desk.keep()
        return count


def _desk(route: Route, folder: Path, head: int) -> _Desk:
    file = folder / f"{route.name}.json"
    key = None if route.routing_key_file is None else read_secret(route.routing_key_file).decode()
    desk = _Desk(route, sender_of(route), file, head, key)
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        desk.cursor, desk.sent = int(value["cursor"]), dict(value["sent"])
    except FileNotFoundError:
        desk.keep()
    except (ValueError, KeyError, TypeError):
        log.warning("a route's cursor could not be read: it begins anew", route=route.name)
    return desk


def _tenant(step: Mapping[str, Any]) -> str | None:
    tenant: str | None = step.get("tenant")
    return tenant
