"""Commands on the weekly report: report weekly, report verify."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.console import JsonOption, LedgerOption, VkeyOption, answer, ledger_url, open_ledger, shared

if TYPE_CHECKING:
    from dashboard.report.checking import Outcome

report_app = typer.Typer(no_args_is_help=True, help="The week in numbers, for people who decide.")


@report_app.command("weekly")
def report_weekly(
    out: Annotated[Path, typer.Option("--out", help="The report's folder.")],
    week: Annotated[
        str | None, typer.Option(help="An ISO week such as 2026-W47; by default the newest that has settled.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Prove by this checkpoint: the file of an earlier report.")
    ] = None,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the report on a week: HTML, PDF, XLSX, CSV, Parquet and JSON of the same numbers, with proofs.

    Everything sealed is verified first; a damaged ledger gets no report. The same week at the same checkpoint
    gives the same bytes, but for run.json.

    Example: decision-ledger report weekly --week 2026-W47 --out reports/2026-W47
    """
    from datetime import UTC, datetime

    from dashboard.report.making import make_report
    from dashboard.report.report_folder import write_folder
    from ledger.errors import UsageError

    if checkpoint is not None and not checkpoint.is_file():
        raise UsageError(
            f"There is no checkpoint at {checkpoint}.", "Name the file `checkpoint` of a report."
        )
    note = None if checkpoint is None else checkpoint.read_bytes()
    with open_ledger(ledger, vkey) as opened:
        report, files = make_report(opened, week, note)
    write_folder(out, files, datetime.now(UTC))
    at = report["counted_at"]
    value = {
        "folder": str(out), "week": report["week"]["name"], "preliminary": report["preliminary"],
        "size": at["size"], "headline": report["headline"], "events_listed": len(report["listed"]),
        "files": len(files) + 1,
    }  # fmt: skip
    text = (
        f"{report['headline']}\n"
        f"Week {report['week']['name']}{', preliminary' if report['preliminary'] else ''}, counted at entry "
        f"{at['size']}: {len(files) + 1} files in {out}, with proofs of {len(report['listed'])} events.\n"
        f"Check it with: decision-ledger report verify {out} --vkey {at['vkey']}"
    )
    answer(value, text, as_json)


@report_app.command("verify")
def report_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a report.")],
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a report. With the key alone its checkpoint and events are proved; with the ledger, every number.

    Exit 1 where it is refuted, or can no longer be counted.

    Example: decision-ledger report verify reports/2026-W47 --ledger decision-ledger
    """
    from dashboard.report.checking import check_by_key, check_by_ledger
    from ledger.errors import UsageError
    from ledger.log.named_keys import read_vkey
    from ledger.reader import Ledger
    from ledger.storage.stores import open_store
    from ledger.verify.folder import LEDGER_JSON

    url = ledger or shared.ledger
    if url is None and open_store(ledger_url(None)).read(LEDGER_JSON) is not None:
        url = ledger_url(None)
    if url is None:
        if vkey is None:
            raise UsageError(
                "A report is checked by the ledger's key, or against the ledger.",
                "Give --vkey, --ledger, or both.",
            )
        outcome, _ = check_by_key(folder, read_vkey(vkey))
    else:
        with Ledger.open(url, vkey=vkey) as opened:
            outcome, report = check_by_key(folder, opened.state.key if vkey is None else read_vkey(vkey))
            if report is not None:
                check_by_ledger(outcome, folder, report, opened)
    answer({"ok": outcome.ok, **asdict(outcome)}, _told(outcome), as_json)
    if not outcome.ok:
        raise typer.Exit(1)


def _told(outcome: Outcome) -> str:
    faults = [f"  {fault}" for fault in outcome.faults[:20]]
    if len(outcome.faults) > 20:
        faults.append(f"  and {len(outcome.faults) - 20:,} more")
    basis = f"week {outcome.week}, counted at entry {outcome.size}"
    match outcome.result:
        case "proved":
            said = (
                f"Proved: the checkpoint of {outcome.checkpoint_size} entries, and {outcome.events} listed "
                f"events of the report on {basis}."
            )
        case "confirmed":
            said = f"Confirmed: every number of the report on {basis} was counted again and is the same."
        case "refuted":
            said = f"Refuted: the report on {basis} does not hold." if outcome.week else "Refuted."
        case _:
            said = f"No longer computable: the report on {basis} cannot be counted again."
    return "\n".join([said, *faults, *outcome.notes])
