"""Alerts: what needs a look, by whom, since when."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.access import Right
from dashboard.answers.alerts import STATES, per_day, queue, troubles
from dashboard.frame import ask, download, each, empty_ledger, everything, page, show_table, shown_of
from dashboard.navigation import link
from dashboard.views.deciding import triage_form
from dashboard.wording import SEVERITIES, literal, moment, short_id

ANY = "all"
BEHIND = 50
"""Entries that an engine may be behind without a word: those of what people looked at start no run."""
BY = {"none": None, "rule": "rule_id", "about": "about", "tenant": "tenant"}


@page("Alerts", Right.ROWS)
def show() -> None:
    """Draw it."""
    if empty_ledger(everything()):
        return
    alerts = ask(queue)
    told = ask(troubles)
    standing, rules, system = st.tabs(
        ["Alerts", f"Rule errors ({len(told['rules'])})", f"System ({_count(told)})"],
        key="part",
        bind="query-params",
    )
    with standing:
        _alerts(alerts)
    with rules:
        _rule_errors(told)
    with system:
        _system(told)


def _alerts(alerts: list[dict[str, Any]]) -> None:
    place = st.container()
    chosen = _filtered(alerts)
    place.markdown(literal(_sentence(alerts)))
    if not alerts:
        st.info("No rule has fired\\. Rules look at every commit while this runs:")
        st.code("decision-ledger detect run", language="sh")
        return
    days = per_day(chosen)
    if len(days):
        said = f"{len(chosen)} alerts by the day they were first seen, by severity"
        st.altair_chart(charts.alerts_per_day(days, st.context.theme.type), width="stretch", alt=said)
    group = st.session_state.get("by")
    if group and group != "none":
        _groups(chosen, group)
    _table(chosen, len(alerts))


def _count(told: dict[str, Any]) -> int:
    late = sum(bool(one["behind"] > BEHIND) for one in told["engines"])
    return int(late) + sum(len(one["stalled"]) for one in told["engines"]) + len(told["lag"])


def _rule_errors(told: dict[str, Any]) -> None:
    if not told["rules"]:
        st.caption("No rule fails, by the last word of the engines\\.")
        return
    show_table(
        told["rules"],
        {
            "rule": lambda one: one["rule"],
            "why": lambda one: one["message"],
            "times": lambda one: one["times"],
            "engine": lambda one: one["engine"],
            "seen": lambda one: moment(one["seen"]),
        },
        alt="Rules that could not be judged; what they missed is judged again with the next entries",
    )
    st.caption("What a failing rule could not judge it judges later; no other rule waits for it\\.")


def _system(told: dict[str, Any]) -> None:
    if not told["engines"]:
        st.info("No engine has left word: rules do not look at this ledger\\. Start one:")
        st.code("decision-ledger detect run", language="sh")
    else:
        show_table(
            told["engines"],
            {
                "engine": lambda one: one["engine"],
                "judged up to entry": lambda one: one["judged"],
                "entries behind": lambda one: one["behind"],
                "stands still": lambda one: ", ".join(
                    f"{key['topic']}/{key['partition']}" for key in one["stalled"]
                ),
                "seen": lambda one: moment(one["seen"]),
            },
            alt="Engines, and how far each has judged",
        )
    if told["lag"]:
        show_table(
            told["lag"],
            {
                "topic": lambda row: row["topic"],
                "partition": lambda row: row["partition"],
                "messages not sealed": lambda row: row["lag"],
                "seen": lambda row: row["seen"],
            },
            alt="Partitions with messages that wait to be sealed",
        )


def _sentence(alerts: list[dict[str, Any]]) -> str:
    waiting = [one for one in alerts if one["state"] == "open"]
    grave = sum(one["severity"] in ("critical", "high") for one in waiting)
    unowned = sum(one["owner"] is None for one in waiting)
    return f"{len(waiting)} open, {grave} of them high or critical, {unowned} without an owner."


def _filtered(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    columns = st.columns(5)
    state = columns[0].selectbox("State", ["open", *STATES[1:], ANY], key="state", bind="query-params")
    severity = columns[1].selectbox("Severity", [ANY, *SEVERITIES], key="severity", bind="query-params")
    rule = columns[2].selectbox(
        "Rule", [ANY, *sorted({one["rule_id"] for one in alerts})], key="rule", bind="query-params"
    )
    owner = columns[3].selectbox(
        "Owner",
        [ANY, "unowned", *sorted({one["owner"] for one in alerts if one["owner"]})],
        key="owner",
        bind="query-params",
    )
    columns[4].selectbox("Group by", [*BY], key="by", bind="query-params")
    return [
        one
        for one in alerts
        if state in (ANY, one["state"])
        and severity in (ANY, one["severity"])
        and rule in (ANY, one["rule_id"])
        and (owner in (ANY, one["owner"]) or (owner == "unowned" and one["owner"] is None))
    ]


def _groups(alerts: list[dict[str, Any]], by: str) -> None:
    column = BY[by]
    counted: dict[str, list[dict[str, Any]]] = {}
    for one in alerts:
        counted.setdefault(str(one[column] or "none") if column else "", []).append(one)
    rows = sorted(counted.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    show_table(
        rows,
        {
            by: lambda pair: pair[0],
            "alerts": lambda pair: len(pair[1]),
            "open": lambda pair: sum(bool(one["state"] == "open") for one in pair[1]),
            "worst": lambda pair: SEVERITIES.get(pair[1][0]["severity"]),
            "events": lambda pair: sum(one["count"] or 0 for one in pair[1]),
        },
        alt=f"Alerts by {by}",
    )


def _table(alerts: list[dict[str, Any]], total: int) -> None:
    if not alerts:
        st.info("No alert meets these filters\\.")
        return
    table = st.dataframe(
        each(
            alerts,
            {
                "severity": lambda one: SEVERITIES.get(one["severity"], one["severity"]),
                "what": lambda one: one["title"] or one["rule_id"],
                "about": lambda one: one["about"],
                "events": lambda one: one["count"],
                "state": lambda one: one["state"],
                "engine": lambda one: one["engine_state"],
                "owner": lambda one: one["owner"] or "unowned",
                "last seen (UTC)": lambda one: f"{one['last_seen']:%Y-%m-%d %H:%M}",
                "tenant": lambda one: one["tenant"] or "–",
                "alert": lambda one: short_id(one["alert_id"]),
            },
        ),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key="queue",
        alt="The queue of alerts, the gravest and newest first",
    )
    shown_of(len(alerts), total, "alerts")
    for number in table.selection.rows[:10]:
        one = alerts[number]
        link(
            "alert",
            f"Open: {one['title'] or one['rule_id']}, {one['about']}",
            icon=":material/open_in_full:",
            id=one["alert_id"],
        )
    chosen = [alerts[number] for number in table.selection.rows]
    if chosen:
        triage_form(chosen, "bulk")
    with st.expander("The same in the shell", icon=":material/code:"):
        st.code("decision-ledger alerts list --status all", language="sh")
        download("alerts", [{name: one[name] for name in _EXPORTED} for one in alerts])


_EXPORTED = (
    "alert_id",
    "rule_id",
    "alert_key",
    "severity",
    "count",
    "first_seen",
    "last_seen",
    "engine_state",
    "state",
    "owner",
    "verdict_id",
    "tenant",
    "environment",
    "actor",
    "delegated_actor",
    "trace_id",
)
