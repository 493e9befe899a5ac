"""Which pages there are, who is offered which, and the search box above all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

import streamlit as st

from dashboard.access import Forbidden, Right, Viewer
from dashboard.frame import shared_parameters, surroundings, viewer
from dashboard.sign_in import fingerprint
from dashboard.wording import literal, moment
from ledger.errors import LedgerError


@dataclass(frozen=True, slots=True)
class Place:
    """A page: its path in the address, title, icon, what is needed to see it; `listed` in the menu."""

    path: str
    title: str
    icon: str
    right: Right
    listed: bool = True

    def page(self) -> st.Page:
        """As streamlit wants it."""
        return st.Page(self._show, title=self.title, icon=f":material/{self.icon}:", url_path=self.path,
                       default=self.path == "overview")  # fmt: skip

    @property
    def _show(self) -> Callable[[], None]:
        def show() -> None:
            import_module(f"dashboard.views.{self.path}").show()

        show.__name__ = self.path
        return show


_ICON: Final = Path(__file__).with_name("icon.svg")
# Streamlit's colours of code stand out from their ground by less than 4.5 to 1; weight tells as much.
_STYLE: Final = """<style>
[data-testid=stMainBlockContainer] { padding-top: 2.5rem; }
[data-testid=stCode] .token, [data-testid=stCaptionContainer] code { color: inherit !important; }
[data-testid=stCode] .token.keyword { font-weight: 600; }
</style>"""
PLACES: Final = (
    Place("overview", "Overview", "dashboard", Right.OVERVIEW),
    Place("alerts", "Alerts", "notifications", Right.ROWS),
    Place("alert", "Alert", "notification_important", Right.ROWS, listed=False),
    Place("decisions", "Decisions", "rule", Right.ROWS),
    Place("event", "Event", "article", Right.ROWS, listed=False),
    Place("trace", "Trace", "account_tree", Right.ROWS),
    Place("cases", "Cases", "work", Right.ROWS),
    Place("identities", "Identities", "hub", Right.ROWS),
    Place("exceptions", "Exceptions", "event_busy", Right.ROWS),
    Place("sql", "SQL", "code", Right.ROWS),
    Place("integrity", "Integrity", "verified_user", Right.INTEGRITY),
    Place("weekly", "Weekly report", "summarize", Right.OVERVIEW),
    Place("audit", "Who looked", "visibility", Right.ACCESS_AUDIT),
    Place("search", "Search", "search", Right.ROWS, listed=False),
)  # fmt: skip
BOUND: Final = frozenset({"range", "tenant", "environment", "source", "field", "value", "trace", "q"})
"""Parameters that are a widget's, on the page that they lead to."""
BY_PATH: Final = {place.path: place for place in PLACES}


def link(path: str, label: str, *, icon: str | None = None, **parameters: str | None) -> None:
    """A link to a page that keeps the filters and the pin; `label` is shown as text."""
    if st.session_state.get("path") == path:
        # Streamlit's link to the page that is open leaves the address as it is.
        st.button(literal(label), key=f"{path} {sorted(parameters.items())}", icon=icon, type="tertiary",
                  on_click=_turn, args=(parameters,))  # fmt: skip
        return
    st.page_link(
        BY_PATH[path].page(), label=literal(label), icon=icon, query_params=shared_parameters(**parameters)
    )


def _turn(parameters: Mapping[str, str | None]) -> None:
    """Show the page that is open with other parameters."""
    for name, value in parameters.items():
        if name in BOUND:
            st.session_state[name] = value
        elif value is not None:
            st.query_params[name] = value


def go(path: str, **parameters: str) -> NoReturn:
    """Leave for another page at once, before what it shows is drawn here."""
    for name, value in parameters.items():
        if name in BOUND:
            # Streamlit lets nobody but the widget write its part of the address.
            st.session_state[name] = value
    st.switch_page(
        BY_PATH[path].page(),
        query_params={name: one for name, one in parameters.items() if name not in BOUND},
    )


def show() -> None:
    """One run of the app."""
    # A symbol of the name would be fetched from elsewhere.
    st.set_page_config("Decision Ledger", _ICON, layout="wide")
    st.html(_STYLE)
    try:
        who = viewer()
    except LedgerError as error:
        # No page is known to somebody who may see none: st.navigation gets a page that says so.
        st.navigation([st.Page(_door(error), title="Sign in", url_path="sign-in")], position="hidden").run()
        return
    current = st.navigation([place.page() for place in PLACES], position="hidden")
    st.session_state["path"] = current.url_path or "overview"
    with st.sidebar:
        st.markdown("**Decision Ledger**")
        if who.may(Right.ROWS):
            _search_box()
        for place in PLACES:
            if place.listed and who.may(place.right):
                st.page_link(place.page(), query_params=shared_parameters())
        _badge()
        _person(who)
    current.run()


def _door(error: LedgerError) -> Callable[[], None]:
    def door() -> None:
        st.title("Decision Ledger", anchor=False)
        if isinstance(error, Forbidden):
            st.error(literal(error), icon=":material/lock:")
            if st.button("Sign out"):
                _sign_out()
            return
        st.markdown(literal(error.message))
        if st.button("Sign in", type="primary", icon=":material/login:"):
            st.login()

    return door


def _person(who: Viewer) -> None:
    own = surroundings()
    st.caption(f"Reading as {literal(who.user.rpartition('#')[2])}\\. Times are UTC\\.")
    if own.sign_in is None:
        st.caption("Nobody signs in: this dashboard serves this machine alone\\.")
    else:
        tenants = "all tenants" if who.tenants is None else ", ".join(sorted(who.tenants))
        st.caption(literal(f"{', '.join(sorted(who.roles))} of {tenants}"))
        if st.button("Sign out", icon=":material/logout:"):
            _sign_out()
    if own.intake is None:
        st.caption("It only reads: what you look at is not recorded, and nothing can be decided here\\.")


def _sign_out() -> None:
    surroundings().ended.add(fingerprint(st.user.to_dict()))
    st.logout()


def _search_box() -> None:
    with st.form("search-box", border=False):
        text = st.text_input("Search", placeholder="any id, address, agent or ticket", key="search-text")
        if st.form_submit_button("Search", width="stretch") and text.strip():
            go("search", q=text.strip())


def _badge() -> None:
    """Whether the ledger is verified, by our own last run."""
    own = surroundings()
    last = own.verifier.last
    try:
        size = own.pool.newest().size
    except LedgerError:
        return
    if own.verifier.running and last is None:
        st.badge("being verified", icon=":material/hourglass_top:", color="gray")
    elif last is None:
        st.badge("not verified", icon=":material/help:", color="gray")
    elif last.ok:
        st.badge(f"verified to entry {last.size:,}", icon=":material/verified:", color="green")
        behind = f", {size - last.size:,} entries since" if size > last.size else ""
        st.caption(f"{literal(moment(last.when))}{behind}, by no witness")
    else:
        st.badge(f"damaged, {len(last.damage)} findings", icon=":material/gpp_bad:", color="red")
