"""Trace: who asked, through whom, with what authority, and what came of it."""

from __future__ import annotations

import shlex
from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.access import Right
from dashboard.answers.traces import MAX_HOPS, span_milliseconds, trace
from dashboard.frame import ask, choose, page, pinned, shown_of, sql_of, surroundings
from dashboard.navigation import link
from dashboard.views.event import proof
from dashboard.wording import MARKS, literal, moment
from ledger.errors import UsageError

STATEMENT = "SELECT * FROM events WHERE trace_id = ? ORDER BY time, source, event_id"


@page("Trace", Right.ROWS)
def show() -> None:
    """Draw it."""
    trace_id = st.text_input(
        "Trace id", key="trace", bind="query-params", placeholder="32 hex digits", max_chars=64
    )
    if not trace_id:
        st.info("Paste a trace id, or open a trace from a decision, an alert or the search box\\.")
        return
    skip = int(st.query_params.get("skip", "0")) if st.query_params.get("skip", "0").isdecimal() else 0
    try:
        found = ask(trace, trace_id.strip(), skip)
    except UsageError as error:
        st.warning(literal(error.message))
        return
    st.markdown(literal(found["sentence"]))
    _facts(found)
    _chain(found)
    picked = _waterfall(found)
    _table(found, picked)
    _pivots(found)
    with st.expander("Open in a notebook", icon=":material/menu_book:"):
        arguments = f"--ledger {shlex.quote(surroundings().settings.ledger)} --trace {found['trace_id']}"
        st.code(
            f"marimo run notebooks/trace_an_incident.py -- {arguments} --at {pinned()}",
            language="sh",
            wrap_lines=True,
        )
    sql_of("this trace", STATEMENT, [trace_id])


def _facts(found: dict[str, Any]) -> None:
    answers = found["decisions"]
    about = f", {found['about']:,} of them alert steps and notes about it," if found["about"] else ""
    milliseconds = span_milliseconds(found["first"], found["last"])
    st.caption(
        literal(
            f"{found['events']:,} events{about} from {moment(found['first'])}, {milliseconds:,.0f} ms; "
            f"● {answers.get('allow', 0)} allow, ✕ {answers.get('deny', 0)} deny, "
            f"▲ {answers.get('error', 0)} error"
        )
    )
    settings = surroundings().settings
    if settings.trace_url:
        st.link_button(
            "Open in the tracing tool",
            settings.trace_url.replace("{trace_id}", found["trace_id"]),
            icon=":material/open_in_new:",
        )
    if found["events"] > found["shown"] + found["skipped"]:
        shown_of(found["shown"], found["events"], f"events, at most {MAX_HOPS:,} at once")
        link("trace", "The next events", trace=found["trace_id"], skip=str(found["skipped"] + found["shown"]))


def _chain(found: dict[str, Any]) -> None:
    if found["chain"]:
        more = f"   ({found['chains']} chains in all)" if found["chains"] > 1 else ""
        st.code("  →  ".join(found["chain"]) + more, language=None, wrap_lines=True)


def _waterfall(found: dict[str, Any]) -> int | None:
    """The picture; which lane was clicked."""
    lanes = found["lanes"]
    denied = [lane for lane in lanes if lane["decision"] == "deny"]
    st.caption(
        "Each lane is one event, from when it was to when the last thing below it was; heavy is the way to "
        "what came last, a dashed line a credential that outlives its session, an upright line another "
        "policy version\\."
    )
    event = st.altair_chart(
        charts.waterfall(lanes, found["policies"], st.context.theme.type),
        on_select="rerun",
        key="waterfall",
        width="stretch",
        selection_mode="hop",
        alt=f"Waterfall of {len(lanes)} events, {len(denied)} of them denied; the table holds the same.",
    )
    chosen = event.selection.get("hop", []) if event and event.selection else []
    return int(chosen[0]["nth"]) if chosen else None


def _table(found: dict[str, Any], picked: int | None) -> None:
    lanes = found["lanes"]
    chosen = choose(
        lanes,
        {
            "ms": lambda lane: round(span_milliseconds(found["first"], lane["time"]), 1),
            "below": lambda lane: "›" * lane["depth"],
            "kind": lambda lane: lane["kind"],
            "answer": lambda lane: MARKS.get(lane["decision"], lane["decision"] or "–"),
            "principal": lambda lane: lane["principal"],
            "action": lambda lane: lane["action"],
            "resource": lambda lane: lane["resource"],
            "reason": lambda lane: lane["reason"],
            "scopes": lambda lane: lane["scopes"],
            "scopes dropped": lambda lane: lane["dropped"],
            "scopes added": lambda lane: lane["added"],
            "policy": lambda lane: lane["policy"],
            "note": _note,
        },
        key="hops",
        alt="The events of this trace in the order of delegation",
    )
    number = picked if chosen is None else chosen
    if number is not None and number < len(lanes):
        lane = lanes[number]
        with st.container(border=True):
            st.text(f"{lane['kind']} {lane['principal']} {lane['action']} {lane['resource']}")
            if lane["added"]:
                st.warning(f"Wider than its parent: {literal(lane['added'])}")
            proof(f"{lane['source']}#{lane['event_id']}")
            link("event", "All fields", icon=":material/article:", of=lane["source"], id=lane["event_id"])
    if st.toggle("Prove every row of this trace", key="prove"):
        proof(*(f"{lane['source']}#{lane['event_id']}" for lane in lanes))


def _note(lane: dict[str, Any]) -> str:
    notes = [
        lane["broken"],
        "critical path" if lane["critical"] else "",
        "outlives its session" if lane["outlived"] else "",
    ]
    return ", ".join(note for note in notes if note)


def _pivots(found: dict[str, Any]) -> None:
    if not found["pivots"]:
        return
    st.subheader("Go on from here", anchor=False)
    for name, values in found["pivots"].items():
        st.caption(literal(name))
        for place, value in zip(st.columns(4), values[:4], strict=False):
            with place:
                link("search", value if len(value) <= 34 else f"{value[:16]}…{value[-12:]}", q=value)
        if len(values) > 4:
            shown_of(4, len(values), f"{name}s")
