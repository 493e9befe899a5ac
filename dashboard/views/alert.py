"""One alert: what happened, why it fired, what it rests on, what people made of it."""

from __future__ import annotations

from importlib import resources
from typing import Any

import streamlit as st

from dashboard.access import Right
from dashboard.answers.alerts import one_alert
from dashboard.frame import ask, choose, page, show_table, shown_of
from dashboard.navigation import link
from dashboard.views.deciding import case_form, pending_of, triage_form
from dashboard.views.decisions import EVENT_COLUMNS, opened
from dashboard.views.event import proof
from dashboard.wording import SEVERITIES, literal, moment
from detections.defaults import VERDICT_NAMES
from ledger.format.state import ENGINE_TOPIC

_PROVED_AT_ONCE = 200


@page("Alert", Right.ROWS)
def show() -> None:
    """Draw it."""
    alert_id = st.query_params.get("id", "")
    found = ask(one_alert, alert_id) if alert_id else None
    if found is None:
        st.info("No such alert is here at this size of the ledger\\. Open one from the queue\\.")
        link("alerts", "The queue", icon=":material/notifications:")
        return
    st.subheader(literal(f"{found['title'] or found['rule_id']} · {found['about']}"), anchor=False)
    st.markdown(
        literal(
            f"{SEVERITIES.get(found['severity'], found['severity'])}, {found['engine_state']}, "
            f"{found['state']}; {found['count']:,} events from {moment(found['first_seen'])} to "
            f"{moment(found['last_seen'])}; "
            f"owner: {found['owner'] or 'unowned'}."
        )
    )
    st.code(found["alert_id"], language=None)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _why(found)
        _evidence(found)
    with right:
        _triage(found)
        _runbook(found)
        _similar(found)


def _why(found: dict[str, Any]) -> None:
    st.markdown("**Why it fired**")
    st.text(found["reason"] or "The rule says no more.")
    rule = found["rule"]
    if rule is None:
        st.caption("The rule that fired is no longer in force\\.")
        return
    st.text(rule["description"])
    with st.expander(f"The rule, version {literal(found['rule_version'])}", icon=":material/code:"):
        st.code(rule["query"], language="sql", wrap_lines=True)
        st.caption(
            "with " + literal(", ".join(f"{name} = {value}" for name, value in rule["params"].items()))
        )
        for one in rule["false_alarms"]:
            st.text(f"may be a false alarm: {one}")
    st.caption(
        literal(
            f"Of this rule's judged alerts {found['wrong']} of {found['judged']} were false alarms."
            if found["judged"]
            else "No alert of this rule was judged yet: nothing is known of its false alarms."
        )
    )
    st.code(f"decision-ledger detect backtest --rule {found['rule_id']}", language="sh")


def _evidence(found: dict[str, Any]) -> None:
    st.markdown("**What it rests on**")
    rows = found["rows"]
    if not rows:
        st.caption("None of its events is here any more, or none is in your tenants\\.")
        return
    chosen = choose(rows, EVENT_COLUMNS, key="evidence", alt="The events this alert rests on, by time")
    shown_of(len(rows), len(found["evidence"] or []), "events of its evidence")
    if chosen is not None:
        opened(rows[chosen])
    traces = list(dict.fromkeys(row["trace_id"] for row in rows if row["trace_id"]))
    for trace in traces[:3]:
        link("trace", f"Trace {trace[:8]}…{trace[-4:]}", icon=":material/account_tree:", trace=trace)
    if len(traces) > 3:
        shown_of(3, len(traces), "traces")
    proof(*(f"{row['source']}#{row['event_id']}" for row in rows[:_PROVED_AT_ONCE]))


def _triage(found: dict[str, Any]) -> None:
    st.markdown("**State**")
    verdict = VERDICT_NAMES.get(found["verdict_id"], "none") if found["verdict_id"] is not None else "none"
    st.text(f"{found['state']}, verdict: {verdict}")
    if found["comment"]:
        st.text(found["comment"])
    waiting = pending_of(found["alert_id"], {step["event_id"] for step in found["history"]})
    if waiting:
        st.info(f"{waiting} decision(s) of yours are saved and not sealed yet\\.")
    triage_form([found], "triage")
    with st.expander("Add to a case", icon=":material/work:", key="add-case", on_change="rerun"):
        evidence = tuple(f"{row['source']}#{row['event_id']}" for row in found["rows"][:100])
        case_form("case", found["tenant"], alert_id=found["alert_id"], evidence=evidence)
    unseen = [step for step in found["history"] if step["unseen"]]
    if unseen:
        st.warning(
            "Somebody decided without having seen the decision before it; the last sealed one counts\\."
        )
    st.markdown("**History**")
    show_table(
        found["history"],
        {
            "time (UTC)": lambda step: f"{step['time']:%Y-%m-%d %H:%M:%S}",
            "step": lambda step: step["outcome"],
            "by": lambda step: "the engine" if step["topic"] == ENGINE_TOPIC else step["actor"],
            "events": lambda step: step["count"],
            "verdict": lambda step: VERDICT_NAMES.get(step["verdict_id"], "") if step["verdict_id"] else "",
            "comment": lambda step: step["comment"] or "",
        },
        alt="Every step of this alert",
    )
    st.code(f"decision-ledger alerts ack {found['alert_id'][:12]}", language="sh")


def _runbook(found: dict[str, Any]) -> None:
    name = str(found["runbook"] or "").rpartition("/")[2]
    text = _runbook_text(name)
    with st.expander("Runbook", icon=":material/menu_book:"):
        if text is None:
            st.text(f"{name or 'No runbook'} does not come with the product.")
        else:
            st.markdown(text)  # our own page, read from the product's own files


def _runbook_text(name: str) -> str | None:
    folder = resources.files("dashboard").joinpath("..", "docs", "runbooks")
    for file in folder.iterdir() if folder.is_dir() else ():
        if file.name == name:
            return file.read_text(encoding="utf-8")
    return None


def _similar(found: dict[str, Any]) -> None:
    st.markdown("**Similar alerts, 30 days around it**")
    if not found["similar"]:
        st.caption("None\\.")
    for one in found["similar"][:8]:
        link("alert", f"{one['last_seen']:%m-%d %H:%M} {one['rule_id']} · {one['about']}", id=one["alert_id"])
