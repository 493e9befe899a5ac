"""One event in full, with its proof."""

from __future__ import annotations

import orjson
import streamlit as st

from dashboard.access import Right
from dashboard.answers.decisions import event, evidence
from dashboard.frame import ask, page, pinned, surroundings, taken_along, viewer
from dashboard.navigation import link
from dashboard.wording import literal, moment
from ledger.format.manifest import with_instants
from ledger.query.evidence_bundle import verify_bundle


@page("Event", Right.ROWS)
def show() -> None:
    """Draw it."""
    source, event_id = st.query_params.get("of", ""), st.query_params.get("id", "")
    if not source or not event_id:
        st.info("Open an event from a table, or paste its id into the search box\\.")
        return
    rows = ask(event, source, event_id)
    if not rows:
        st.warning("No event of this name is in your tenants at this size of the ledger\\.")
        st.code(f"{source}#{event_id}", language=None, wrap_lines=True)
        return
    row = rows[0]
    what = " ".join(str(row[name]) for name in ("kind", "decision", "action", "resource") if name in row)
    st.markdown(literal(f"{what}, at {moment(row['time'])}."))
    st.code(f"{source}#{event_id}", language=None, wrap_lines=True)
    if len(rows) > 1:
        st.warning(f"{len(rows)} different contents were sealed under this id\\.")
    proof(f"{source}#{event_id}")
    if "trace_id" in row:
        link("trace", "Its trace", icon=":material/account_tree:", trace=row["trace_id"])
    for one in rows:
        st.code(
            orjson.dumps(with_instants(one), option=orjson.OPT_INDENT_2).decode(),
            language="json",
            wrap_lines=True,
        )


def proof(*ids: str) -> None:
    """The badge of a proof that was checked here and now, and the bundle to take along."""
    last = surroundings().verifier.last
    if last is not None and not last.ok:
        st.badge("unverified: the ledger is damaged", icon=":material/gpp_bad:", color="red")
        return
    bundle = ask(evidence, ids)
    proved = verify_bundle(bundle, surroundings().pool.newest().state.key.text)
    sizes = {checkpoint.size for checkpoint in proved.checkpoints}
    st.badge(
        f"proved: {len(proved.events)} event(s) at checkpoint {max(sizes):,}",
        icon=":material/verified:",
        color="green",
    )
    if viewer().tenants is not None:
        st.caption(
            "The file also shows the hashes of other tenants' rows in the same segment, and their number\\."
        )
    st.download_button(
        "Evidence bundle",
        taken_along("evidence", f"{len(ids)} events, {ids[0]} first", lambda: bundle),
        f"evidence-at-{pinned()}.json",
        "application/json",
        on_click="ignore",
        icon=":material/download:",
        key=f"bundle-{ids[0]}",
    )
