"""Cases: what people grouped, and what they know of it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.access import Right
from dashboard.answers.cases import cases, package
from dashboard.frame import ask, choose, page, show_table, shown_of, taken_along, viewer
from dashboard.navigation import link
from dashboard.people import MAX_TEXT, MAX_TITLE, case_step
from dashboard.report.report_folder import archive
from dashboard.views.deciding import may_decide, save
from dashboard.wording import literal, moment, short_id


@page("Cases", Right.ROWS)
def show() -> None:
    """Draw it."""
    found = ask(cases)
    open_ones = [one for one in found if one["state"] == "open"]
    unowned = sum(one["owner"] is None for one in open_ones)
    st.markdown(literal(f"{len(open_ones)} cases open, {unowned} without an owner; {len(found)} in all."))
    if not found:
        st.info("No case was opened yet\\. Open one from an alert\\.")
        return
    chosen = st.query_params.get("case")
    chosen_row = choose(
        found,
        {
            "case": lambda one: one["title"] or one["case_id"],
            "state": lambda one: one["state"],
            "owner": lambda one: one["owner"] or "unowned",
            "alerts": lambda one: len(one["alerts"]),
            "events": lambda one: len(one["evidence"]),
            "moved": lambda one: moment(one["moved_at"]),
            "tenant": lambda one: one["tenant"] or "–",
        },
        key="cases",
        alt="Cases, the open ones first",
    )
    shown_of(len(found), len(found), "cases")
    if chosen_row is not None:
        one = found[chosen_row]
        link(
            "cases",
            f"Open: {one['title'] or one['case_id']}",
            icon=":material/open_in_full:",
            case=one["case_id"],
        )
    for one in found:
        if one["case_id"] == chosen:
            _one(one)


def _one(one: dict[str, Any]) -> None:
    st.subheader(literal(one["title"] or one["case_id"]), anchor=False)
    st.code(f"case:{one['case_id']}", language=None)
    left, right = st.columns([3, 2], gap="large")
    with left:
        show_table(
            one["steps"],
            {
                "time": lambda step: moment(step["time"]),
                "step": lambda step: step["outcome"],
                "by": lambda step: step["actor"] or "–",
                "note": lambda step: step["comment"] or "",
                "alert": lambda step: short_id(step["alert_id"]),
                "events": lambda step: len(step["evidence"] or []),
            },
            alt="Every step of this case",
        )
        for alert_id in one["alerts"][:20]:
            link(
                "alert", f"Alert {short_id(alert_id)}", icon=":material/notification_important:", id=alert_id
            )
        _export(one)
    with right:
        _step(one)


def _export(one: dict[str, Any]) -> None:
    key = f"package-{one['case_id']}"
    if st.button("Prepare the evidence package", icon=":material/folder_zip:"):
        st.session_state[key] = True
    if st.session_state.get(key):
        files = ask(package, one["case_id"])
        st.download_button(
            "Evidence package (zip)",
            taken_along("evidence", f"case:{one['case_id']}", lambda: archive(files)),
            f"case-{one['case_id'][:12]}.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/download:",
        )


def _step(one: dict[str, Any]) -> None:
    if not may_decide(Right.TRIAGE):
        return
    form = f"case-{one['case_id']}"
    with st.form(form):
        outcome = st.selectbox("Step", ["noted", "closed" if one["state"] == "open" else "reopened"])
        owner = st.text_input("Owner", placeholder="as it is", max_chars=MAX_TITLE)
        comment = st.text_area("Note", max_chars=MAX_TEXT, height=100)
        if not st.form_submit_button("Save", type="primary"):
            return
    save(
        form,
        lambda nonce: case_step(
            one["case_id"],
            str(outcome),
            viewer().user,
            nonce,
            tenant=one["tenant"],
            comment=comment,
            owner=owner,
        ),
    )
