"""Integrity: is everything that was sealed still what was sealed, and did everything arrive?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.access import Right
from dashboard.answers.integrity import completeness, configurations, dead_letters, head
from dashboard.frame import ask, page, show_table, surroundings, viewer
from dashboard.wording import literal, moment, short_id, size_text


@page("Integrity", Right.INTEGRITY)
def show() -> None:
    """Draw it."""
    found = ask(head)
    place = st.container()
    _verification()
    place.markdown(literal(_sentence()))
    st.subheader("Checkpoint", anchor=False)
    columns = st.columns(4)
    columns[0].metric("Entries", f"{found['size']:,}", border=True)
    columns[1].metric("Files", f"{found['files']:,}", border=True)
    columns[2].metric("Size", size_text(found["bytes"]), border=True)
    columns[3].metric("Newest entry", f"{found['clock']:%m-%d %H:%M} UTC", border=True)
    st.code(f"{found['origin']}\n{found['size']}\n{found['root']}\n{found['vkey']}", language=None)
    st.caption(literal(_trust(found)))
    _completeness()
    _configurations()
    if viewer().may(Right.DEAD_LETTERS):
        _dead_letters()


def _trust(found: Mapping[str, Any]) -> str:
    """Who else saw the head, and what is held, in words."""
    if not found["witnesses"]:
        seen = "Witnesses: none is configured."
    else:
        behind = max(0, found["size"] - found["cosigned"])
        asked = f"a quorum of {found['quorum']} of {found['witnesses']} witnesses"
        seen = f"{found['cosigned']:,} entries are cosigned by {asked}, {behind:,} are not yet."
    names = "; ".join(found["holds"])
    held = (
        f"{found['held']} holds are in force{f': {names}' if names else ''}."
        if found["held"]
        else "No hold is in force."
    )
    return f"{seen} {held}"


def _sentence() -> str:
    last = surroundings().verifier.last
    if last is None:
        return "Not verified by this dashboard yet."
    if last.ok:
        return f"Everything sealed up to entry {last.size:,} was as it was sealed, {moment(last.when)}."
    return f"Damaged: {len(last.damage)} findings, {moment(last.when)}."


@st.fragment(run_every=1.0)
def _progress() -> None:
    verifier = surroundings().verifier
    done, of = verifier.progress
    if verifier.running:
        st.progress(done / of if of else 0.0, text=f"verifying, {done:,} of {of:,} files")
    else:
        st.rerun()


def _verification() -> None:
    verifier = surroundings().verifier
    if st.button("Verify everything now", icon=":material/verified_user:", disabled=verifier.running):
        verifier.start()
        st.rerun()
    if verifier.running:
        _progress()
    if verifier.failure:
        st.error(literal(verifier.failure))
    last = verifier.last
    if last is None:
        return
    for findings, word in ((last.damage, "damage"), (last.listed, "noted, no damage")):
        if findings:
            show_table(
                findings,
                {
                    "what": lambda one: one.kind,
                    "where": lambda one: one.where,
                    "finding": lambda one: one.message,
                },
                alt=f"Findings: {word}",
            )


def _completeness() -> None:
    st.subheader("Did everything arrive?", anchor=False)
    found = ask(completeness)
    st.caption(
        literal(
            f"Everything that sources had sent by {moment(found['settle_clock'])} was read; "
            f"the ledger's clock is at {moment(found['ledger_clock'])}. "
            f"{found['expired']:,} segments expired by their class, {found['erased']:,} rows were erased."
        )
    )
    show_table(
        found["sources"],
        {
            "source": lambda row: row["source"],
            "events": lambda row: row["events"],
            "missing": lambda row: "not provable" if row["missing"] is None else f"{row['missing']:,}",
            "estimated": lambda row: "-" if row["estimated"] is None else f"about {row['estimated']:,}",
            "found by": lambda row: "; ".join(row["by"]),
            "provable": lambda row: row["provable"],
            "first": lambda row: moment(row["first_seen"]),
            "last": lambda row: moment(row["last_seen"]),
        },
        alt="Sources, with what is missing by their own numbers",
    )
    show_table(
        found["partitions"],
        {
            "topic": lambda row: row["topic"],
            "partition": lambda row: row["partition"],
            "read up to": lambda row: row["next"],
            "lost unread": lambda row: row["lost"],
            "state": lambda row: row["state"],
        },
        alt="Partitions, with how far each was read",
    )


def _configurations() -> None:
    st.subheader("Sealed configurations", anchor=False)
    rows = ask(configurations)
    if not rows:
        st.caption("None\\. Rules that come with the product are used; `config load` seals your own\\.")
        return
    show_table(
        rows,
        {
            "entry": lambda row: row["entry"],
            "time": lambda row: moment(row["time"]),
            "name": lambda row: row["name"],
            "SHA-256": lambda row: short_id(row["sha256"]),
        },
        alt="Sealed configurations, the newest first",
    )


def _dead_letters() -> None:
    st.subheader("Dead letters", anchor=False)
    found = ask(dead_letters)
    if not found["counts"]:
        st.caption("None: every message was read\\.")
        return
    st.text(", ".join(f"{row['n']:,} {row['status']}" for row in found["counts"]))
    show_table(
        found["rows"],
        {
            "time": lambda row: moment(row["time"]),
            "status": lambda row: row["status"],
            "reason": lambda row: row["reason"],
            "field": lambda row: row["field"],
            "topic": lambda row: row["topic"],
            "offset": lambda row: row["record_offset"],
            "payload": lambda row: (row["payload"] or "")[:400],
        },
        alt="Messages that were set aside, the newest first",
    )
    st.code("decision-ledger deadletters list", language="sh")
