"""Alerts as they are sealed: one for each rule, key and bucket, each step an event of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import rfc8785

from detections.hits import COMMON, MAX_EVIDENCE, Found
from detections.rulebook.rule import Rule, rank
from ledger.format.manifest import instant
from ledger.format.state import ENGINE_TOPIC

SOURCE: Final = "decision-ledger"
FIRED, UPDATED, CONFIRMED, WITHDRAWN = "fired", "updated", "confirmed", "withdrawn"
ENGINE_OUTCOMES: Final = (FIRED, UPDATED, CONFIRMED, WITHDRAWN)


@dataclass(frozen=True, slots=True)
class Answer:
    """An alert as it should stand: its rule, what was found, and whether only late rows say so."""

    rule: Rule
    found: Found
    late: bool = False

    @property
    def alert_id(self) -> str:
        """The first 32 hex digits of the SHA-256 of [rule_id, alert_key, window_start] in RFC 8785 form."""
        return alert_id(self.rule.id, alert_key(self.found.key), self.found.window_start)

    @property
    def content(self) -> str:
        """What two answers are compared by: version, count, severity, evidence, in short."""
        found = self.found
        value: list[Any] = [
            self.rule.rule_version, found.count, found.severity, instant(found.first_seen),
            instant(found.last_seen), list(found.evidence), self.late, found.common,
        ]  # fmt: skip
        return hashlib.sha256(rfc8785.dumps(value)).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Sealed:
    """The last step that an engine sealed of an alert. `steps` is how many there are."""

    alert_id: str
    rule_id: str
    key: str
    window_start: datetime
    outcome: str
    count: int
    severity: str
    content: str
    steps: int

    @property
    def stands(self) -> bool:
        """Whether the alert was not withdrawn."""
        return self.outcome != WITHDRAWN


def alert_key(key: Iterable[str | None]) -> str:
    """The key as it is stored: an RFC 8785 array."""
    return rfc8785.dumps(list(key)).decode()


def alert_id(rule_id: str, key: str, window_start: datetime) -> str:
    """Which alert it is, for everyone who finds it."""
    return hashlib.sha256(rfc8785.dumps([rule_id, key, instant(window_start)])).hexdigest()[:32]


def merged(one: Answer, other: Answer) -> Answer:
    """Two versions of a rule found the same alert: its version is that of the first completing row."""
    first, second = sorted((one, other), key=lambda a: (a.found.first_hit, a.rule.version))
    a, b = first.found, second.found
    evidence = tuple(dict.fromkeys((*a.evidence, *b.evidence)))
    small = len(a.evidence) == a.count and len(b.evidence) == b.count
    found = replace(
        a, count=len(evidence) if small else max(a.count, b.count), evidence=evidence[:MAX_EVIDENCE],
        severity=max(a.severity, b.severity, key=rank),
        first_seen=min(a.first_seen, b.first_seen), last_seen=max(a.last_seen, b.last_seen),
        common={name: value for name, value in a.common.items() if b.common.get(name) == value},
        tenants=max(a.tenants, b.tenants), revoke=tuple(sorted({*a.revoke, *b.revoke})),
        exercise=a.exercise if a.exercise == b.exercise else None, trusted=a.trusted and b.trusted,
    )  # fmt: skip
    return Answer(first.rule, found, first.late and second.late)


def next_outcome(answer: Answer | None, sealed: Sealed | None, *, settled: bool) -> list[str]:
    """Which steps have to be sealed, so that what is sealed says what the rows say."""
    if answer is None:
        return [WITHDRAWN] if sealed is not None and sealed.stands else []
    if sealed is None or not sealed.stands:
        return [FIRED, CONFIRMED] if settled else [FIRED]
    changed = sealed.content != answer.content
    if settled:
        return [CONFIRMED] if changed or sealed.outcome != CONFIRMED else []
    if sealed.outcome == CONFIRMED:
        return [UPDATED] if changed else []
    grown = answer.found.count >= 2 * sealed.count or answer.found.severity != sealed.severity
    return [UPDATED] if changed and grown else []


def may_respond(answer: Answer, outcome: str) -> bool:
    """Whether what the alert names may be taken back now: nothing that may still prove wrong, or forged."""
    rule, found = answer.rule, answer.found
    certain = outcome == CONFIRMED or rule.settle is not None
    return (
        rule.respond is not None and certain and found.trusted and not answer.late and found.exercise is None
    )


def event(
    answer: Answer, outcome: str, step: int, *, now: datetime, size: int, state: str, follows: str | None
) -> dict[str, Any]:
    """One engine step as an event. `follows` is the unresolved alert that this one goes on from."""
    rule, found = answer.rule, answer.found
    attributes: dict[str, Any] = {
        "content": answer.content, "title": rule.title, "runbook": f"docs/runbooks/{rule.runbook}",
        "rule_state": state,
    }  # fmt: skip
    if answer.late:
        attributes["late"] = True
    if found.tenants > 1:
        attributes["tenants"] = found.tenants
    if found.revoke:
        attributes["revoke"] = list(found.revoke[:100])
    if state == "active" and may_respond(answer, outcome):
        attributes["respond"] = True
    value: dict[str, Any] = {
        "event_id": f"{answer.alert_id}/e{step}", "kind": "alert", "time": now.astimezone(UTC),
        "source": SOURCE, **found.common, "reason": found.reason, "outcome": outcome,
        "target": None if follows is None else f"alert:{follows}",
        "rule_id": rule.id, "rule_version": rule.rule_version, "alert_id": answer.alert_id,
        "alert_key": alert_key(found.key), "window_start": found.window_start, "severity": found.severity,
        "count": found.count, "first_seen": found.first_seen, "last_seen": found.last_seen,
        "checkpoint_size": size, "evidence": list(found.evidence), "exercise": found.exercise,
        "attributes": rfc8785.dumps(attributes).decode(), "retention": "standard", "topic": ENGINE_TOPIC,
    }  # fmt: skip
    return {name: one for name, one in value.items() if one is not None}


def withdrawal(sealed: Sealed, last: Mapping[str, Any], *, now: datetime, size: int) -> dict[str, Any]:
    """The step that takes an alert back: what was said last, with no evidence left."""
    kept = {
        name: last[name]
        for name in (*COMMON, "rule_id", "rule_version", "alert_id", "alert_key", "window_start",
                     "severity", "first_seen", "last_seen", "exercise", "attributes")
        if last.get(name) is not None
    }  # fmt: skip
    return {
        **kept, "event_id": f"{sealed.alert_id}/e{sealed.steps}", "kind": "alert",
        "time": now.astimezone(UTC), "source": SOURCE, "outcome": WITHDRAWN, "count": 0,
        "checkpoint_size": size, "evidence": [], "retention": "standard", "topic": ENGINE_TOPIC,
    }  # fmt: skip
