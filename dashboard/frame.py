"""What every page shares: its ledger and viewer, the filters, how it asks, and how tables and errors look."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import orjson
import polars as pl
import streamlit as st

from dashboard.access import Forbidden, Right, Viewer, local_viewer
from dashboard.answers.activity import Activity, activity
from dashboard.answers.filters import RANGES, Filters, named_range
from dashboard.handing_over import Intake, read_token
from dashboard.people import access, again
from dashboard.pool import Pool
from dashboard.settings import DashboardSettings
from dashboard.sign_in import EndedSignIns, SignedOut, SignIn, fingerprint, read_sign_in, viewer_of
from dashboard.statements import Question, Statements
from dashboard.verifying import Verifier
from dashboard.wording import literal, moment
from ledger.errors import DamageError, LedgerError, NotALedger
from ledger.format.manifest import Append, instant
from ledger.query.engine import QueryLimits
from ledger.reader import Ledger
from ledger.storage.user_folders import config_folder

P = ParamSpec("P")
T = TypeVar("T")
MEMORY_BYTES: Final = 1 << 30
RESULT_BYTES: Final = 64 << 20
"""What one answer may hold: it is held in memory, and sent to a browser."""
POLL_SECONDS: Final = 0.1
SHARED: Final = ("range", "from", "until", "tenant", "environment", "source", "at")
"""Parts of a link that go along from page to page."""
ANY: Final = "all"


@dataclass(slots=True)
class Surroundings:
    """What one process holds for all of its sessions."""

    settings: DashboardSettings
    pool: Pool
    statements: Statements
    verifier: Verifier
    intake: Intake | None
    sign_in: SignIn | None
    ended: EndedSignIns


@st.cache_resource(show_spinner=False)
def surroundings() -> Surroundings:
    """The process's pool, statements and verifier."""
    settings = DashboardSettings.from_environment()
    pool = Pool(
        settings.ledger, settings.vkey, QueryLimits(memory_bytes=MEMORY_BYTES, result_bytes=RESULT_BYTES)
    )
    verifier = Verifier(pool)
    verifier.repeat(settings.verify_minutes)
    intake = None
    if settings.intake is not None and settings.intake_token_file is not None:
        intake = Intake(settings.intake, read_token(Path(settings.intake_token_file)))
    sign_in = None if settings.sign_in is None else read_sign_in(Path(settings.sign_in))
    ended = EndedSignIns(config_folder() / "dashboard" / "ended-sign-ins")
    return Surroundings(settings, pool, Statements(pool), verifier, intake, sign_in, ended)


def viewer() -> Viewer:
    """Who looks, judged anew each time.

    Raises:
        SignedOut: nobody is signed in, or no longer.
        Forbidden: whoever is may see nothing.
    """
    own = surroundings()
    if own.sign_in is None:
        return local_viewer()
    if not st.user.is_logged_in:
        raise SignedOut("Nobody is signed in.", "Sign in.")
    claims = st.user.to_dict()
    if fingerprint(claims) in own.ended:
        raise SignedOut("This sign-in was ended.", "Sign in again.")
    return viewer_of(claims, own.sign_in, time.time())


def pinned() -> int:
    """The size of the log that this session reads on all pages: of its link, else the head it began with."""
    pool = surroundings().pool
    if "head" not in st.session_state:
        # Who begins sees what is newest, such as what they decided a moment ago.
        st.session_state["head"] = pool.newest(look=True).size
    head, floor = pool.newest().size, pool.floor()
    if st.session_state["head"] < floor:
        # Rows were taken away since: nobody goes on reading them, nor answers that were made of them.
        st.session_state["head"] = head
        surroundings().statements.forget_below(floor)
    asked = st.query_params.get("at")
    if asked is not None:
        if asked.isdecimal() and 0 < int(asked) <= head:
            return int(asked)
        st.warning(f"The ledger cannot be read as of {literal(asked)} entries; this is its head, {head}.")
        del st.query_params["at"]
    at: int = st.session_state["head"]
    return at


def ask(question: Question[P, T], *args: P.args, **more: P.kwargs) -> T:
    """The answer to a question, worked out beside the page; it ends when the page is left.

    Raises as the question does.
    """
    own, who, at = surroundings(), viewer(), pinned()
    kept = own.statements.kept(who, at, question, *args, **more)
    if kept is not None:
        found: T = kept
        return found
    asked = own.statements.ask(who, at, question, *args, **more)
    place, begun = st.empty(), time.monotonic()
    try:
        while not asked.wait(POLL_SECONDS):
            seconds = time.monotonic() - begun
            if seconds > 0.5:  # what is quicker needs no word
                # Drawing is also where streamlit ends a page that was left.
                place.caption("Waiting for a free core…" if asked.waiting else f"Working, {seconds:.0f} s…")
        answer: T = asked.future.result()
        return answer
    finally:
        if not asked.done:
            asked.stop()
        place.empty()


def page(title: str, right: Right) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A page's frame: its title, banners of what is wrong, and errors as sentences with what to do."""

    def framed(draw: Callable[[], None]) -> Callable[[], None]:
        @wraps(draw)
        def show() -> None:
            st.title(title, anchor=False)
            try:
                viewer().require(right)
                _note_view()
                _banners()
                draw()
            except LedgerError as error:
                _refusal(error)

        return show

    return framed


def _note_view() -> None:
    """Have it recorded that somebody looks at this page in this state; once, however often it is drawn."""
    intake = surroundings().intake
    state = (here(), tuple(sorted(st.query_params.items())))
    if intake is None or st.session_state.get("noted") == state:
        return
    intake.looked(access(viewer(), "view", here(), pinned(), dict(st.query_params)))
    st.session_state["noted"] = state


def here() -> str:
    """The path of the page that is shown."""
    path: str = st.session_state.get("path", "overview")
    return path


def taken_along(action: str, what: str, make: Callable[[], bytes]) -> Callable[[], bytes]:
    """What a download gives: made once it is recorded, durably and first, that somebody takes it along.

    Called while the page is drawn: when the button is pressed there is no page to ask who presses it.
    """
    intake, who, until = surroundings().intake, viewer(), _until()
    event = access(who, action, here(), pinned(), {**st.query_params, "what": what})

    def taken() -> bytes:
        if time.time() >= until:
            raise SignedOut("The sign-in has ended.", "Sign in again.")
        if intake is not None:
            # Raises where it cannot be recorded: then nothing is handed out.
            intake.hand_over([again(event)])
        return make()

    return taken


def _until() -> float:
    """When the present sign-in ends at the latest."""
    expires = st.user.to_dict().get("exp") if surroundings().sign_in is not None else None
    return float(expires) if isinstance(expires, int | float) else math.inf


def hand_over(event: dict[str, Any]) -> bool:
    """Hand over what a person did; whether it is durable. Where not, the page says why."""
    intake = surroundings().intake
    if intake is None:
        st.error("This dashboard only reads: it was started without `--intake`\\.")
        return False
    try:
        intake.hand_over([event])
    except LedgerError as error:
        st.error(literal(error), icon=":material/cloud_off:")
        return False
    return True


def writable() -> bool:
    """Whether what people do can be saved at all."""
    return surroundings().intake is not None


def _refusal(error: LedgerError) -> None:
    match error:
        case Forbidden():
            st.error(literal(error), icon=":material/lock:")
        case NotALedger():
            st.error(literal(error.message), icon=":material/error:")
            st.caption("Make one, or start the dashboard with another place:")
            st.code(
                "decision-ledger init --origin example.org/agents\ndecision-ledger dashboard --ledger PLACE",
                language="sh",
            )
        case DamageError():
            st.error(f"The ledger is damaged\\. {literal(error)}", icon=":material/gpp_bad:")
            st.code("decision-ledger verify", language="sh")
        case _:
            st.error(literal(error), icon=":material/error:")


def empty_ledger(found: Activity) -> bool:
    """Say what to do where there are no events; whether that is so."""
    if found.newest is not None:
        return False
    st.info("The ledger holds no events yet\\. Bring some in:", icon=":material/inbox:")
    st.code(
        "decision-ledger ingest file decisions.jsonl --format native\n"
        "decision-ledger ingest kafka --bootstrap HOST:PORT --topic TOPIC",
        language="sh",
    )
    return True


def filter_bar(found: Activity) -> Filters:
    """The filters that stand in the same place on every page, and in its address."""
    columns = st.columns(4)
    named = columns[0].selectbox("Time", [*RANGES], index=1, key="range", bind="query-params")
    equal = []
    for place, column in zip(columns[1:], ("tenant", "environment", "source"), strict=True):
        words = [ANY, *found.words(column)]
        label = {"tenant": "Tenant", "environment": "Environment", "source": "Source"}[column]
        value = place.selectbox(label, words, key=column, bind="query-params")
        if value and value != ANY:
            equal.append((column, value))
    since, until = named_range(named or "7 d", found.last) if found.last is not None else (None, None)
    exact_since, exact_until = _exact_times()
    if exact_since is not None or exact_until is not None:
        since, until = exact_since, exact_until
    return Filters(since, until, tuple(equal))


def brushed(selection: Mapping[str, Any] | None) -> None:
    """Take the part of a picture's time axis that was brushed as the exact times of this page."""
    bounds = (selection or {}).get("brush", {}).get("time")
    if bounds and len(bounds) == 2 and bounds != st.session_state.get("brushed"):  # from and until
        st.session_state["brushed"] = bounds
        # The widgets stand above: they take it when the page is drawn anew.
        st.session_state["brush-waits"] = [
            datetime.fromtimestamp(one / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S") for one in bounds
        ]
        st.rerun()


def _exact_times() -> tuple[datetime | None, datetime | None]:
    """Times that were typed or brushed, in UTC; they go before the named range."""
    waiting = st.session_state.pop("brush-waits", None)
    if waiting is not None:
        st.session_state["from"], st.session_state["until"] = waiting
    with st.expander("Exact times", icon=":material/schedule:"):
        left, right = st.columns(2)
        texts = [
            place.text_input(
                label, key=key, bind="query-params", max_chars=40, placeholder="2026-11-23 12:00:00"
            )
            for place, label, key in ((left, "From (UTC)", "from"), (right, "Until (UTC)", "until"))
        ]
    found: list[datetime | None] = []
    for text in texts:
        try:
            time = datetime.fromisoformat(text.strip()) if text and text.strip() else None
        except ValueError:
            st.warning(f"{literal(text)} is no time\\. Write it as 2026\\-11\\-23 12\\:00\\:00\\.")
            time = None
        found.append(time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC))
    return found[0], found[1]


def everything() -> Activity:
    """Counts of all that happened."""
    return ask(activity)


def shared_parameters(**more: str | None) -> dict[str, str]:
    """The parameters of a link: what all pages share, and `more`."""
    found = {name: st.query_params[name] for name in SHARED if name in st.query_params}
    return {**found, **{name: value for name, value in more.items() if value is not None}}


def as_rows(table: Any) -> list[dict[str, Any]]:
    """Rows of an Arrow or polars table."""
    if isinstance(table, list):
        return table
    rows: list[dict[str, Any]] = table.to_dicts() if isinstance(table, pl.DataFrame) else table.to_pylist()
    return rows


def sql_of(name: str, statement: str, params: Sequence[Any] = (), rows: Any = None) -> None:
    """The statement behind a table or picture, one click away, with its rows as CSV and JSON."""
    with st.expander(f"SQL of {name}", icon=":material/code:"):
        st.code(statement, language="sql", wrap_lines=True)
        if params:
            st.caption("with " + ", ".join(literal(_shown(one)) for one in params))
        if rows is not None:
            download(name, rows)


def download(name: str, rows: Any) -> None:
    """Buttons that give rows as CSV and as JSON."""
    held = as_rows(rows)
    columns = st.columns([1, 1, 4])
    forms = (("CSV", "text/csv", _csv), ("JSON", "application/json", _json))
    for place, (form, kind, make) in zip(columns, forms, strict=False):
        place.download_button(
            form,
            taken_along("export", f"{name} as {form}, {len(held)} rows", partial(make, held)),
            f"{name}.{form.lower()}",
            kind,
            key=f"download-{name}-{form.lower()}",
            on_click="ignore",
        )


def shown_of(shown: int, total: int, what: str = "rows") -> None:
    """How many of how many there are."""
    st.caption(f"{shown:,} of {total:,} {what}")


def _shown(value: Any) -> str:
    return moment(value) if isinstance(value, datetime) else str(value)


def _json(rows: list[dict[str, Any]]) -> bytes:
    plain = [
        {name: instant(one) if isinstance(one, datetime) else one for name, one in row.items()}
        for row in rows
    ]
    return orjson.dumps(plain, option=orjson.OPT_INDENT_2, default=str)


def _csv(rows: list[dict[str, Any]]) -> bytes:
    flat = [
        {
            name: instant(one)
            if isinstance(one, datetime)
            else orjson.dumps(one).decode()
            if isinstance(one, list | dict)
            else one
            for name, one in row.items()
        }
        for row in rows
    ]
    out = io.BytesIO()
    pl.DataFrame(flat, infer_schema_length=None).write_csv(out)
    return out.getvalue()


def _banners() -> None:
    own = surroundings()
    newest, at = own.pool.newest(), pinned()
    verified = own.verifier.last
    if verified is not None and not verified.ok:
        st.error(
            f"The ledger is damaged \\({len(verified.damage)} findings at entry {verified.size}\\)\\. "
            "What is shown here is unverified; evidence and reports are refused\\.",
            icon=":material/gpp_bad:",
        )
    if newest.size > at:
        new = _new_events(newest, at)
        if new:
            left, right = st.columns([5, 1])
            left.caption(f"{new:,} new events since this page was read, at entry {at}.")
            if right.button("Refresh", icon=":material/refresh:", key="refresh"):
                st.session_state["head"] = newest.size
                if "at" in st.query_params:
                    del st.query_params["at"]
                st.rerun()


def _new_events(newest: Ledger, at: int) -> int:
    """Events that entries above `at` sealed; what people looked at does not count."""
    from detections.sealed_log import SealedLog  # noqa: PLC0415  # only where there is something new

    return sum(
        sum(ref.rows - ref.kinds.get("access", 0) for ref in entry.segments)
        for entry in SealedLog.of(newest).parsed(at, newest.size)
        if isinstance(entry, Append)
    )


def each(rows: Sequence[T], columns: Mapping[str, Callable[[T], Any]]) -> pl.DataFrame:
    """A table for people: one column per heading, each worked out from the row."""
    return pl.DataFrame(
        {heading: [make(row) for row in rows] for heading, make in columns.items()}, strict=False
    )


def show_table(rows: Sequence[T], columns: Mapping[str, Callable[[T], Any]], *, alt: str) -> None:
    """A table for people, with what it holds in words."""
    st.dataframe(each(rows, columns), hide_index=True, alt=alt)


def choose(rows: Sequence[T], columns: Mapping[str, Callable[[T], Any]], *, key: str, alt: str) -> int | None:
    """A table of which one row can be chosen: its number, or None."""
    event = st.dataframe(
        each(rows, columns),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        alt=alt,
    )
    return event.selection.rows[0] if event.selection.rows else None
