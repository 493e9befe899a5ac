"""The command that takes values out before their class expires: erase."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, open_ledger, writer_of
from ledger.defaults import GRACE_SECONDS
from ledger.errors import UsageError
from ledger.retention_cli import ByOption, GraceOption, NoWaitOption, ReasonOption, one_line, sweep_after


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
    grace: GraceOption = GRACE_SECONDS,
    no_wait: NoWaitOption = False,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the content of events out of every file. Their hashes and all roots stay; the reason is sealed.

    Example: decision-ledger erase --event ev-4711 --by user:dpo --reason "request 17"
    """
    from ledger.query.evidence import locate
    from ledger.query.letter_ids import find_letter
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
            found = find_letter(opened.state, name)
            if found is None:
                raise UsageError(
                    f"There is no dead letter {name!r}.", "`decision-ledger deadletters list` names them."
                )
            rows.setdefault(found[0], set()).add(found[1])
    writer = writer_of(ledger, key, "erase")
    entries = list(erase_rows(writer, rows, grace=grace, **said))
    derived = clear_derived(writer)
    shutil.rmtree(cache_folder(writer.store.url), ignore_errors=True)
    deleted: list[str] = []
    if not no_wait:
        # What was merged away a moment ago holds the values as well, whatever grace it was given.
        deleted = sweep_after(grace, writer, early=True)
    count = sum(map(len, rows.values()))
    value = {"entries": len(entries), "rows": count, "deleted": deleted, "derived": derived}
    answer(
        value, f"{count:,} rows erased in {len(entries)} entries; {len(deleted):,} files deleted.", as_json
    )
