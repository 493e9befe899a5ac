"""Identities: who acts, who answers for it, and what is shared or owned by nobody."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard import charts
from dashboard.access import Right
from dashboard.answers.identity import edges, identities, narrowed
from dashboard.frame import ask, choose, download, empty_ledger, everything, page, shown_of
from dashboard.navigation import link
from dashboard.wording import literal
from detections.identities import FLAGS


@page("Identities", Right.ROWS)
def show() -> None:
    """Draw it."""
    if empty_ledger(everything()):
        return
    people = ask(identities)
    st.markdown(literal(_sentence(people)))
    about = st.query_params.get("about")
    _map(people, about)
    _table(people, about)


def _sentence(people: list[dict[str, Any]]) -> str:
    counted = {flag: sum(flag in one["flags"] for one in people) for flag in FLAGS}
    return (
        f"{len(people)} identities: {counted['unowned']} without an owner, {counted['shared']} in several "
        f"environments, {counted['static']} with static credentials, {counted['dormant']} dormant."
    )


def _map(people: list[dict[str, Any]], about: str | None) -> None:
    found, left_out = narrowed(ask(edges), about)
    if not found:
        st.caption("No credential was issued and no decision made for anybody yet\\.")
        return
    flags = {one["principal"]: one["flags"] for one in people}
    columns = st.columns(4)
    for place, word in zip(columns, ("People", "Issuers", "Agents", "Tools"), strict=True):
        place.caption(word)
    event = st.altair_chart(
        charts.identity_map(found, flags, st.context.theme.type),
        on_select="rerun",
        key="map",
        width="stretch",
        selection_mode="node",
        alt=f"{len(found)} ways from people through issuers and agents to tools; the table holds the same.",
    )
    if left_out:
        st.caption(
            literal(
                "Not drawn: "
                + ", ".join(f"{n} more {column}s" for column, n in left_out.items())
                + ". Choose one below to see its neighbours."
            )
        )
    picked = event.selection.get("node", []) if event and event.selection else []
    if picked and picked[0].get("name") != about:
        st.query_params["about"] = picked[0]["name"]
        st.rerun()
    if about is not None and st.button(f"Show all again, not only {literal(about)}", icon=":material/close:"):
        del st.query_params["about"]
        st.rerun()


def _table(people: list[dict[str, Any]], about: str | None) -> None:
    flag = st.segmented_control("Only", [*FLAGS], key="flag", bind="query-params")
    shown = [
        one for one in people if (not flag or flag in one["flags"]) and about in (None, one["principal"])
    ]
    chosen = choose(
        shown,
        {
            "principal": lambda one: one["principal"],
            "look at": lambda one: ", ".join(one["flags"]),
            "kind": lambda one: one["kind"],
            "owner": lambda one: one["owner"] or "unowned",
            "environments": lambda one: ", ".join(one["environments"]),
            "credentials": lambda one: ", ".join(one["credential_types"]),
            "events": lambda one: one["events"],
            "first seen (UTC)": lambda one: _minute(one["first_seen"]),
            "last seen (UTC)": lambda one: _minute(one["last_seen"]),
            "unused scopes": lambda one: ", ".join(one["unused_scopes"]),
        },
        key="people",
        alt="Identities, those that need a look first",
    )
    shown_of(len(shown), len(people), "identities")
    if chosen is not None:
        one = shown[chosen]
        left, right = st.columns(2)
        with left:
            link(
                "decisions",
                f"Events of {one['principal']}",
                icon=":material/rule:",
                field="delegated_actor",
                value=one["principal"],
            )
        with right:
            link(
                "identities",
                f"Only {one['principal']} and its neighbours",
                icon=":material/hub:",
                about=one["principal"],
            )
    with st.expander("The same in the shell", icon=":material/code:"):
        st.code("decision-ledger identities list --flagged", language="sh")
        download("identities", shown)


def _minute(time: str | None) -> str:
    return "never" if time is None else f"{time[:10]} {time[11:16]}"
