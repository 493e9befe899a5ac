"""Forms by which people decide: they keep their text until it is saved, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import streamlit as st

from dashboard.access import Right
from dashboard.answers.cases import cases
from dashboard.frame import ask, hand_over, viewer, writable
from dashboard.people import MAX_TEXT, MAX_TITLE, TRIAGE, case_step, new_id, triage
from dashboard.wording import literal
from detections.defaults import VERDICTS
from ledger.errors import LedgerError

NONE: Final = "none"
NEW_CASE: Final = "a new case"


def nonce(form: str) -> str:
    """The random id of what a form will do: made when it is opened, so that sending it twice does it once."""
    key = f"nonce-{form}"
    if key not in st.session_state:
        st.session_state[key] = new_id()
    made: str = st.session_state[key]
    return made


def done(form: str) -> None:
    """What a form did is saved: the next time it does something new."""
    st.session_state.pop(f"nonce-{form}", None)


def save(form: str, make: Callable[[str], dict[str, Any]]) -> bool:
    """Hand over what a form made (given its random id), and say what became of it; whether it is saved."""
    try:
        event = make(nonce(form))
    except LedgerError as error:
        st.error(literal(error))
        return False
    if not hand_over(event):
        return False
    done(form)
    st.success("Saved, not sealed yet\\. It shows when the page is refreshed\\.")
    return True


def may_decide(right: Right) -> bool:
    """Whether this person may, and this dashboard can; else the page says why not."""
    if not viewer().may(right):
        st.caption(literal(f"Your role does not include {right.value}."))
        return False
    if not writable():
        st.caption("Nothing can be decided here: the dashboard was started without `--intake`\\.")
        return False
    return True


def triage_form(alerts: list[dict[str, Any]], form: str) -> None:
    """Acknowledge, resolve, dismiss or reopen alerts, with owner, verdict and comment."""
    if not alerts or not may_decide(Right.TRIAGE):
        return
    with st.form(form, border=True):
        step = st.selectbox("Decide", [*TRIAGE], key=f"{form}-step")
        owner = st.text_input("Owner", key=f"{form}-owner", max_chars=MAX_TITLE, placeholder="as it is")
        verdict = st.selectbox("Verdict", [NONE, *VERDICTS], key=f"{form}-verdict")
        comment = st.text_area("Comment", key=f"{form}-comment", max_chars=MAX_TEXT, height=80)
        if not st.form_submit_button(f"Save for {len(alerts)} alert(s)", type="primary"):
            return
    saved = 0
    for one in alerts:
        try:
            event = triage(
                one,
                str(step),
                viewer().user,
                nonce(f"{form}-{one['alert_id']}"),
                owner=owner,
                verdict=None if verdict in (None, NONE) else verdict,
                comment=comment,
            )
        except LedgerError as error:
            st.error(literal(error))
            return
        if not hand_over(event):
            st.warning(literal(f"{one['title'] or one['rule_id']}, {one['about']}: not saved."))
            continue
        saved += 1
        done(f"{form}-{one['alert_id']}")
        pending = st.session_state.setdefault("pending", {})
        pending.setdefault(one["alert_id"], []).append(event["event_id"])
    if saved:
        st.success(
            f"{saved} of {len(alerts)} saved, not sealed yet\\. It shows when the page is refreshed\\."
        )


def pending_of(alert_id: str, sealed: set[str]) -> int:
    """How many of this session's decisions on an alert are saved and not sealed."""
    waiting = [one for one in st.session_state.get("pending", {}).get(alert_id, ()) if one not in sealed]
    st.session_state.setdefault("pending", {})[alert_id] = waiting
    return len(waiting)


def case_form(
    form: str, tenant: str | None, *, alert_id: str | None = None, evidence: tuple[str, ...] = ()
) -> None:
    """Add an alert or events to a case, or open one with them."""
    if not may_decide(Right.TRIAGE):
        return
    open_ones = {f"{one['title'] or one['case_id']} ({one['case_id'][:8]})": one for one in ask(cases)
                 if one["state"] == "open"}  # fmt: skip
    with st.form(form, border=True):
        chosen = st.selectbox("Case", [NEW_CASE, *open_ones], key=f"{form}-case")
        title = st.text_input("Title of a new case", key=f"{form}-title", max_chars=MAX_TITLE)
        comment = st.text_area("Note", key=f"{form}-note", max_chars=MAX_TEXT, height=80)
        if not st.form_submit_button("Add to the case"):
            return
    one = open_ones.get(str(chosen))
    if one is None and not title.strip():
        st.error("A new case needs a title\\.")
        return
    save(
        form,
        lambda nonce: case_step(
            new_id() if one is None else one["case_id"],
            "opened" if one is None else "added",
            viewer().user,
            nonce,
            tenant=tenant,
            title=title if one is None else None,
            comment=comment,
            owner=viewer().user if one is None else None,
            alert_id=alert_id,
            evidence=evidence,
        ),
    )
