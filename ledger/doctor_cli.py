"""The command that looks at a whole deployment: doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.console import (
    JsonOption,
    KeyOption,
    LedgerOption,
    VkeyOption,
    answer,
    ledger_url,
    local_folder,
    open_ledger,
    table_text,
)


def doctor(
    bootstrap: Annotated[
        str | None, typer.Option("--bootstrap", help="HOST:PORT of brokers that have to answer, with commas.")
    ] = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at clock, disk, permissions, key, lag, witnesses, retention; name a remedy for each finding.

    Example: decision-ledger doctor --bootstrap broker:9092
    """
    from ledger.checkup import checks
    from ledger.format.plain_text import plain
    from ledger.log.signing import find_key

    folder = local_folder(ledger_url(ledger))
    brokers = tuple(part for part in (bootstrap or "").split(",") if part)
    with open_ledger(ledger, vkey) as opened:
        found = list(checks(opened, folder, find_key(folder, key), brokers))
    wrong = any(one.verdict == "wrong" for one in found)
    rows = [[one.verdict, one.name, plain(f"{one.said} {one.remedy}".strip())] for one in found]
    value = {"ok": not wrong, "checks": [one.as_json() for one in found]}
    answer(value, table_text(["", "what", "found"], rows), as_json)
    if wrong:
        raise typer.Exit(1)
