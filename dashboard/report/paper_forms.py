"""A report as people read it: one page of HTML, and a PDF. Both show the same tables in the same words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from importlib import resources
from typing import Any, Final

import orjson
import typst
from jinja2 import Environment, StrictUndefined

from dashboard.report.tables import TABLES, Column, Table, cell_text
from ledger.format.plain_text import plain

_PAPER: Final = tuple(table for table in TABLES if table.on_paper)
_NUMERIC: Final = ("count", "number", "share")
_CHART: Final = (120.0, 28.0)
_BREAK_AFTER: Final = 16
"""Letters without a break after which a long word may go on in the next line."""
_MAX_CELL: Final = 200
"""Characters of a cell on paper."""


def as_html(report: Mapping[str, Any]) -> bytes:
    """One page that needs nothing else: no script, no picture, no font from elsewhere."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_text("weekly.html.jinja"))
    tables = [
        {"name": table.name, "title": table.title, "empty": table.empty, "columns": _paper_columns(table),
         "rows": [_html_row(table, row) for row in report[table.name]],
         "of": report["totals"].get(table.name, 0)}
        for table in _PAPER
    ]  # fmt: skip
    return template.render(
        report=report, tables=tables, numeric=_NUMERIC, last_day=_last_day(report)
    ).encode()


def as_pdf(report: Mapping[str, Any]) -> bytes:
    """A tagged PDF on A4, set in the fonts that come with typst, dated by the entry that was counted at."""
    at = report["counted_at"]
    data = {
        "title": f"Authority of agents in week {report['week']['name']}",
        "headline": plain(report["headline"]),
        "footer": f"{plain(at['origin'])}, counted at entry {at['size']}",
        "lines": _lines(report),
        "tables": [_pdf_table(table, report) for table in _PAPER],
        "basis": [
            f"Counted at entry {at['size']} of {plain(at['origin'])}, sealed at {at['time'][:19]}Z.",
            f"Root at that entry: {at['root']}", f"The log's key: {plain(at['vkey'])}",
            "Everything sealed was verified before these numbers were counted.",
            f"{len(report['listed'])} events are proved in evidence/; "
            "csv/listed.csv says which file is for which.",
        ],
    }  # fmt: skip
    compiled = typst.compile(
        _text("weekly.typ").encode(), format="pdf", ignore_system_fonts=True,
        sys_inputs={"report": orjson.dumps(data).decode()},
        timestamp=int(datetime.fromisoformat(at["time"]).timestamp()),
    )  # fmt: skip
    if not isinstance(compiled, bytes):
        raise TypeError("typst gave no single file")
    return compiled


def _text(name: str) -> str:
    return (resources.files("dashboard.report") / name).read_text(encoding="utf-8")


def _paper_columns(table: Table) -> list[Column]:
    return [column for column in table.columns if not column.wide]


def _cells(table: Table, row: Mapping[str, Any]) -> list[str]:
    unit = row.get("unit")
    cells = [plain(cell_text(column, row.get(column.name), unit)) for column in _paper_columns(table)]
    return [cell if len(cell) <= _MAX_CELL else cell[: _MAX_CELL - 1] + "…" for cell in cells]


def _html_row(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    line = trend_line(row["trend"]) if table.name == "metrics" else None
    return {"cells": _cells(table, row), "raw": row, "line": line}


def trend_line(trend: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The points of a small line of weeks; a week without data is a hole in it, no zero."""
    width, height = _CHART
    known = [one["value"] for one in trend if one["value"] is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    step = (width - 8) / max(1, len(trend) - 1)
    parts: list[list[str]] = [[]]
    end: tuple[str, str] | None = None
    for number, one in enumerate(trend):
        if one["value"] is None:
            parts.append([])
            continue
        share = 0.5 if high == low else (one["value"] - low) / (high - low)
        end = (f"{4 + number * step:.1f}", f"{height - 4 - share * (height - 8):.1f}")
        parts[-1].append(",".join(end))
    words = ", ".join(
        f"{one['week']}: {'no data' if one['value'] is None else format(one['value'], '.4g')}"
        for one in trend
    )
    return {"parts": [" ".join(part) for part in parts if part], "end": end, "alt": words}


def _pdf_table(table: Table, report: Mapping[str, Any]) -> dict[str, Any]:
    columns, rows = _paper_columns(table), report[table.name]
    of = report["totals"].get(table.name, len(rows))
    return {
        "title": table.title, "empty": table.empty, "headings": [column.heading for column in columns],
        "numeric": [column.kind in _NUMERIC for column in columns],
        "widths": ["1fr" if column.kind == "text" and not column.short else "auto" for column in columns],
        "rows": [[_breakable(cell) for cell in _cells(table, row)] for row in rows],
        "more": f"{len(rows)} of {of:,} are shown." if of > len(rows) else "",
    }  # fmt: skip


def _breakable(text: str) -> str:
    """Long words with places where a line may end, which ids have none of."""
    return re.sub(rf"(\S{{{_BREAK_AFTER}}})(?=\S)", "\\1\u200b", text)


def _last_day(report: Mapping[str, Any]) -> str:
    return (datetime.fromisoformat(report["week"]["end"]) - timedelta(days=1)).date().isoformat()


def _lines(report: Mapping[str, Any]) -> list[str]:
    window = report["window"]
    state = ", preliminary: the week has not settled" if report["preliminary"] else ""
    lines = [
        f"{report['week']['start'][:10]} to {_last_day(report)} (UTC){state}.",
        f"{window['events']:,} events, {window['decisions']:,} of them decisions, "
        f"{window['denies']:,} denied.",
    ]
    if window["first"]:
        lines.append(f"Data from {window['first'][:16]}Z to {window['last'][:16]}Z.")
    return lines
