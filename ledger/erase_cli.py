"""The command that takes values out before their class expires: erase."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, note, open_ledger
from ledger.defaults import GRACE_SECONDS
from ledger.errors import UsageError
from ledger.retention_cli import ByOption, ReasonOption, one_line, writer_of

if TYPE_CHECKING:
    from ledger.format.state import LogState


def erase(
    by: ByOption,
    reason: ReasonOption,
    event: Annotated[
        list[str] | None, typer.Option("--event", help="An event_id, or <source>#<event_id>; several times.")
    ] = None,
    letter: Annotated[
        list[str] | None,
        typer.Option("--letter", help="A message as `deadletters list` names it; several times."),
    ] = None,
    grace: Annotated[
        int,
        typer.Option(
            "--grace", help="Seconds until the old files are deleted, for those who read now.", min=0
        ),
    ] = GRACE_SECONDS,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="End before the grace is over; the next commit deletes them.")
    ] = False,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the content of events out of every file. Their hashes and all roots stay; the reason is sealed.

    Example: decision-ledger erase --event ev-4711 --by user:dpo --reason "request 17"
    """
    from ledger.query.evidence import locate
    from ledger.storage.user_folders import cache_folder
    from ledger.upkeep.erasure import clear_derived
    from ledger.upkeep.erasure import erase as erase_rows

    if not event and not letter:
        raise UsageError("Nothing is named that is to be erased.", "Give --event or --letter.")
    said = {"by": one_line(by, "--by"), "reason": one_line(reason, "--reason")}
    rows: dict[str, set[int]] = {}
    with open_ledger(ledger, None) as opened:
        for place in locate(opened, event) if event else []:
            rows.setdefault(place.segment, set()).add(place.index)
        for name in letter or []:
            path, row = _letter(opened.state, name)
            rows.setdefault(path, set()).add(row)
    writer = writer_of(ledger, key, "erase")
    entries = list(erase_rows(writer, rows, grace=grace, **said))
    derived = clear_derived(writer)
    shutil.rmtree(cache_folder(writer.store.url), ignore_errors=True)
    deleted: list[str] = []
    if not no_wait:
        note(f"Sealed; waiting {grace} s until nobody reads the old files any more.")
        time.sleep(grace)
        # What was merged away a moment ago holds the values as well, whatever grace it was given.
        deleted = writer.sweep(early=True)
    count = sum(map(len, rows.values()))
    value = {"entries": len(entries), "rows": count, "deleted": deleted, "derived": derived}
    answer(
        value, f"{count:,} rows erased in {len(entries)} entries; {len(deleted):,} files deleted.", as_json
    )


def _letter(state: LogState, name: str) -> tuple[str, int]:
    """The original and the row of a dead letter. Raises UsageError where there is none."""
    from ledger.format.manifest import DeadLetterRef

    stem, _, row = name.rpartition(":")
    for path, original in state.originals.items():
        known = isinstance(original.ref, DeadLetterRef) and Path(path).stem == stem
        if known and row.isascii() and row.isdecimal() and int(row) < original.ref.rows:
            return path, int(row)
    raise UsageError(f"There is no dead letter {name!r}.", "`decision-ledger deadletters list` names them.")
