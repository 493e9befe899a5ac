"""What rules would have found over a ledger as of a checkpoint, held against what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from xml.sax.saxutils import escape, quoteattr

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from detections.alerting.alert import WITHDRAWN
from detections.rule_report import rules_in_force
from detections.sealed_log import SealedLog
from detections.watch import last_steps
from ledger.errors import UsageError
from ledger.format.manifest import with_instants
from ledger.reader import Ledger
from ledger.settings.yaml_file import read_yaml


class Expectation(BaseModel):
    """How many alerts of a rule, of one key if it is given, must stand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str
    key: list[str | None] | None = None
    severity: str | None = None
    at_least: int | None = Field(default=None, ge=0)
    at_most: int | None = Field(default=None, ge=0)
    exactly: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if self.at_least is None and self.at_most is None and self.exactly is None:
            raise ValueError("say at_least, at_most or exactly")
        return self

    def covers(self, alert: dict[str, Any]) -> bool:
        """Whether an alert counts for this one."""
        return (
            alert["rule_id"] == self.rule
            and (self.key is None or orjson.loads(alert["alert_key"]) == self.key)
            and (self.severity is None or alert["severity"] == self.severity)
        )

    def problem(self, count: int) -> str | None:
        """What is wrong with so many alerts; None where nothing is."""
        for bad, words in (
            (self.exactly is not None and count != self.exactly, f"exactly {self.exactly}"),
            (self.at_least is not None and count < self.at_least, f"at least {self.at_least}"),
            (self.at_most is not None and count > self.at_most, f"at most {self.at_most}"),
        ):
            if bad:
                return f"{self.name}: {words} expected, {count} found"
        return None

    @property
    def name(self) -> str:
        """What a report calls it."""
        key = "" if self.key is None else f" {orjson.dumps(self.key).decode()}"
        return f"{self.rule}{key}{'' if self.severity is None else f' {self.severity}'}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A backtest's alerts, and each expectation with what is wrong with it."""

    alerts: list[dict[str, Any]]
    judged: list[tuple[str, str | None]]

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return all(problem is None for _, problem in self.judged)

    def lines(self) -> list[str]:
        """What is wrong, line by line."""
        return [problem for _, problem in self.judged if problem is not None]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "alerts": self.alerts, "passed": self.passed,
            "expectations": [{"name": name, "problem": problem} for name, problem in self.judged],
        }  # fmt: skip

    def junit(self) -> str:
        """As JUnit XML: one test case for each expectation."""
        failed = sum(problem is not None for _, problem in self.judged)
        cases = [
            f'  <testcase classname="backtest" name={quoteattr(name)}'
            + ("/>" if problem is None else f"><failure>{escape(problem)}</failure></testcase>")
            for name, problem in self.judged
        ]
        head = f'<testsuite name="backtest" tests="{len(self.judged)}" failures="{failed}">'
        return "\n".join(['<?xml version="1.0" encoding="UTF-8"?>', head, *cases, "</testsuite>", ""])


def backtest(
    ledger: Ledger, rules: Path | None, *, at: int | None = None, since: str | None = None,
    until: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The last step of every alert that would stand, by time and key. Nothing is sealed."""
    low, high = _time(since), _time(until)
    size = ledger.size if at is None else at
    if at is not None:
        ledger.committed(at)  # says so where something of it is gone
    log = SealedLog.of(ledger)
    timeline = log.timeline(size)
    if rules is not None or not timeline.spans("rules"):
        timeline.sealed.pop("rules", None)
        timeline.set("rules", rules_in_force(ledger, rules))
    steps = last_steps(timeline, log, log.steps(0, size))
    found = [step for step in steps if step["outcome"] != WITHDRAWN]
    chosen = [
        one for one in found
        if (low is None or one["last_seen"] >= low) and (high is None or one["first_seen"] < high)
    ]  # fmt: skip
    chosen.sort(key=lambda one: (one["first_seen"], one["rule_id"], one["alert_key"]))
    return [with_instants(one) for one in chosen]


def read_expectations(path: Path) -> list[Expectation]:
    """The expectations of a YAML file: a list under `expectations:`.

    Raises:
        UsageError: it is none.
    """
    document = read_yaml(path)
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("expectations"), list):
        raise UsageError(f"{path} holds no list under `expectations:`.", "docs/detections.md shows one.")
    found = []
    for number, one in enumerate(value["expectations"]):
        try:
            found.append(Expectation.model_validate(one))
        except ValidationError as error:
            at = ("expectations", number)
            raise document.refusal(error, "Correct that line.", at=at, whole="the expectation") from None
    return found


def judge_backtest(
    alerts: list[dict[str, Any]], wanted: Sequence[Expectation], budget: int | None
) -> Outcome:
    """Hold alerts against what was expected; `budget` bounds those that nothing names."""
    judged = [(one.name, one.problem(sum(map(one.covers, alerts)))) for one in wanted]
    if budget is not None:
        rest = sum(not any(one.covers(alert) for one in wanted) for alert in alerts)
        over = f"{rest} alerts that nothing expects, and {budget} are allowed" if rest > budget else None
        judged.append(("budget", over))
    return Outcome(alerts, judged)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or (time.tzinfo is None and "T" in text):
        raise UsageError(f"{text!r} is no time with an offset.", "Write it as 2026-11-16T10:00:00Z.")
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
