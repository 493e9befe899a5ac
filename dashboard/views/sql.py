"""SQL: one read-only statement over the views, within your tenants."""

from __future__ import annotations

import streamlit as st

from dashboard.access import Right
from dashboard.answers.decisions import written
from dashboard.frame import ask, download, page, shown_of
from ledger.query.engine import VIEWS

EXAMPLE = "SELECT decision, reason, count(*) AS n FROM decisions GROUP BY ALL ORDER BY n DESC LIMIT 50"
MAX_SHOWN = 5_000


@page("SQL", Right.ROWS)
def show() -> None:
    """Draw it."""
    st.caption("Views: " + ", ".join(f"`{name}`" for name in VIEWS))
    with st.form("sql-form"):
        text = st.text_area("Statement", st.query_params.get("q", EXAMPLE), height=160, max_chars=100_000)
        asked = st.form_submit_button("Run", icon=":material/play_arrow:")
    if asked:
        st.query_params["q"] = text
    if "q" not in st.query_params:
        return
    table = ask(written, st.query_params["q"])
    st.dataframe(table.slice(0, MAX_SHOWN), hide_index=True, alt="The answer to your statement")
    shown_of(min(MAX_SHOWN, table.num_rows), table.num_rows)
    download("answer", table)
