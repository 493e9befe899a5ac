"""Exceptions: authority beyond the policy that stands, ends soon, or is overdue."""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboard.access import Right
from dashboard.answers.reviews import review_state
from dashboard.frame import (
    ask,
    choose,
    download,
    empty_ledger,
    everything,
    page,
    show_table,
    shown_of,
    viewer,
)
from dashboard.navigation import link
from dashboard.people import MAX_TEXT, review
from dashboard.views.deciding import may_decide, save
from dashboard.wording import literal, moment
from detections.defaults import REVIEW_OUTCOMES

SOON = timedelta(days=7)


@page("Exceptions and access review", Right.ROWS)
def show() -> None:
    """Draw it."""
    if empty_ledger(everything()):
        return
    found = ask(review_state)
    now = found["now"]
    st.markdown(literal(_sentence(found, now)))
    _campaign(found["campaign"], now)
    _exceptions(found["exceptions"], now)
    _grants(found["grants"], now)
    _stale(found["stale"])


def _sentence(found: dict[str, Any], now: datetime) -> str:
    active = [one for one in found["exceptions"] if one["state"] == "active"]
    soon = [one for one in active if one["expires_at"] is not None and one["expires_at"] - now <= SOON]
    overdue = sum(one["overdue"] for one in found["exceptions"])
    drill = found["last_drill"]
    drilled = (
        "no drill was ever declared" if drill is None else f"the last drill was {(now - drill).days} days ago"
    )
    return (
        f"{len(active)} exceptions active, {len(soon)} of them end within a week, {overdue} overdue; "
        f"{len(found['grants'])} grants stand; {drilled}."
    )


def _campaign(campaign: dict[str, Any], now: datetime) -> None:
    rows = campaign["rows"]
    st.subheader(f"Campaign of {campaign['name']}", anchor=False)
    left = (campaign["due"] - now).days
    st.caption(
        literal(f"Due in {left} days, {campaign['done']} of {len(rows)} done; use is counted over 90 days.")
    )
    if not rows:
        st.caption("Nothing stands that needs a review\\.")
        return
    st.progress(campaign["done"] / len(rows))
    chosen = choose(
        rows,
        {
            "what": lambda row: row["target"],
            "for": lambda row: row["what"],
            "owner": lambda row: row["owner"] or "unowned",
            "ends": lambda row: moment(row["ends"]),
            "uses": lambda row: row["uses"],
            "last used": lambda row: moment(row["last_used"]),
            "reviewed": lambda row: f"{row['outcome']} by {row['by']}" if row["outcome"] else "to do",
        },
        key="campaign",
        alt="What stands and needs a review in this month",
    )
    if chosen is not None:
        _review(rows[chosen], campaign["name"])


def _review(row: dict[str, Any], campaign: str) -> None:
    if not may_decide(Right.REVIEW):
        return
    form = f"review-{row['target']}"
    with st.form(form):
        st.text(row["target"])
        outcome = st.selectbox("Outcome", [*REVIEW_OUTCOMES])
        reason = st.text_area("Reason", max_chars=MAX_TEXT, height=80)
        if not st.form_submit_button("Save the review", type="primary"):
            return
    saved = save(
        form,
        lambda nonce: review(
            row["target"],
            str(outcome),
            viewer().user,
            nonce,
            campaign=campaign,
            tenant=row["tenant"],
            comment=reason,
            owner=row["owner"],
        ),
    )
    if saved and outcome != "kept" and row["target"].startswith("exception:"):
        st.caption("The exception itself is ended where it was given:")
        name = shlex.quote(row["target"].removeprefix("exception:"))
        st.code(f"decision-ledger issuer exception close {name}", language="sh")


def _exceptions(exceptions: list[dict[str, Any]], now: datetime) -> None:
    st.subheader("Exceptions", anchor=False)
    word = st.segmented_control(
        "Show", ["active", "ending", "overdue", "expired", "closed"], key="show", bind="query-params"
    )
    shown = [one for one in exceptions if word is None or _is(one, word, now)]
    if not shown:
        st.caption("None\\. The policy was followed, or nothing of it was logged\\.")
        return
    chosen = choose(
        shown,
        {
            "exception": lambda one: one["exception_id"],
            "state": lambda one: one["state"] + (", OVERDUE" if one["overdue"] else ""),
            "owner": lambda one: one["owner"] or "unowned",
            "for": lambda one: one["principal"] or "–",
            "reason": lambda one: one["reason"] or "none given",
            "ends": lambda one: moment(one["expires_at"]),
            "review due": lambda one: moment(one["review_due_at"]),
            "uses in 90 d": lambda one: one["uses"],
            "last used": lambda one: moment(one["last_used"]),
            "environment": lambda one: one["environment"] or "–",
        },
        key="exception-rows",
        alt="Exceptions, the overdue first",
    )
    shown_of(len(shown), len(exceptions), "exceptions")
    if chosen is not None:
        one = shown[chosen]
        link(
            "decisions",
            f"What was done under {one['exception_id']}",
            icon=":material/rule:",
            field="exception_id",
            value=one["exception_id"],
            range="all",
        )
    download("exceptions", shown)


def _is(one: dict[str, Any], word: str, now: datetime) -> bool:
    if word == "overdue":
        return bool(one["overdue"])
    if word == "ending":
        return one["state"] == "active" and one["expires_at"] is not None and one["expires_at"] - now <= SOON
    return bool(one["state"] == word)


def _grants(grants: list[dict[str, Any]], now: datetime) -> None:
    st.subheader("Delegation grants, the longest-lived first", anchor=False)
    if not grants:
        st.caption("No grant stands\\.")
        return
    show_table(
        grants,
        {
            "grant": lambda one: one["grant_id"],
            "for": lambda one: one["principal"] or "–",
            "covers": lambda one: ", ".join(one["covers"] or []),
            "approved by": lambda one: one["approved_by"] or "–",
            "since": lambda one: moment(one["opened_at"]),
            "ends": lambda one: moment(one["expires_at"]),
            "days of life": lambda one: one["days"],
            "uses in 90 d": lambda one: one["uses"],
            "last used": lambda one: moment(one["last_used"]),
        },
        alt="Grants that stand",
    )
    download("grants", grants)


def _stale(stale: list[dict[str, Any]]) -> None:
    st.subheader("Permissions that nobody used for 90 days", anchor=False)
    if not stale:
        st.caption("None was found: each held scope was used, or nothing is old enough\\.")
        return
    show_table(
        stale,
        {
            "principal": lambda one: one["principal"],
            "scope": lambda one: one["scope"],
            "last held": lambda one: moment(one["last_held"]),
            "last used": lambda one: moment(one["last_used"]),
        },
        alt="Scopes that were held and not used",
    )
    download("stale permissions", stale)
