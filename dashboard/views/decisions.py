"""Decisions: every event, by any field; filters run over all data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl
import streamlit as st

from dashboard import charts
from dashboard.access import Right
from dashboard.answers.activity import Activity
from dashboard.answers.decisions import (
    FACETS,
    PAGE,
    WIDE_FACETS,
    facets,
    facets_statement,
    over_time,
    over_time_statement,
    rows,
    rows_statement,
)
from dashboard.answers.filters import Filters, text_columns
from dashboard.frame import ask, brushed, choose, empty_ledger, everything, filter_bar, page, shown_of, sql_of
from dashboard.navigation import link
from dashboard.wording import MARKS, literal, moment

ANY: Final = "all"
FACET_WORDS: Final = {
    "kind": "Kind", "reason": "Reason", "action": "Action", "policy_version": "Policy version",
    "delegated_actor": "Agent", "actor": "Initiator", "resource": "Resource",
}  # fmt: skip
EVENT_COLUMNS: Final[dict[str, Callable[[dict[str, Any]], Any]]] = {
    "time (UTC)": lambda row: f"{row['time']:%Y-%m-%d %H:%M:%S}",
    "kind": lambda row: row["kind"],
    "answer": lambda row: MARKS.get(row["decision"], row["decision"] or "–"),
    "principal": lambda row: row["delegated_actor"] or row["actor"] or "–",
    "for": lambda row: row["actor"] or "–",
    "action": lambda row: row["action"] or "–",
    "resource": lambda row: row["resource"] or "–",
    "reason": lambda row: row["reason"] or "–",
    "tenant": lambda row: row["tenant"] or "–",
    "environment": lambda row: row["environment"] or "–",
    "source": lambda row: row["source"],
}
"""Events as people read them."""


@page("Decisions", Right.ROWS)
def show() -> None:
    """Draw it."""
    found = everything()
    if empty_ledger(found):
        return
    place = st.container()
    filters = _more_filters(filter_bar(found))
    counts = ask(facets, filters)
    total = counts[""][0][1]
    answer = dict(filters.equal).get("decision")
    answers: dict[str | None, int] = dict(counts["decision"]) if answer is None else {answer: total}
    place.markdown(literal(_sentence(total, answers)))
    _over_time(found, filters)
    left, right = st.columns([1, 3], gap="medium")
    with left:
        _facets(counts, filters)
    with right:
        _rows(filters, total)


def _sentence(total: int, answers: dict[str | None, int]) -> str:
    return (
        f"{total:,} events: ● {answers.get('allow', 0):,} allowed, ✕ {answers.get('deny', 0):,} denied, "
        f"▲ {answers.get('error', 0):,} errors, {answers.get(None, 0):,} without an answer."
    )


def _more_filters(filters: Filters) -> Filters:
    """What facets and the field box of this page add."""
    left, middle, right = st.columns([1, 2, 2])
    column = left.selectbox("Field", ["none", *text_columns()], key="field", bind="query-params")
    value = middle.text_input(
        "Equals", key="value", bind="query-params", disabled=column == "none", max_chars=1_024
    )
    answer = right.segmented_control("Answer", [*MARKS], key="decision", bind="query-params")
    if column and column != "none" and value:
        filters = filters.also(column, value)
    if answer:
        filters = filters.also("decision", answer)
    for name in (*FACETS, *WIDE_FACETS):
        chosen = st.query_params.get(f"f_{name}")
        if chosen not in (None, ANY):
            filters = filters.also(name, chosen)
    return filters


def _over_time(found: Activity, filters: Filters) -> None:
    # As wide as for the time that is looked at, so that another filter does not change the steps.
    _, step = found.decisions_over_time(Filters(filters.since, filters.until))
    counts = pl.DataFrame(ask(over_time, filters, step))
    if len(counts):
        event = st.altair_chart(
            charts.decisions_over_time(counts, [], st.context.theme.type, brush=True),
            width="stretch",
            key="over-time",
            on_select="rerun",
            selection_mode="brush",
            alt=f"Decisions by answer, one bar is {step}; brush a part of it, or type exact times",
        )
        brushed(event.selection if event else None)
        sql_of("decisions over time", *over_time_statement(filters, step), rows=counts)


def _facets(counts: dict[str, list[tuple[str | None, int]]], filters: Filters) -> None:
    for name in FACETS:
        if name not in ("tenant", "environment", "source", "decision"):
            _facet(name, counts[name])
    with st.expander("Principals and resources", on_change="rerun", key="wide", bind="query-params") as wide:
        if wide.open:
            more = ask(facets, filters, WIDE_FACETS)
            for name in WIDE_FACETS:
                _facet(name, more[name])
    statement, params = facets_statement(filters)
    sql_of("facets", statement, params)


def _facet(name: str, values: list[tuple[str | None, int]]) -> None:
    """One field's commonest values with their counts; the one that is filtered by stays in the list."""
    counted = {value: n for value, n in values if value is not None}
    chosen = st.query_params.get(f"f_{name}")
    if chosen is not None:
        counted.setdefault(chosen, 0)
    if counted:
        # The address holds an option as it is shown: counts would make every link old at once.
        st.selectbox(FACET_WORDS[name], [ANY, *counted], key=f"f_{name}", bind="query-params")
        most = [f"{_shortened(value)} {n:,}" for value, n in list(counted.items())[:4]]
        st.caption(literal(", ".join(most)))


def _shortened(text: str) -> str:
    return text if len(text) <= 24 else text[:23] + "…"


def _rows(filters: Filters, total: int) -> None:
    pages: list[Any] = st.session_state.setdefault("decision-pages", [])
    key = (filters, st.query_params.get("at"))
    if st.session_state.get("decision-filters") != key:
        st.session_state["decision-filters"] = key
        pages.clear()
    table = ask(rows, filters, pages[-1] if pages else None)
    found = table.to_pylist()
    if not found:
        st.info("Nothing meets these filters\\. Take one away, or widen the time\\.")
        return
    chosen = choose(found, EVENT_COLUMNS, key="rows", alt="Events that meet the filters, the newest first")
    begin = len(pages) * PAGE
    shown_of(begin + len(found), total, f"events, this page from {begin + 1:,}")
    older, newer, _ = st.columns([1, 1, 3])
    if newer.button("Newer", disabled=not pages, icon=":material/arrow_back:"):
        pages.pop()
        st.rerun()
    last = found[-1]
    if older.button("Older", disabled=len(found) < PAGE, icon=":material/arrow_forward:"):
        pages.append((last["time"], last["source"], last["event_id"]))
        st.rerun()
    if chosen is not None:
        opened(found[chosen])
    statement, params = rows_statement(filters, pages[-1] if pages else None)
    sql_of("events", statement, params, rows=table)


def opened(row: dict[str, Any]) -> None:
    """A row that was chosen: where to go on from it."""
    with st.container(border=True):
        st.caption(literal(f"{row['kind']} at {moment(row['time'])}"))
        st.code(f"{row['source']}#{row['event_id']}", language=None, wrap_lines=True)
        left, right, _ = st.columns([1, 1, 3])
        with left:
            link(
                "event",
                "All fields and proof",
                icon=":material/article:",
                of=row["source"],
                id=row["event_id"],
            )
        with right:
            if row["trace_id"]:
                link("trace", "Its trace", icon=":material/account_tree:", trace=row["trace_id"])
