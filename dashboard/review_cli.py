"""Commands on access reviews: review list, review close."""

from __future__ import annotations

from typing import Annotated

import typer

from detections.defaults import REVIEW_OUTCOMES
from ledger.console import (
    AtOption,
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    open_ledger,
    person,
    table_text,
    writer_of,
)

review_app = typer.Typer(no_args_is_help=True, help="Authority that stands: is it still needed?")


@review_app.command("list")
def review_list(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    todo: Annotated[bool, typer.Option("--todo", help="Only what nobody has reviewed this month.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What stands and needs a review this month: exceptions, grants, and permissions that nobody used.

    Example: decision-ledger review list --todo
    """
    from dashboard.access import local_viewer
    from dashboard.answers.reviews import review_state
    from dashboard.statements import Reading
    from ledger.format.manifest import instant, with_instants

    with open_ledger(ledger, vkey) as opened:
        state = review_state(Reading(opened, local_viewer(), at or opened.size, lambda: opened))
    campaign = state["campaign"]
    rows = [row for row in campaign["rows"] if not todo or row["outcome"] is None]
    value = {
        "campaign": campaign["name"],
        "due": instant(campaign["due"]),
        "done": campaign["done"],
        "of": len(campaign["rows"]),
        "rows": [with_instants(row) for row in rows],
        "stale": [with_instants(row) for row in state["stale"]],
    }
    columns = ["target", "for", "owner", "ends", "uses in 90 d", "last used", "reviewed"]
    table = table_text(
        columns,
        (
            [
                row["target"],
                row["what"],
                row["owner"] or "-",
                row["ends"] and f"{row['ends']:%Y-%m-%d}",
                row["uses"],
                row["last_used"] and f"{row['last_used']:%Y-%m-%d}",
                f"{row['outcome']} by {row['by']}" if row["outcome"] else "to do",
            ]
            for row in rows
        ),
    )
    stale = f"\n{len(state['stale'])} permission(s) were not used for 90 days." if state["stale"] else ""
    head = f"Campaign {campaign['name']}, due {campaign['due']:%Y-%m-%d}: "
    head += f"{campaign['done']} of {len(campaign['rows'])} done"
    answer(value, f"{head}\n{table}{stale}", as_json)


@review_app.command("close")
def review_close(
    target: Annotated[
        str, typer.Argument(help="exception:…, grant:… or permission:…, as `review list` has it.")
    ],
    outcome: Annotated[str, typer.Option(help=f"One of {', '.join(REVIEW_OUTCOMES)}.")],
    reason: Annotated[str, typer.Option(help="Why, in a sentence.")],
    by: Annotated[str | None, typer.Option(help="Who decides; by default the user at this machine.")] = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal the outcome of a review. What it closes is ended where it was given: `issuer exception close`.

    Example: decision-ledger review close grant:g-17 --outcome kept --reason "the migration goes on"
    """
    import rfc8785

    from dashboard.access import local_viewer
    from dashboard.answers.reviews import review_state
    from dashboard.people import new_id, review
    from dashboard.statements import Reading
    from detections.alerting.alert import SOURCE
    from detections.alerting.triage import seal_triage
    from ledger.errors import UsageError

    with open_ledger(ledger, None) as opened:
        state = review_state(Reading(opened, local_viewer(), opened.size, lambda: opened))
    campaign = state["campaign"]
    row = next((row for row in campaign["rows"] if row["target"] == target), None)
    if row is None:
        raise UsageError(
            f"Nothing that stands is called {target!r}.", "`decision-ledger review list` shows what does."
        )
    event = review(
        target,
        outcome,
        person(by),
        new_id(),
        campaign=campaign["name"],
        tenant=row["tenant"],
        comment=reason,
        owner=row["owner"],
    )
    attributes = rfc8785.dumps(event["attributes"]).decode()
    sealed = {**event, "source": SOURCE, "attributes": attributes, "retention": "standard"}
    seal_triage(writer_of(ledger, key, "review"), [sealed])
    answer(
        {"target": target, "outcome": outcome, "campaign": campaign["name"]}, f"{target}: {outcome}.", as_json
    )
