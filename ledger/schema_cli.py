"""Command that says what can be asked: schema."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ledger.console import AtOption, JsonOption, LedgerOption, VkeyOption, answer, open_ledger, table_text
from ledger.errors import UsageError


def schema(
    view: Annotated[str | None, typer.Argument(help="One view; else all of them.")] = None,
    at: AtOption = None,
    vkey: VkeyOption = None,
    ledger: LedgerOption = None,
    as_json: JsonOption = False,
) -> None:
    """The views that SQL can query: their fields, types and rows.

    Example: decision-ledger schema decisions
    """
    from ledger.query.engine import VIEWS

    if view is not None and view not in VIEWS:
        raise UsageError(f"There is no view {view!r}.", f"Name one of {', '.join(VIEWS)}.")
    found: list[dict[str, Any]] = []
    with open_ledger(ledger, vkey) as opened:
        for name in VIEWS if view is None else [view]:
            # Views are constants of ours.
            rows = opened.sql(f"SELECT count(*) AS n FROM {name}", at=at)["n"][0].as_py()  # noqa: S608  # as said
            fields = opened.sql(f"DESCRIBE {name}", at=at).to_pylist()
            told = [{"name": one["column_name"], "type": one["column_type"]} for one in fields]
            found.append({"view": name, "rows": rows, "fields": told})
    if view is None:
        text = table_text(
            ["view", "rows", "fields"],
            [[one["view"], f"{one['rows']:,}", len(one["fields"])] for one in found],
        )
        text += "\n(`decision-ledger schema VIEW` lists the fields of one)"
    else:
        text = table_text(["field", "type"], [[f["name"], f["type"]] for f in found[0]["fields"]])
        text += f"\n({found[0]['rows']:,} rows)"
    answer(found if view is None else found[0], text, as_json)
