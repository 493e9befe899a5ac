"""Everything that a report says, counted from the rows of one size of the ledger, as plain data.

Sorted throughout, times as text, nothing of the wall clock: the same size gives the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any, Final

import orjson

from dashboard.day_memory import DayMemory
from dashboard.report.headline import headline
from dashboard.report.incidents import by_rule, cases, incident_row, incidents
from dashboard.report.week import Basis, basis_of
from detections.access_review import exceptions_at
from detections.alerting.standing import alerts_of, stands
from detections.configs.timeline import Timeline
from detections.metric_catalogue import BY_NAME
from detections.metrics.by_day import Answers
from detections.metrics.figures import Choice, Figure, figures, settings_of
from detections.metrics.gaps import Gap, Gaps
from detections.metrics.kept_days import KeptDays
from detections.metrics.periods import Period, before
from detections.sealed_log import SealedLog
from ledger.errors import UsageError
from ledger.format.manifest import Append, instant, parse_instant, with_instants
from ledger.query.evidence import present
from ledger.reader import Ledger

FORMAT: Final = "decision-ledger-report/1"
TREND_WEEKS: Final = 8
MAX_INCIDENTS: Final = 100
MAX_CASES: Final = 100
MAX_EXCEPTIONS: Final = 100
MAX_DENIED: Final = 20
MAX_SOURCES: Final = 200
MAX_EVIDENCE: Final = 5
"""Events that are listed for one incident, beside the alert itself."""
_OF_WEEK: Final = "time >= $1 AND time < $2"
_WINDOW: Final = f"""
SELECT count(*) AS events, min(time) AS first, max(time) AS last, count(DISTINCT tenant) AS tenants,
       count(*) FILTER (kind = 'decision') AS decisions, count(*) FILTER (decision = 'deny') AS denies,
       count(*) FILTER (decision = 'error') AS errors
FROM events WHERE {_OF_WEEK} AND kind NOT IN ('alert', 'case', 'access')
"""  # noqa: S608  # constants alone
_DENIED: Final = f"""
SELECT coalesce(delegated_actor, actor) AS principal, action, resource, reason, count(*) AS denies,
       count(DISTINCT tenant) AS tenants, max(time) AS last_seen,
       max_by(source || '#' || event_id, struct_pack(t := time, s := source, e := event_id)) AS event
FROM events WHERE {_OF_WEEK} AND decision = 'deny' AND kind IN ('decision', 'issuance') AND exercise IS NULL
GROUP BY ALL ORDER BY denies DESC, principal, action, resource, reason
"""  # noqa: S608  # constants alone
_SOURCES: Final = f"""
SELECT source, count(*) AS events, min(time) AS first_seen, max(time) AS last_seen
FROM events WHERE {_OF_WEEK} AND kind NOT IN ('alert', 'case', 'access') GROUP BY source ORDER BY source
"""  # noqa: S608  # constants alone


def weekly(ledger: Ledger, basis: Basis) -> dict[str, Any]:
    """The report on a week, as plain data; its tables are those of `report.tables`.

    The caller has verified the ledger: the report says so.

    Raises:
        UsageError: the ledger as of that size cannot be read any more.
    """
    week, size = basis.week, basis.size
    alerts = [one for one in alerts_of(ledger, at=size) if one["exercise"] is None]
    timeline = SealedLog.of(ledger).timeline(size)
    counted = DayMemory().of_tenants(None)  # each day from its rows, and once for all tables
    found = week_figures(ledger, week, size, timeline, kept=counted)
    grave = incidents(alerts, week)
    moved = cases(ledger, week, size)
    exceptions = [one for one in exceptions_at(ledger, week.end, at=size)
                  if one["state"] == "active" or one["overdue"]]  # fmt: skip
    denied = _rows(ledger, size, _DENIED, week)
    complete = _completeness(ledger, week, size, timeline, counted)
    gaps = Gaps(Answers(ledger, size, settings_of(timeline), kept=counted))
    missing = gaps.between(week.start.date(), week.end.date())
    sources = _sources(ledger, size, week, alerts, complete, gaps=missing)
    report: dict[str, Any] = {
        "format": FORMAT,
        "week": {"name": week.name, "start": instant(week.start), "end": instant(week.end)},
        "preliminary": basis.preliminary,
        "counted_at": _counted_at(ledger, size),
        "window": {**_rows(ledger, size, _WINDOW, week)[0], "lost_messages": _lost_messages(ledger, basis)},
        "verification": {"result": "verified", "entries": size},
        "metrics": [_metric(own) for own in found.values()],
        "alerts_by_rule": by_rule(alerts, week),
        "incidents": [incident_row(one) for one in grave[:MAX_INCIDENTS]],
        "cases": [with_instants(one) for one in moved[:MAX_CASES]],
        "exceptions": [with_instants(_exception(one)) for one in exceptions[:MAX_EXCEPTIONS]],
        "top_denied": denied[:MAX_DENIED],
        "sources": sources[:MAX_SOURCES],
        "restated": _restated(ledger, basis, timeline, counted),
        "totals": {"incidents": len(grave), "cases": len(moved), "exceptions": len(exceptions),
                   "top_denied": len(denied), "sources": len(sources)},
    }  # fmt: skip
    report["listed"] = _listed(ledger, report, {one["alert_id"]: one for one in grave})
    report["headline"] = headline(report)
    return report


def week_figures(
    ledger: Ledger, week: Period, size: int, timeline: Timeline | None = None, *,
    choice: Choice | None = None, kept: KeptDays | None = None,
) -> dict[str, list[Figure]]:  # fmt: skip
    """By metric: its figures of the weeks before and of this one, which comes last.

    `timeline` is that of `size` entries, for those who have it already; `kept` what was worked out of days
    before, without which all is counted from the rows.
    """
    periods = [week]
    for _ in range(TREND_WEEKS):
        periods.insert(0, before(periods[0], "week", UTC))
    known = timeline or SealedLog.of(ledger).timeline(size)
    targets = known.last("targets")
    by_metric: dict[str, list[Figure]] = defaultdict(list)
    found = figures(ledger, periods, choice or Choice(), timeline=known, targets=targets, at=size, kept=kept)
    for one in found:
        by_metric[one.metric].append(one)
    return by_metric


def _counted_at(ledger: Ledger, size: int) -> dict[str, Any]:
    state = ledger.as_of(size)
    return {
        "origin": state.origin, "vkey": state.key.text, "size": size,
        "root": ledger.sealed.tree.root(size).hex(), "time": state.times[-1],
    }  # fmt: skip


def _lost_messages(ledger: Ledger, basis: Basis) -> int:
    """Messages that a broker removed before they were read, as noted by entries of the week."""
    lost = 0
    for entry in SealedLog.of(ledger).parsed(0, basis.size):
        if isinstance(entry, Append) and basis.week.start <= parse_instant(entry.time) < basis.week.end:
            lost += sum(row.lost_messages for row in entry.offsets)
    return lost


def _metric(own: Sequence[Figure]) -> dict[str, Any]:
    last = own[-1]
    whole = {name: None if one is None else int(one) for name, one in
             (("numerator", last.numerator), ("denominator", last.denominator))}  # fmt: skip
    return {
        "metric": last.metric, "title": BY_NAME[last.metric].title, "value": last.value, "unit": last.unit,
        **whole, "sample": last.sample, "target": last.target, "better": BY_NAME[last.metric].better,
        "met": last.met, "previous": last.previous, "change": last.change,
        "details": orjson.dumps(last.details, option=orjson.OPT_SORT_KEYS).decode(),
        "trend": [{"week": one.period, "value": one.value, "sample": one.sample} for one in own[1:]],
    }  # fmt: skip


def _exception(one: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("reviewed_at", "closed_at", "last_used", "newest")
    return {name: value for name, value in one.items() if name not in left_out}


def _rows(ledger: Ledger, size: int, statement: str, week: Period) -> list[dict[str, Any]]:
    rows = ledger.query(size).trusted(statement, [week.start, week.end])
    return [with_instants(row) for row in rows.to_pylist()]


def _completeness(
    ledger: Ledger, week: Period, size: int, timeline: Timeline, counted: KeptDays
) -> dict[str, Figure]:
    found = figures(
        ledger, [before(week, "week", UTC), week], Choice(group="source"), timeline=timeline, at=size,
        kept=counted, metrics=[BY_NAME["decision-log-completeness"]],
    )  # fmt: skip
    return {one.group: one for one in found if one.start == week.start and one.group is not None}


def _sources(
    ledger: Ledger,
    size: int,
    week: Period,
    alerts: Iterable[Mapping[str, Any]],
    complete: Mapping[str, Figure],
    *,
    gaps: Mapping[str, Gap],
) -> list[dict[str, Any]]:
    silences: dict[str, int] = defaultdict(int)
    for one in alerts:
        if one["rule_id"] == "silent-source" and stands(one) and week.start <= one["first_seen"] < week.end:
            silences[str(orjson.loads(one["alert_key"])[0])] += 1
    found = _rows(ledger, size, _SOURCES, week)
    known = {row["source"] for row in found}
    found += [{"source": name, "events": 0, "first_seen": None, "last_seen": None}
              for name in sorted(silences.keys() - known)]  # fmt: skip
    for row in found:
        figure = complete.get(row["source"])
        row["complete"] = 0 if figure is None or figure.numerator is None else int(figure.numerator)
        row["owing"] = 0 if figure is None or figure.denominator is None else int(figure.denominator)
        # Without numbers in its events nothing can be said to be missing, nor that nothing is.
        gap = gaps.get(row["source"])
        row["missing"] = None if gap is None else gap.provable
        row["estimated"] = None if gap is None else gap.estimated
        row["silences"] = silences[row["source"]]
    return sorted(found, key=lambda row: row["source"])


def _restated(ledger: Ledger, basis: Basis, timeline: Timeline, counted: KeptDays) -> list[dict[str, Any]]:
    """Figures of the week before that differ now from those that its own report had."""
    last_week = before(basis.week, "week", UTC)
    try:
        then = basis_of(ledger, last_week, basis.size)
        if then.preliminary or not _came_late(ledger, last_week, then.size, basis.size):
            return []
        was = week_figures(ledger, last_week, then.size, kept=counted)
    except UsageError:
        return []  # it had no report, or what it was made of is gone
    now = week_figures(ledger, last_week, basis.size, timeline, kept=counted)
    return [
        {"metric": name, "was": was[name][-1].value, "is": now[name][-1].value,
         "sample_was": was[name][-1].sample, "sample_is": now[name][-1].sample}
        for name in now
        if (was[name][-1].value, was[name][-1].sample) != (now[name][-1].value, now[name][-1].sample)
    ]  # fmt: skip


def _came_late(ledger: Ledger, week: Period, start: int, end: int) -> bool:
    """Whether entries [start, end) may hold events from before the end of `week`, or configurations."""
    return any(
        not isinstance(entry, Append) or any(parse_instant(ref.min_time) < week.end for ref in entry.segments)
        for entry in SealedLog.of(ledger).parsed(start, end)
    )


def _listed(
    ledger: Ledger, report: Mapping[str, Any], alerts: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every event that the report names and that is still there, with the file of its proof."""
    reasons: dict[str, str] = {}
    for one in report["incidents"]:
        why = f"alert {one['alert_id'][:12]}"
        for event in (one["event"], *(alerts[one["alert_id"]]["evidence"] or [])[:MAX_EVIDENCE]):
            reasons.setdefault(event, why)
    for one in report["cases"]:
        reasons.setdefault(one["event"], f"last step of {one['case_id'][:50]}")
    for one in report["exceptions"]:
        reasons.setdefault(one["opening"], f"exception {one['exception_id']}")
    for one in report["top_denied"]:
        reasons.setdefault(one["event"], "newest of those most denied")
    there = present(ledger, list(reasons), report["counted_at"]["size"])
    # Numbered: names from events are nothing to build a path of.
    return [
        {"event": event, "why": why, "file": f"evidence/{number:04d}.json"}
        for number, (event, why) in enumerate(
            ((event, why) for event, why in reasons.items() if event in there), 1
        )
    ]
