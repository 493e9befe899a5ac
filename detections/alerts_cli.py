"""Commands on alerts: alerts list, risk, show, ack, resolve, dismiss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detections.defaults import VERDICTS
from ledger.console import (
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

if TYPE_CHECKING:
    from detections.alerting.triage import Triage

alerts_app = typer.Typer(no_args_is_help=True, help="What detections found, and what people made of it.")
AlertArgument = Annotated[list[str], typer.Argument(help="Alert ids, or their first letters.")]
ByOption = Annotated[
    str | None, typer.Option("--by", help="Who decides; by default the user at this machine.")
]
OwnerOption = Annotated[str | None, typer.Option("--owner", help="Who looks after it from now on.")]
CommentOption = Annotated[str | None, typer.Option("--comment", help="Why, in a sentence.")]


@alerts_app.command("list")
def alerts_list(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    status: Annotated[
        str, typer.Option(help="open, acknowledged, resolved, dismissed, withdrawn or all.")
    ] = "open",
    rule: Annotated[str | None, typer.Option(help="Only alerts of this rule.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """Alerts as they stand, the newest first.

    Example: decision-ledger alerts list --status all
    """
    from detections.alerting.standing import alerts_of
    from ledger.format.manifest import with_instants

    with open_ledger(ledger, vkey) as opened:
        found = alerts_of(opened)
    chosen = [one for one in found if _is_chosen(one, status) and rule in (None, one["rule_id"])]
    columns = ["alert", "severity", "rule", "key", "count", "last seen", "engine", "state", "owner"]
    rows = (
        [one["alert_id"][:12], one["severity"], one["rule_id"], one["alert_key"], one["count"],
         f"{one['last_seen']:%Y-%m-%d %H:%M:%SZ}", one["engine_state"], one["state"], one["owner"] or "-"]
        for one in chosen[:limit]
    )  # fmt: skip
    text = table_text(columns, rows) + f"\n{min(len(chosen), limit):,} of {len(chosen):,} alerts."
    answer([with_instants(one) for one in chosen[:limit]], text, as_json, of=len(chosen))


@alerts_app.command("risk")
def alerts_risk(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    limit: Annotated[int, typer.Option(help="At most so many, the highest score first.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """Principals by their open alerts: informational 1, low 3, medium 10, high 30, critical 100 each.

    Example: decision-ledger alerts risk
    """
    from dataclasses import asdict

    from detections.alerting.risk import risk_scores
    from detections.alerting.standing import alerts_of

    with open_ledger(ledger, vkey) as opened:
        found = risk_scores(alerts_of(opened))
    columns = ["principal", "score", "open alerts", "worst", "rules"]
    rows = ([one.principal, one.score, one.alerts, one.worst, " ".join(one.rules)] for one in found[:limit])
    text = table_text(columns, rows) + f"\n{min(len(found), limit):,} of {len(found):,} principals."
    answer([asdict(one) for one in found[:limit]], text, as_json, of=len(found))


@alerts_app.command("show")
def alerts_show(
    alert: Annotated[str, typer.Argument(help="An alert id, or its first letters.")],
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """One alert: why it fired, its evidence, its history.

    Example: decision-ledger alerts show 3f2a
    """
    from detections.alerting.standing import alert_of, history_of
    from ledger.format.manifest import with_instants

    with open_ledger(ledger, vkey) as opened:
        one = alert_of(opened, alert)
        steps = history_of(opened, one["alert_id"])
    lines = [
        f"{one['severity']}  {one['rule_id']}  {one['alert_key']}",
        f"{one['title']}: {one['reason'] or ''}",
        f"{one['engine_state']}, {one['state']}, owner {one['owner'] or 'nobody'}",
        f"{one['count']:,} events, {one['first_seen']:%Y-%m-%d %H:%M:%SZ} to "
        f"{one['last_seen']:%Y-%m-%d %H:%M:%SZ}, at checkpoint size {one['checkpoint_size']:,}",
        f"runbook: {one['runbook']}",
        "",
        "evidence:",
        *(f"  {ref}" for ref in one["evidence"][:20]),
        *([f"  … and {one['count'] - 20:,} more"] if one["count"] > 20 else []),
        "",
        "history:",
        *(
            f"  {step['time']:%Y-%m-%d %H:%M:%SZ}  {step['outcome']}  {step['actor'] or 'engine'}"
            f"  {step['comment'] or ''}".rstrip()
            for step in steps
        ),
    ]
    answer(
        {**with_instants(one), "history": [with_instants(step) for step in steps]}, "\n".join(lines), as_json
    )


@alerts_app.command("ack")
def alerts_ack(
    alerts: AlertArgument,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    by: ByOption = None,
    owner: OwnerOption = None,
    comment: CommentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that somebody looks at alerts.

    Example: decision-ledger alerts ack 3f2a --owner user:carol
    """
    from detections.alerting.triage import Triage

    _step(
        alerts, ledger, key, Triage("acknowledged", person(by), owner or person(by), None, comment), as_json
    )


@alerts_app.command("resolve")
def alerts_resolve(
    alerts: AlertArgument,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    verdict: Annotated[str, typer.Option(help=f"One of {', '.join(VERDICTS)}.")] = "true-positive",
    by: ByOption = None,
    owner: OwnerOption = None,
    comment: CommentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close alerts that were dealt with.

    Example: decision-ledger alerts resolve 3f2a --comment "credential revoked, agent rebuilt"
    """
    from detections.alerting.triage import Triage

    _step(alerts, ledger, key, Triage("resolved", person(by), owner, verdict, comment), as_json)


@alerts_app.command("dismiss")
def alerts_dismiss(
    alerts: AlertArgument,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    verdict: Annotated[str, typer.Option(help=f"One of {', '.join(VERDICTS)}.")] = "false-positive",
    by: ByOption = None,
    owner: OwnerOption = None,
    comment: CommentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close alerts that need nothing.

    Example: decision-ledger alerts dismiss 3f2a --comment "the release of Tuesday"
    """
    from detections.alerting.triage import Triage

    _step(alerts, ledger, key, Triage("dismissed", person(by), owner, verdict, comment), as_json)


def _step(alerts: list[str], ledger: str | None, key: Path | None, step: Triage, as_json: bool) -> None:
    from detections.alerting.standing import alert_of
    from detections.alerting.triage import seal_triage, triage_event

    with open_ledger(ledger, None) as opened:
        found = [alert_of(opened, one) for one in dict.fromkeys(alerts)]
    writer = writer_of(ledger, key, "triage")
    seal_triage(writer, [triage_event(one, step) for one in found])
    value = [
        {"alert_id": one["alert_id"], "rule_id": one["rule_id"], "was": one["state"], "is": step.outcome}
        for one in found
    ]
    lines = [f"{one['alert_id'][:12]}  {one['rule_id']}: {one['was']} → {one['is']}" for one in value]
    answer(value, "\n".join(lines), as_json)


def _is_chosen(one: dict[str, Any], state: str) -> bool:
    withdrawn = one["engine_state"] == "withdrawn"
    if state == "all":
        return True
    return withdrawn if state == "withdrawn" else not withdrawn and one["state"] == state
