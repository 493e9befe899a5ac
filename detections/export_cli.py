"""Command that hands findings to other tools: export ocsf."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.console import AtOption, LedgerOption, VkeyOption, open_ledger

export_app = typer.Typer(no_args_is_help=True, help="What the ledger holds, for other tools.")


@export_app.callback()
def export() -> None:
    """What the ledger holds, in the forms of other tools."""


@export_app.command("ocsf")
def export_ocsf(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A file; else standard output.")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every step of each alert, and not only the last.")
    ] = False,
) -> None:
    """Alerts as Detection Findings (OCSF 1.3, class 2004), one JSON object a line, oldest first.

    Example: decision-ledger export ocsf -o findings.jsonl
    """
    import orjson

    from detections.delivery.ocsf import detection_finding
    from detections.sealed_log import SealedLog
    from ledger.format.plain_text import plain_json

    with open_ledger(ledger, vkey) as opened:
        size = at or opened.size
        if at is not None:
            opened.committed(at)  # says so where something of it is gone
        log = SealedLog.of(opened)
        steps = [step for _, steps in log.alert_steps(log.parsed(0, size)) for step in steps]
    if not history:
        last = {step["alert_id"]: step for step in steps if step["alert_id"]}
        steps = [step for step in steps if last.get(step["alert_id"]) is step]
    lines = [plain_json(orjson.dumps(detection_finding(step)).decode()) for step in steps if step["alert_id"]]
    text = "".join(f"{line}\n" for line in lines)
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")
