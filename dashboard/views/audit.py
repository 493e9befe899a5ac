"""Who looked: the audit of those who look at others."""

from __future__ import annotations

import streamlit as st

from dashboard.access import Right
from dashboard.answers.audit import looked
from dashboard.answers.filters import RANGES, Filters, named_range
from dashboard.frame import ask, download, everything, page, show_table, shown_of
from dashboard.wording import literal, moment


@page("Who looked", Right.ACCESS_AUDIT)
def show() -> None:
    """Draw it."""
    found = everything()
    named = st.selectbox("Time", [*RANGES], index=1, key="range", bind="query-params")
    who = st.text_input("Person", key="person", bind="query-params", max_chars=1_024)
    since, until = named_range(named or "7 d", found.newest) if found.newest is not None else (None, None)
    told = ask(looked, Filters(since, until, (("actor", who),) if who else ()))
    if not told["rows"]:
        st.info("Nobody looked at anything in this time, or the dashboard has no intake to record it\\.")
        return
    people = len({row["actor"] for row in told["counts"]})
    st.markdown(literal(f"{people} people did {told['total']:,} things."))
    show_table(
        told["counts"],
        {
            "person": lambda row: row["actor"],
            "did": lambda row: row["action"],
            "times": lambda row: row["n"],
            "last": lambda row: moment(row["last"]),
        },
        alt="What each person did, and how often",
    )
    show_table(
        told["rows"],
        {
            "time": lambda row: moment(row["time"]),
            "person": lambda row: row["actor"],
            "did": lambda row: row["action"],
            "where": lambda row: row["resource"],
            "what": lambda row: row["what"],
        },
        alt="What people looked at, the newest first",
    )
    shown_of(len(told["rows"]), told["total"], "records")
    download("who looked", told["rows"])
