"""Search: one text, everything that it is."""

from __future__ import annotations

import streamlit as st

from dashboard.access import Right
from dashboard.answers.search import Hit, search, searched
from dashboard.frame import ask, page, pinned, viewer
from dashboard.navigation import go, link
from dashboard.wording import literal, moment


@page("Search", Right.ROWS)
def show() -> None:
    """Draw it."""
    text = st.text_input(
        "Search",
        key="q",
        bind="query-params",
        max_chars=1_024,
        placeholder="any id, address, agent or ticket",
    )
    parts = st.checkbox("Also where it is only a part", key="parts", bind="query-params")
    if not text.strip():
        st.info("Paste an id, an address, an agent or a ticket\\.")
        return
    hits = ask(search, text, parts=parts)
    if not hits:
        tenants = viewer().tenants
        where = "all tenants" if tenants is None else ", ".join(sorted(tenants))
        st.warning(literal(f"Nothing is called {text.strip()!r} up to entry {pinned():,} in {where}."))
        st.caption(
            literal(
                f"Looked at: {searched()}" + (", and parts of them." if parts else "; whole values only.")
            )
        )
        return
    if len(hits) == 1 and "stay" not in st.query_params:
        path, parameters = target(hits[0])
        go(path, **parameters)
    for hit in hits:
        left, right = st.columns([3, 2])
        path, parameters = target(hit)
        with left:
            link(path, f"{hit.kind}: {hit.value}", **parameters)
        right.caption(literal(f"{hit.count:,} events, last {moment(hit.last_seen)}"))


def target(hit: Hit) -> tuple[str, dict[str, str]]:
    """Where one lands."""
    if hit.column == "trace_id":
        return "trace", {"trace": hit.value}
    if hit.column == "alert_id":
        return "alert", {"id": hit.value}
    if hit.column == "event_id" or hit.count == 1:
        return "event", {"of": hit.source, "id": hit.event_id}
    return "decisions", {"field": hit.column, "value": hit.value, "range": "all"}
