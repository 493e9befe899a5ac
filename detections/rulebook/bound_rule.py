"""A rule whose query was checked and bound: what it asks for, and which columns its answer has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

import duckdb

from detections.durations import duration_text
from detections.recall.memory import END, START, Bounds, Memory
from detections.recall.views import BOUNDLESS, RESPONDING, SIGHTINGS, VIEWS
from detections.rulebook.rule import Rule
from detections.rulebook.rule_sql import QueryFacts, check_rule_query
from ledger.errors import UsageError
from ledger.events import SQL_TYPES
from ledger.query.sql_guard import first_line

OPTIONAL: Final = {
    "completes": "BOOLEAN",
    "deadline": "BOOLEAN",
    "severity": "VARCHAR",
    "reason": "VARCHAR",
    "revoke": "VARCHAR",
}
_SEEN: Final = frozenset(one.name for one in SIGHTINGS)


@dataclass(frozen=True)
class BoundRule:
    """A rule that can run. `answer` are the columns of its query's answer."""

    rule: Rule
    facts: QueryFacts
    answer: frozenset[str]

    @property
    def counts(self) -> bool:
        """Whether its answer also holds rows that only support a hit (`completes`)."""
        return "completes" in self.answer

    @property
    def columns(self) -> frozenset[str]:
        """The names that it needs of the rows' columns."""
        return self.facts.columns | (RESPONDING if self.rule.respond is not None else frozenset())

    @property
    def reach(self) -> timedelta | None:
        """How long after a row it may still decide hits. None: without end."""
        rule = self.rule
        # What is revoked for an alert hides denies from then on.
        if self.facts.views & BOUNDLESS or rule.respond is not None:
            return None
        if self.facts.views & _SEEN:
            return max(rule.window, rule.history.look_back) if rule.history is not None else None
        return rule.window

    @property
    def has_deadlines(self) -> bool:
        """Whether some of its hits are fired by the clock: their time is a deadline, not that of a row."""
        return "deadline" in self.answer

    @property
    def support(self) -> timedelta:
        """How long before a hit rows may lie that support it."""
        return self.rule.window if self.counts else timedelta(0)

    def select(self) -> str:
        """SQL for the answer in one form, whatever columns the query gives."""
        parts = [
            f"[{', '.join(f'CAST({name} AS VARCHAR)' for name in self.rule.key)}] AS key",
            "time",
            "CAST(evidence AS VARCHAR[]) AS evidence" if self._lists else "[evidence] AS evidence",
        ]
        for name, kind in OPTIONAL.items():
            missing = {"completes": "true", "deadline": "false"}.get(name, f"CAST(NULL AS {kind})")
            given = f"coalesce({name}, false)" if kind == "BOOLEAN" else name
            parts.append(f"{given if name in self.answer else missing} AS {name}")
        return f"SELECT {', '.join(parts)} FROM (\n{self.rule.query}\n) AS answer"

    @property
    def _lists(self) -> bool:
        return "evidence[]" in self.answer


def bind(rule: Rule) -> BoundRule:
    """Check a rule's query and bind it against empty views.

    Raises:
        UsageError: it is not of the subset, is wrong, or does not answer with what an alert needs.
    """
    try:
        facts = check_rule_query(rule.query, duckdb.connect(":memory:"), VIEWS)
    except UsageError as error:
        raise UsageError(f"{rule.id}: {error.message}", error.remedy) from None
    values = rule.values()
    if unknown := facts.parameters - values.keys():
        raise UsageError(f"{rule.id}: the query asks for ${min(unknown)}.", "Give it a default in params.")
    bounds = Bounds(START, END, None)
    with _whole_memory().frame(bounds, facts.views) as cursor:
        try:
            given = {name: values[name] for name in facts.parameters}
            described = cursor.execute(f"DESCRIBE {rule.query}", given or None).fetchall()
        except duckdb.Error as error:
            raise UsageError(f"{rule.id}: the query is wrong: {first_line(error)}.", "Correct it.") from None
    answer = {str(row[0]).lower(): str(row[1]).upper() for row in described}
    _check_answer(rule, answer)
    columns = {*answer, *(("evidence[]",) if answer["evidence"].endswith("[]") else ())}
    return BoundRule(rule, facts, frozenset(columns))


@cache
def _whole_memory() -> Memory:
    """Every view with every column, and no rows."""
    return Memory(frozenset(SQL_TYPES), VIEWS)


def _check_answer(rule: Rule, answer: dict[str, str]) -> None:
    for name in (*rule.key, "time", "evidence"):
        if name not in answer:
            raise UsageError(f"{rule.id}: the query's answer has no column {name}.", "Select it.")
    wrong = {name: kind for name, kind in OPTIONAL.items() if answer.get(name, kind) not in (kind, '"NULL"')}
    if answer["time"] != "TIMESTAMP WITH TIME ZONE":
        wrong["time"] = "TIMESTAMP WITH TIME ZONE"
    if answer["evidence"] not in ("VARCHAR", "VARCHAR[]"):
        wrong["evidence"] = "VARCHAR or VARCHAR[]"
    for name, kind in wrong.items():
        raise UsageError(f"{rule.id}: the column {name} must be {kind}, not {answer[name]}.", "Cast it.")
    if extra := answer.keys() - {*rule.key, "time", "evidence", *OPTIONAL}:
        raise UsageError(f"{rule.id}: the answer's column {min(extra)} means nothing here.",
                         f"Use {', '.join(OPTIONAL)}, or leave it out.")  # fmt: skip
    if rule.respond is not None and "revoke" not in answer:
        raise UsageError(f"{rule.id}: a rule that responds answers with `revoke`, the target.", "Select it.")
    if "completes" in answer and not rule.window:
        raise UsageError(
            f"{rule.id}: rows support a hit within the window, and it is {duration_text(rule.window)}.",
            "Give the rule a window.",
        )
