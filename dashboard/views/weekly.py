"""Weekly report: read it here, take it along."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any

import streamlit as st

from dashboard.access import Right
from dashboard.frame import (
    ask,
    empty_ledger,
    everything,
    page,
    show_table,
    shown_of,
    surroundings,
    taken_along,
)
from dashboard.report.report_folder import archive, forms, proofs
from dashboard.report.tables import TABLES, Column, cell_text
from dashboard.report.week import basis_of, week_of
from dashboard.statements import Reading
from dashboard.wording import literal
from detections.metrics.periods import before, period_of

OFFERED = 26
NEWEST_SETTLED = "newest settled"


@page("Weekly report", Right.OVERVIEW)
def show() -> None:
    """Draw it."""
    found = everything()
    if empty_ledger(found) or found.last is None or found.first is None:
        return
    weeks = [period_of(found.last, "week", UTC)]
    while len(weeks) < OFFERED and weeks[-1].start > found.first:
        weeks.append(before(weeks[-1], "week", UTC))
    name = st.selectbox(
        "Week", [NEWEST_SETTLED, *(week.name for week in weeks)], key="week", bind="query-params"
    )
    report = ask(weekly_report, None if name in (None, NEWEST_SETTLED) else name)
    st.subheader(literal(report["headline"]), anchor=False)
    state = ", preliminary: the week has not settled" if report["preliminary"] else ""
    st.caption(
        literal(f"Week {report['week']['name']}{state}, counted at entry {report['counted_at']['size']}.")
    )
    _downloads(report)
    for table in TABLES:
        if not table.on_paper:
            continue
        st.markdown(f"**{literal(table.title)}**")
        rows = report[table.name]
        if not rows:
            st.caption(literal(table.empty))
            continue
        columns = [column for column in table.columns if not column.wide]
        cells = {column.heading: _cell(column) for column in columns}
        show_table(rows, cells, alt=table.title)
        of = report["totals"].get(table.name, len(rows))
        if of > len(rows):
            shown_of(len(rows), of)


def _cell(column: Column) -> Callable[[dict[str, Any]], str]:
    return lambda row: cell_text(column, row[column.name], row.get("unit"))


def weekly_report(reading: Reading, week: str | None) -> dict[str, Any]:
    """The numbers of a week; they are called verified only where this dashboard found them so."""
    from dashboard.report.numbers import weekly  # noqa: PLC0415  # only this page needs it

    reading.viewer.require(Right.OVERVIEW)
    return weekly(
        reading.ledger, basis_of(reading.ledger, None if week is None else week_of(week), reading.size)
    )


def whole_report(reading: Reading, week: str | None) -> bytes:
    """The report's folder as a zip file."""
    report = weekly_report(reading, week)
    return archive({**forms(report), **proofs(reading.ledger, report, reading.ledger.sealed.note)})


def _downloads(report: dict[str, Any]) -> None:
    last = surroundings().verifier.last
    if last is None or not last.ok or last.size < report["counted_at"]["size"]:
        st.caption("To take it along, the ledger must be verified first: the page Integrity does that\\.")
        return
    if st.button("Prepare the files", icon=":material/folder_zip:", key="prepare"):
        st.session_state["prepared"] = report["week"]["name"]
    if st.session_state.get("prepared") == report["week"]["name"]:
        data = ask(whole_report, report["week"]["name"])
        st.download_button(
            "All forms and proofs (zip)",
            taken_along("export", f"report {report['week']['name']}", lambda: data),
            f"report-{report['week']['name']}.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/download:",
        )
