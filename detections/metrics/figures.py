"""Figures by period: each with its numerator, denominator and sample size, its target and the change."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from statistics import median
from typing import Any, Final

import pyarrow as pa

from detections.configs.timeline import Timeline
from detections.metric_catalogue import METRICS, Metric
from detections.metrics.by_day import Answers, literals
from detections.metrics.gaps import Gap, Gaps
from detections.metrics.kept_days import KeptDays
from detections.metrics.periods import By, Period, period_of
from ledger.format.manifest import instant
from ledger.reader import Ledger

DIMENSIONS: Final = ("tenant", "environment", "source")
COMPLETENESS: Final = "decision-log-completeness"
_COUNTED: Final = ("numerator", "denominator")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows count, and how they are grouped. A dimension that is None takes all."""

    by: By = "week"
    tz: tzinfo = UTC
    tenant: str | None = None
    environment: str | None = None
    source: str | None = None
    group: str | None = None

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of a metric's answer counts."""
        return all(getattr(self, name) in (None, row[name]) for name in DIMENSIONS)


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric in one period. `value` None: no data."""

    metric: str
    period: str
    start: datetime
    end: datetime
    group: str | None
    value: float | None
    numerator: float | None
    denominator: float | None
    sample: int
    unit: str
    target: float
    met: bool | None
    previous: float | None = None
    change: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For machines; times in the ledger's spelling."""
        return {**asdict(self), "start": instant(self.start), "end": instant(self.end)}


def figures(
    ledger: Ledger, periods: Sequence[Period], choice: Choice, *, timeline: Timeline,
    targets: Mapping[str, float] | None = None, at: int | None = None, metrics: Sequence[Metric] = METRICS,
    kept: KeptDays | None = None, ask: Callable[[str], pa.Table] | None = None,
) -> list[Figure]:  # fmt: skip
    """Every metric in every period (the first one only gives the change of the second).

    `kept` holds what was worked out of days before; without it everything is counted from the rows. `ask`
    answers SQL in place of the ledger's own engine.
    """
    answers = Answers(ledger, at, settings_of(timeline), kept=kept, ask=ask)
    found: list[Figure] = []
    for metric in metrics:
        rows = _rows(answers, metric, periods, choice)
        target = (targets or {}).get(metric.name, metric.target)
        for group, own in _groups(rows, choice.group):
            found += _with_changes(_figures(metric, own, periods, choice, group, target))
    told = [one for one in found if one.metric == COMPLETENESS]
    if told and ledger.whole and ask is None and _tells_gaps(choice):
        _add_gaps(told, answers, choice)
    answers.flush()
    return found


def _tells_gaps(choice: Choice) -> bool:
    """Whether what is missing can be told: a source numbers the events of all tenants in one line."""
    return choice.tenant is None and choice.environment is None and choice.group in (None, "source")


def _add_gaps(found: Iterable[Figure], answers: Answers, choice: Choice) -> None:
    """What is missing of the sources that each figure is about, beside it."""
    gaps = Gaps(answers)
    known: dict[tuple[date, date], dict[str, Gap]] = {}
    for one in found:
        if any(at.astimezone(UTC).time() != time.min for at in (one.start, one.end)):
            continue  # numbers are looked at by UTC days
        days = (one.start.date(), one.end.date())
        if days not in known:
            known[days] = gaps.between(*days)
        wanted = one.group if choice.group == "source" else choice.source
        own = [gap for gap in known[days].values() if wanted in (None, gap.source)]
        one.details["missing"] = _total(gap.provable for gap in own)
        one.details["missing_estimated"] = _total(gap.estimated for gap in own)


def _total(counts: Iterable[int | None]) -> int | None:
    told = [one for one in counts if one is not None]
    return sum(told) if told else None


def _rows(
    answers: Answers, metric: Metric, periods: Sequence[Period], choice: Choice
) -> list[dict[str, Any]]:
    if metric.shape not in ("ratio", "rate"):
        return [row for row in answers.items(metric.name) if choice.takes(row)]
    only = {name: getattr(choice, name) for name in DIMENSIONS if getattr(choice, name) is not None}
    span = (min(one.start for one in periods), max(one.end for one in periods))
    return answers.slots(metric.name, (*_COUNTED, *metric.details), span, only, choice.group)


def _figures(  # noqa: PLR0917  # one line of a table
    metric: Metric, rows: list[dict[str, Any]], periods: Sequence[Period], choice: Choice,
    group: str | None, target: float,
) -> list[Figure]:  # fmt: skip
    if metric.name == "exception-half-life":
        return [_half_life(metric, rows, period, group, target) for period in periods]
    by_period: dict[Period, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_period[period_of(row.get("slot") or row["time"], choice.by, choice.tz)].append(row)
    if metric.shape == "seconds":
        return [_revocation(metric, by_period[period], period, group, target) for period in periods]
    return [_ratio(metric, by_period[period], period, group, target) for period in periods]


def _ratio(
    metric: Metric, rows: Iterable[Mapping[str, Any]], period: Period, group: str | None, target: float
) -> Figure:
    rows = list(rows)
    top, bottom = (int(sum(row[name] for row in rows)) for name in _COUNTED)
    scale = 10_000 if metric.shape == "rate" else 1
    value = top * scale / bottom if bottom else None
    details: dict[str, Any] = {name: int(sum(row[name] for row in rows)) for name in metric.details}
    return _figure(metric, period, group, target, value, (top, bottom), bottom, details)


def _revocation(
    metric: Metric, rows: Sequence[Mapping[str, Any]], period: Period, group: str | None, target: float
) -> Figure:
    effective = sorted(row["last_use_seconds"] for row in rows if row["state"] == "effective")
    blocks = sorted(row["first_block_seconds"] for row in rows if row["first_block_seconds"] is not None)
    details = {
        "p95": _percentile(effective, 0.95),
        "first_block_median": median(blocks) if blocks else None,
        "first_block_p95": _percentile(blocks, 0.95),
        "open": sum(row["state"] == "open" for row in rows),
        "censored": sum(row["state"] == "censored" for row in rows),
        "open_targets": [row["target"] for row in rows if row["state"] == "open"][:100],
    }
    value = median(effective) if effective else None
    return _figure(metric, period, group, target, value, (None, None), len(effective), details)


def _half_life(
    metric: Metric, rows: Iterable[Mapping[str, Any]], period: Period, group: str | None, target: float
) -> Figure:
    ages: list[float] = []
    overdue: list[str] = []
    for row in rows:
        terms = [term for term in row["terms"] or [] if term["since"] < period.end]
        if row["opened_at"] >= period.end or not terms:
            continue
        expires, due = terms[-1]["expires_at"], terms[-1]["review_due_at"]
        closed = row["closed_at"] is not None and row["closed_at"] < period.end
        reviewed = any(one < period.end and one >= terms[-1]["since"] for one in row["reviewed_at"] or [])
        expired = expires is not None and expires <= period.end
        if not closed and not expired:
            ages.append((period.end - row["opened_at"]) / timedelta(days=1))
        if not reviewed and ((due is not None and due <= period.end) or (expired and not closed)):
            overdue.append(row["exception_id"])
    details = {"overdue": len(overdue), "overdue_exceptions": overdue[:100]}
    value = median(ages) if ages else None
    return _figure(metric, period, group, target, value, (None, None), len(ages), details)


def _figure(  # noqa: PLR0917  # the parts of one record
    metric: Metric, period: Period, group: str | None, target: float, value: float | None,
    parts: tuple[float | None, float | None], sample: int, details: dict[str, Any],
) -> Figure:  # fmt: skip
    met = None if value is None else value >= target if metric.better == "higher" else value <= target
    return Figure(
        metric.name, period.name, period.start, period.end, group, value, *parts, sample, metric.unit, target,
        met, details=details,
    )  # fmt: skip


def _with_changes(found: Sequence[Figure]) -> list[Figure]:
    done: list[Figure] = []
    for number, one in enumerate(found):
        previous = found[number - 1].value if number else None
        change = None if previous is None or one.value is None else one.value - previous
        done.append(replace(one, previous=previous, change=change))
    return done


def _groups(rows: list[dict[str, Any]], group: str | None) -> list[tuple[str | None, list[dict[str, Any]]]]:
    if group is None:
        return [(None, rows)]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row[group] or "none"].append(row)
    return sorted(found.items())


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile: a value that was seen."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def settings_of(timeline: Timeline) -> str:
    """What was sealed about tiers, sources and drills, as CTEs of literals."""
    sources = [(name, one.agentic, since, until) for name, one, since, until in timeline.source_rows()]
    return ",\n".join(
        (
            literals("tiers", ("action", "impact", "since", "until"), timeline.tier_rows()),
            literals("agentic_sources", ("source", "agentic", "since", "until"), sources),
            literals("agent_patterns", ("source", "principal", "since", "until"), timeline.agent_rows()),
            literals("drills", ("id", "source", "begins_at", "ends_at"), timeline.drill_rows()),
        )
    )
