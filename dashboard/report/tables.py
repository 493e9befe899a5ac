"""The tables of a report: one description from which every form of it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

Kind = Literal["text", "count", "number", "share", "time", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its key in a row, its heading, what it holds."""

    name: str
    heading: str
    kind: Kind = "text"
    wide: bool = False
    """Too wide for paper: only in the files for machines and in the workbook."""
    short: bool = False
    """Text of a word or two, which needs no room of its own."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its key in the report, its title, a sentence for when it is empty, its columns."""

    name: str
    title: str
    empty: str
    columns: tuple[Column, ...]
    on_paper: bool = True


TABLES: Final = (
    Table("metrics", "Metrics", "Nothing was counted.", (
        Column("metric", "metric", wide=True), Column("title", "metric "), Column("value", "value", "number"),
        Column("unit", "unit", wide=True), Column("numerator", "of these", "count", wide=True),
        Column("denominator", "in all", "count", wide=True), Column("sample", "n", "count"),
        Column("target", "target", "number"), Column("met", "met", "flag"),
        Column("previous", "last week", "number"), Column("change", "change", "number"),
        Column("details", "details", wide=True),
    )),
    Table("alerts_by_rule", "Alerts by rule", "No rule fired in this week.", (
        Column("rule", "rule"), Column("alerts", "alerts", "count"), Column("open", "open", "count"),
        Column("true_positives", "right", "count"), Column("false_positives", "wrong", "count"),
        Column("other_verdicts", "other verdicts", "count"), Column("withdrawn", "withdrawn", "count"),
        Column("staging", "staging", "count"), Column("last_week", "last week", "count"),
    )),
    Table("incidents", "Incidents", "No alert of high or critical severity stands.", (
        Column("severity", "severity", short=True), Column("title", "what"),
        Column("rule", "rule", wide=True), Column("about", "about"), Column("tenant", "tenant", short=True),
        Column("first_seen", "first seen", "time"),
        Column("last_seen", "last seen", "time", wide=True), Column("count", "n", "count"),
        Column("state", "state", short=True), Column("owner", "owner", short=True),
        Column("verdict", "verdict", short=True),
        Column("comment", "comment", wide=True), Column("alert_id", "alert", wide=True),
        Column("event", "event", wide=True),
    )),
    Table("cases", "Cases", "No case is open, and none moved in this week.", (
        Column("title", "case"), Column("state", "state", short=True), Column("owner", "owner", short=True),
        Column("tenant", "tenant", short=True), Column("alerts", "alerts", "count"),
        Column("evidence", "events", "count"), Column("opened_at", "opened", "time"),
        Column("moved_at", "last step", "time"), Column("case_id", "case id", wide=True),
        Column("event", "event", wide=True),
    )),
    Table("exceptions", "Exceptions", "No exception is active or overdue.", (
        Column("exception_id", "exception"), Column("state", "state", short=True),
        Column("overdue", "overdue", "flag"),
        Column("owner", "owner"), Column("reason", "reason"), Column("principal", "for"),
        Column("tenant", "tenant", wide=True), Column("environment", "environment", wide=True),
        Column("opened_at", "opened", "time"), Column("expires_at", "expires", "time"),
        Column("review_due_at", "review due", "time"), Column("uses", "uses in 90 d", "count"),
        Column("opening", "event", wide=True),
    )),
    Table("top_denied", "Most denied", "Nothing was denied.", (
        Column("principal", "principal"), Column("action", "action"), Column("resource", "resource"),
        Column("reason", "reason"), Column("denies", "denies", "count"),
        Column("tenants", "tenants", "count"),
        Column("last_seen", "last seen", "time"), Column("event", "newest event", wide=True),
    )),
    Table("sources", "Sources and gaps", "No event arrived.", (
        Column("source", "source"), Column("events", "events", "count"),
        Column("first_seen", "first", "time"), Column("last_seen", "last", "time"),
        Column("complete", "with full context", "count"), Column("owing", "that owe it", "count"),
        Column("missing", "provably missing", "count"),
        Column("estimated", "missing, estimated", "count"),
        Column("silences", "alerts of silence", "count"),
    )),
    Table("restated", "Last week, restated", "Nothing that came late changed last week's figures.", (
        Column("metric", "metric"), Column("was", "was", "number"), Column("is", "is", "number"),
        Column("sample_was", "n was", "count"), Column("sample_is", "n is", "count"),
    )),
    Table("listed", "Evidence", "No event is listed.", (
        Column("event", "event"), Column("why", "listed for"), Column("file", "proof"),
    ), on_paper=False),
)  # fmt: skip
_PYTHON: Final = {
    "text": (str,), "count": (int,), "number": (int, float), "share": (int, float), "time": (str,),
    "flag": (bool,),
}  # fmt: skip


def check_types(report: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError where a table of a report that came from elsewhere is not of its form."""
    for table in TABLES:
        for number, row in enumerate(report[table.name]):
            for column in table.columns:
                value = row[column.name]
                if value is None:
                    continue
                if type(value) not in _PYTHON[column.kind]:
                    raise TypeError(f"{table.name}[{number}].{column.name}")
                if column.kind == "time":
                    datetime.fromisoformat(value)


def cell_text(column: Column, value: Any, unit: str | None = None) -> str:
    """A cell as people read it; what is not known is a word or a dash, never a zero."""
    if value is None:
        return "no data" if column.kind == "number" else "–"
    match column.kind:
        case "flag":
            return "yes" if value else "no"
        case "count":
            return f"{value:,}"
        case "number":
            return figure_text(value, unit, signed=column.name == "change")
        case "time":
            return f"{value[:10]} {value[11:16]}Z"
        case _:
            return str(value)


def figure_text(value: float | None, unit: str | None, *, signed: bool = False) -> str:
    """A metric's value with its unit; a change of a share is told in points."""
    if value is None:
        return "no data"
    sign = "+" if signed else ""
    if unit == "share":
        return f"{value * 100:{sign}.2f} {'points' if signed else '%'}"
    return f"{value:{sign},.4g} {unit}" if unit else f"{value:{sign},.6g}"
