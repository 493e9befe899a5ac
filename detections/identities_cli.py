"""Command on who acts: identities list."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.console import AtOption, JsonOption, LedgerOption, VkeyOption, answer, open_ledger, table_text

DORMANT_DAYS = 30


def identities_list(
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    days: Annotated[
        int, typer.Option(help="Dormant, or unused, after so many days of the ledger's clock.", min=1)
    ] = DORMANT_DAYS,
    flagged: Annotated[bool, typer.Option("--flagged", help="Only what needs a look.")] = False,
    paths: Annotated[
        bool, typer.Option("--paths", help="From which issuer each got credentials for which tool.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Who acts, where, through whom and with what; unowned, shared, static and dormant identities first.

    Owners come from the ownership that was sealed with `config load ownership`.

    Example: decision-ledger identities list --flagged
    """
    from detections.identities import MapChoice, credential_paths, identity_map
    from detections.metrics.kept_days import user_days
    from detections.sealed_log import SealedLog

    with open_ledger(ledger, vkey) as opened:
        if paths:
            found = credential_paths(opened, at)
        else:
            owned = SealedLog.of(opened).timeline(at or opened.size).ownership()
            kept = user_days(opened) if at in (None, opened.size) else None
            found = identity_map(opened, owned, MapChoice(days, at), kept)
    if paths:
        columns = ["issuer", "principal", "tool", "credential_type", "issued", "last_issued"]
        text = table_text([name.replace("_", " ") for name in columns],
                          ([row[name] or "-" for name in columns] for row in found))  # fmt: skip
        answer(found, text, as_json)
        return
    shown = [one for one in found if one["flags"]] if flagged else found
    rows = (
        [one["principal"], one["owner"] or "-", " ".join(one["environments"]) or "-",
         " ".join(one["credential_types"]) or "-", one["events"], one["last_seen"] or "never",
         " ".join(one["flags"]) or "-"]
        for one in shown
    )  # fmt: skip
    columns = ["principal", "owner", "environments", "credentials", "events", "last seen", "look at"]
    text = f"{table_text(columns, rows)}\n{len(shown):,} of {len(found):,} identities."
    answer(shown, text, as_json)
