"""SQL: one read-only statement over the views, within your tenants; queries that are worth keeping."""

from __future__ import annotations

import streamlit as st

from dashboard.access import Right
from dashboard.answers.cases import saved_queries
from dashboard.answers.decisions import written
from dashboard.drafts import rule_draft
from dashboard.frame import ask, download, page, shown_of, viewer
from dashboard.navigation import link
from dashboard.people import MAX_TITLE, new_id, saved_query
from dashboard.views.deciding import may_decide, save
from dashboard.wording import literal, moment
from ledger.query.engine import VIEWS

EXAMPLE = "SELECT decision, reason, count(*) AS n FROM decisions GROUP BY ALL ORDER BY n DESC LIMIT 50"
MAX_SHOWN = 5_000


@page("SQL", Right.ROWS)
def show() -> None:
    """Draw it."""
    st.caption("Views: " + ", ".join(f"`{name}`" for name in VIEWS))
    with st.form("sql-form"):
        text = st.text_area(
            "Statement", st.query_params.get("statement", EXAMPLE), height=160, max_chars=10_000
        )
        asked = st.form_submit_button("Run", icon=":material/play_arrow:")
    if asked:
        st.query_params["statement"] = text
    if "statement" in st.query_params:
        _answer(st.query_params["statement"])
    _saved()


def _answer(statement: str) -> None:
    table = ask(written, statement)
    st.dataframe(table.slice(0, MAX_SHOWN), hide_index=True, alt="The answer to your statement")
    shown_of(min(MAX_SHOWN, table.num_rows), table.num_rows)
    download("answer", table)
    with st.expander("Keep this query", icon=":material/bookmark:", key="keep-query", on_change="rerun"):
        if may_decide(Right.TRIAGE):
            _keep(statement)
    with st.expander("Make a rule of it", icon=":material/alarm:"):
        st.caption(
            "A draft with empty tests: complete it, try it with `detect test`, and seal it with `config load "
            "rules`; it begins in staging\\. Nothing runs in the dashboard\\."
        )
        draft = rule_draft("saved-query", statement)
        st.code(draft, language="yaml")
        st.download_button(
            "Draft of the rule", draft, "saved-query.yml", "application/yaml", on_click="ignore"
        )


def _keep(statement: str) -> None:
    with st.form("keep"):
        title = st.text_input("Title", max_chars=MAX_TITLE)
        if not st.form_submit_button("Keep"):
            return
    if not title.strip():
        st.error("A kept query needs a title\\.")
        return
    tenants = viewer().tenants
    save(
        "keep",
        lambda nonce: saved_query(
            new_id(),
            title,
            statement,
            viewer().user,
            nonce,
            tenants=None if tenants is None else sorted(tenants),
        ),
    )


def _saved() -> None:
    kept = ask(saved_queries)
    if not kept:
        return
    st.subheader("Kept queries", anchor=False)
    for one in kept[:50]:
        left, right = st.columns([3, 2])
        with left:
            link("sql", one["title"], icon=":material/bookmark:", statement=one["sql"])
        right.caption(literal(f"by {one['by'] or 'somebody'}, {moment(one['time'])}"))
    if len(kept) > 50:
        shown_of(50, len(kept), "kept queries")
