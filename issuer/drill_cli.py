"""Commands that rehearse an emergency against started services: issuer drill revocation, rollback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from issuer.defaults import BASE_PORT, BLOCK_BOUND_SECONDS, DEFAULT_FOLDER, SEALED_SECONDS
from issuer.policy_cli import FolderOption
from ledger.console import JsonOption, LedgerOption, answer, open_ledger, table_text
from ledger.errors import OutsideError

if TYPE_CHECKING:
    from ledger.reader import Ledger

drill_app = typer.Typer(no_args_is_help=True, help="Drills: rehearse an emergency, and time it.")

AuthorityOption = Annotated[str, typer.Option("--live", help="The authority's URL.")]
AUTHORITY = f"http://127.0.0.1:{BASE_PORT}"

FIRST_BLOCKS = """
WITH signalled AS (
    SELECT min(time) AS told FROM events WHERE exercise = ? AND kind = 'signal'
)
SELECT pep, date_diff('microsecond', min(told), min(time)) / 1e6 AS seconds
FROM events, signalled
WHERE exercise = ? AND kind = 'decision' AND decision = 'deny' AND pep IS NOT NULL AND time >= told
GROUP BY pep ORDER BY pep
"""
"""From the signal to the first block at each enforcement point, as the ledger has it."""


@drill_app.callback()
def drill() -> None:
    """Drills: a declared exercise against started services; its events carry its id."""


@drill_app.command("revocation")
def drill_revocation(
    live: AuthorityOption = AUTHORITY,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    bound: Annotated[
        float, typer.Option(help="Seconds in which every enforcement point must block.", min=0.1)
    ] = BLOCK_BOUND_SECONDS,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a session in use; print the time to the first block per enforcement point, from the ledger.

    Example: decision-ledger issuer drill revocation --live http://127.0.0.1:9400 --state company
    """
    from issuer.revocation import revoke
    from issuer.scenarios.live import Live
    from issuer.scenarios.live_runs import revocation_drill
    from issuer.state.opening import open_state

    def take_back(sid: str) -> None:
        with open_state(folder) as recorder:
            revoke(
                recorder.db,
                recorder,
                f"session:{sid}",
                reason="emergency drill",
                by="user:operator",
                signal=True,
            )

    with Live.at(live, folder) as client:
        done = revocation_drill(client, take_back)
    with open_ledger(ledger, None) as opened:
        rows = _sealed(opened, done.id, len(done.blocked_after))
    slow = [row for row in rows if row["seconds"] > bound]
    value = {
        "drill": done.id, "trace_id": done.trace_id, "bound": bound, "ok": not slow, "blocks": rows,
        "seen_by_the_caller": done.blocked_after,
    }  # fmt: skip
    text = table_text(
        ["enforcement point", "seconds to the first block"],
        [[row["pep"], f"{row['seconds']:.3f}"] for row in rows],
    )
    answer(value, f"{done.id}, trace {done.trace_id}, bound {bound:g} s\n{text}", as_json)
    if slow:
        raise typer.Exit(1)


@drill_app.command("rollback")
def drill_rollback(
    live: AuthorityOption = AUTHORITY,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Roll the policy back while requests go on, and forward again; no request may stay unanswered.

    Example: decision-ledger issuer drill rollback --live http://127.0.0.1:9400 --state company
    """
    from issuer.policy.activation import ROLLED_BACK, activate, earlier_bundle
    from issuer.policy.review_files import reviews_of
    from issuer.registry.registry import read_registry
    from issuer.registry.trust import read_trust
    from issuer.scenarios.live import Live
    from issuer.scenarios.live_runs import rollback_drill
    from issuer.state.opening import open_state

    trust, registry = read_trust(folder / "trust"), read_registry(folder)

    def roll_back() -> None:
        with open_state(folder) as recorder:
            bundle = earlier_bundle(recorder.db, None)
            activate(
                recorder.db, recorder, registry, bundle, reviews=reviews_of(folder, bundle.digest),
                owner_of=trust.owner_of, reason="rollback drill", outcome=ROLLED_BACK, approval_id="drill",
            )  # fmt: skip

    with Live.at(live, folder) as client:
        try:
            done = rollback_drill(client, roll_back)
        finally:
            roll_back()
    with open_ledger(ledger, None) as opened:
        rows = _rows(
            opened,
            "SELECT policy_version, count(*) AS decisions FROM events "
            "WHERE exercise = ? AND kind = 'decision' GROUP BY 1 ORDER BY min(time)",
            [done.id],
            until=lambda found: len(found) >= 2,
        )
    ok = done.unanswered == 0 and len(rows) >= 2
    value = {
        "drill": done.id, "trace_id": done.trace_id, "answered": done.answered,
        "unanswered": done.unanswered, "versions": rows, "ok": ok,
    }  # fmt: skip
    versions = ", then ".join(f"{row['decisions']} by version {row['policy_version']}" for row in rows)
    answer(
        value,
        f"{done.id}: {done.answered} requests answered, {done.unanswered} not; decided: {versions}.",
        as_json,
    )
    if not ok:
        raise typer.Exit(1)


def _sealed(opened: Ledger, drill: str, points: int) -> list[dict[str, Any]]:
    return _rows(opened, FIRST_BLOCKS, [drill, drill], until=lambda rows: len(rows) >= points)


def _rows(opened: Ledger, query: str, values: list[str], *, until: Any) -> list[dict[str, Any]]:
    """The rows of a query, once the ledger has enough.

    Raises:
        OutsideError: it does not have them in time.
    """
    end = time.monotonic() + SEALED_SECONDS
    while True:
        opened.refresh()
        rows: list[dict[str, Any]] = opened.sql(query, values).to_pylist()
        if until(rows):
            return rows
        if time.monotonic() > end:
            raise OutsideError(
                f"The ledger does not have the drill's events after {SEALED_SECONDS:g} s.",
                "See that the services' events reach the ledger that --ledger names.",
            )
        time.sleep(0.2)
