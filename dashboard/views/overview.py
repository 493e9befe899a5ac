"""Overview: is the authority of the agents in hand?"""

from __future__ import annotations

from typing import Any, Final

import streamlit as st

from dashboard import charts
from dashboard.access import Right
from dashboard.answers.activity import Activity, sql_of_activity
from dashboard.answers.filters import Filters
from dashboard.answers.overview import activations, metric_weeks, standing
from dashboard.frame import (
    ask,
    empty_ledger,
    everything,
    filter_bar,
    page,
    show_table,
    sql_of,
    surroundings,
    viewer,
)
from dashboard.navigation import link
from dashboard.wording import SEVERITIES, ago, change, figure, literal, moment
from detections.metric_catalogue import prelude, statement

SHORT: Final = {
    "session-scoped-credential-coverage": "Session credentials",
    "over-privileged-action-rate": "Over-privileged",
    "revocation-effectiveness-time": "Revocation",
    "policy-evaluation-coverage": "Policy coverage",
    "exception-half-life": "Exceptions' age",
    "cross-tenant-denies": "Cross-tenant denies",
    "decision-log-completeness": "Log completeness",
    "security-adjusted-task-success": "Safe success",
}
"""The metrics in as few words as a card has room for."""


@page("Overview", Right.OVERVIEW)
def show() -> None:
    """Draw it."""
    found = everything()
    if empty_ledger(found):
        return
    place = st.container()
    filters = filter_bar(found)
    stands = ask(standing, filters.at_any_time())
    place.markdown(_sentence(stands))
    figures = st.container()
    _decisions(found, filters, stands)
    left, right = st.columns([3, 1], gap="large")
    with left:
        _newest(stands, found)
    with right:
        _integrity()
    with figures:
        _metrics(filters, found)


def _sentence(stands: dict[str, Any]) -> str:
    last = surroundings().verifier.last
    if last is None:
        verified = "ledger not verified yet"
    else:
        word = "verified" if last.ok else "DAMAGED at"
        verified = f"ledger {word} to entry {last.size:,} at {last.when:%H:%M} UTC"
    return literal(
        f"{stands['incidents']} incident(s) open, {stands['unresolved']} alert(s) unresolved, "
        f"{stands['overdue_exceptions']} exception(s) overdue; {verified}."
    )


def _metrics(filters: Filters, found: Activity) -> None:
    if found.last is None:
        return
    metrics = ask(metric_weeks, filters.at_any_time(), found.last)
    for begin in (0, 4):
        for place, one in zip(st.columns(4), metrics[begin : begin + 4], strict=False):
            with place:
                _metric(one)
    with st.expander("Metrics as a table", icon=":material/table:"):
        show_table(
            metrics,
            {
                "metric": lambda one: one["title"],
                "week": lambda one: one["period"],
                "value": lambda one: figure(one["value"], one["unit"]),
                "n": lambda one: one["sample"],
                "target": lambda one: figure(one["target"], one["unit"]),
                "met": lambda one: "no data" if one["met"] is None else "yes" if one["met"] else "NO",
                "week before": lambda one: figure(one["previous"], one["unit"]),
            },
            alt="The eight metrics of this week",
        )
        for one in metrics:
            st.caption(literal(one["title"]))
            st.code(f"{prelude()}\n-- this metric\n{statement(one['metric'])}", language="sql", height=120)


def _metric(one: dict[str, Any]) -> None:
    # A week without data is no point of the line: streamlit draws numbers alone.
    weeks = [value for _, value, _ in one["weeks"] if value is not None]
    better = one["better"] == "higher"
    mark = "no data" if one["met"] is None else "✓ on target" if one["met"] else "✗ beyond target"
    delta = change(one["change"], one["unit"])
    word = "at least" if better else "at most"
    with st.container(border=True, height="stretch"):
        st.metric(
            SHORT[one["metric"]],
            figure(one["value"], one["unit"]),
            delta,
            delta_color="normal" if better else "inverse",
            help=literal(one["title"]),
            chart_data=weeks if len(weeks) > 1 else None,
            delta_description=None if delta is None else "since last week",
        )
        st.caption(literal(f"{mark}: {word} {figure(one['target'], one['unit'])}; n = {one['sample']:,}"))


def _decisions(found: Activity, filters: Filters, stands: dict[str, Any]) -> None:
    totals = found.totals(filters)
    counts, width = found.decisions_over_time(filters)
    said = (
        f"{totals['decisions']:,} decisions: ● {totals['allow']:,} allowed, ✕ {totals['deny']:,} denied, "
        f"▲ {totals['error']:,} errors; one bar is {width}. Lines: alerts (dashed), policies (dotted)."
    )
    st.caption(literal(said))
    if not len(counts):
        st.info("No decision in this time with these filters\\. Widen the time, or take a filter away\\.")
        return
    marks = [
        *({"time": one["first_seen"], "mark": "alert", "what": one["title"] or one["rule_id"]}
          for one in stands["newest"]),
        *({"time": one["time"], "mark": "policy", "what": _activation(one)}
          for one in ask(activations, filters)),
    ]  # fmt: skip
    st.altair_chart(
        charts.decisions_over_time(counts, marks, st.context.theme.type), alt=said, width="stretch"
    )
    sql_of("decisions over time", sql_of_activity(), rows=counts)


def _activation(one: dict[str, Any]) -> str:
    was = f", before {one['previous_policy_version']}" if one["previous_policy_version"] else ""
    said = f"{one['policy_id'] or 'policy'} {one['policy_version'] or 'of no version'}{was}"
    return f"{said}: {one['outcome']}" if one["outcome"] else said


def _newest(stands: dict[str, Any], found: Activity) -> None:
    st.subheader("Unresolved alerts, the gravest first", anchor=False)
    if not stands["newest"]:
        st.caption("None\\. Rules look at every commit while `decision-ledger detect run` runs\\.")
        return
    may = viewer().may(Right.ROWS)
    for one in stands["newest"]:
        what, when = st.columns([2, 1])
        with what:
            label = f"{SEVERITIES.get(one['severity'], one['severity'])}  {one['title'] or one['rule_id']}"
            if may:
                link("alert", label, id=one["alert_id"])
            else:
                st.text(label)
        newest = found.last
        when.caption(
            literal(
                f"{one['count']:,} events, {one['owner'] or 'unowned'}, "
                f"{ago(one['last_seen'], newest) if newest else moment(one['last_seen'])}"
            )
        )


def _integrity() -> None:
    st.subheader("Integrity", anchor=False)
    own = surroundings()
    last = own.verifier.last
    if last is None:
        st.text("Not verified by this dashboard yet.")
    else:
        st.text(
            f"{'Verified' if last.ok else 'DAMAGED'} to entry {last.size:,}, {moment(last.when)}, "
            "by no witness."
        )
    if viewer().may(Right.INTEGRITY):
        link("integrity", "Sources and gaps", icon=":material/verified_user:")
