"""Which alerts are sealed, by what their last engine step says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from detections.alerting.alert import ENGINE_OUTCOMES, Sealed
from ledger.events import DASHBOARD_SOURCE
from ledger.format.state import ENGINE_TOPIC

TRIAGE_TOPIC: Final = "ledger:triage"
"""Where the steps that people take come from."""
CLOSED: Final = ("resolved", "dismissed")


class KnownAlerts:
    """Fed every engine step in seal order."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Sealed, dict[str, Any]]] = {}
        self._by_rule: dict[str, dict[str, None]] = {}
        self._closed: set[str] = set()

    def take(self, event: Mapping[str, Any]) -> None:
        """Let one sealed step count, where it comes from an engine or from triage."""
        outcome, topic = event.get("outcome"), event.get("topic")
        triage = topic == TRIAGE_TOPIC or event.get("source") == DASHBOARD_SOURCE
        if not event.get("alert_id") or not (triage or topic == ENGINE_TOPIC):
            return
        if (outcome in ENGINE_OUTCOMES) != (topic == ENGINE_TOPIC):
            return
        if event.get("outcome") in CLOSED:
            self._closed.add(event["alert_id"])
        elif event.get("outcome") not in ENGINE_OUTCOMES:
            self._closed.discard(event["alert_id"])
        if event.get("outcome") not in ENGINE_OUTCOMES:
            return
        before = self._last.get(event["alert_id"])
        attributes = orjson.loads(event.get("attributes") or "{}")
        sealed = Sealed(
            event["alert_id"], event["rule_id"], event["alert_key"], event["window_start"], event["outcome"],
            event.get("count") or 0, event.get("severity") or "", attributes.get("content", ""),
            (before[0].steps if before is not None else 0) + 1,
        )  # fmt: skip
        slim = {name: value for name, value in event.items() if name != "evidence" and value is not None}
        self._last[sealed.alert_id] = (sealed, slim)
        self._by_rule.setdefault(sealed.rule_id, {})[sealed.alert_id] = None

    def take_all(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Let several count, in their order."""
        for one in events:
            self.take(one)

    def has(self, event: Mapping[str, Any]) -> bool:
        """Whether an engine's step counted already."""
        there = self._last.get(event.get("alert_id") or "")
        step = str(event.get("event_id") or "").rpartition("/e")[2]
        return there is not None and step.isdigit() and int(step) < there[0].steps

    def is_open(self, sealed: Sealed) -> bool:
        """Whether an alert stands and nobody has resolved or dismissed it."""
        return sealed.stands and sealed.alert_id not in self._closed

    def get(self, alert_id: str) -> Sealed | None:
        """What was sealed last of an alert."""
        found = self._last.get(alert_id)
        return None if found is None else found[0]

    def last(self, alert_id: str) -> dict[str, Any]:
        """The last engine step as an event, without its evidence."""
        return self._last[alert_id][1]

    def of_rule(self, rule_id: str, low: datetime, high: datetime) -> Iterator[Sealed]:
        """The alerts of a rule whose bucket begins in [low, high)."""
        for alert_id in self._by_rule.get(rule_id, ()):
            sealed = self._last[alert_id][0]
            if low <= sealed.window_start < high:
                yield sealed

    def unsettled(self, rule_id: str) -> Iterator[Sealed]:
        """The alerts of a rule that stand and were not confirmed."""
        for alert_id in self._by_rule.get(rule_id, ()):
            sealed = self._last[alert_id][0]
            if sealed.stands and sealed.outcome != "confirmed":
                yield sealed
