"""Command that asks past decisions of another policy: policy what-if."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.defaults import DEFAULT_FOLDER
from issuer.policy_cli import BundleArgument, FolderOption
from ledger.console import AtOption, JsonOption, LedgerOption, VkeyOption, answer, open_ledger, table_text

what_if_app = typer.Typer(no_args_is_help=True, help="What another policy would have said.")


@what_if_app.callback()
def policy() -> None:
    """Policies, held against what the ledger holds."""


@what_if_app.command("what-if")
def what_if(
    bundle: BundleArgument,
    ledger: LedgerOption = None,
    vkey: VkeyOption = None,
    at: AtOption = None,
    folder: FolderOption = Path(DEFAULT_FOLDER),
    limit: Annotated[int, typer.Option(help="At most so many decisions, the newest first.", min=1)] = 100_000,
    as_json: JsonOption = False,
) -> None:
    """Ask past decisions again of another Cedar bundle, and show where it would differ.

    People, agents, tools and resources come from the registry in the issuer's folder.

    Example: decision-ledger policy what-if policies/agents-2 --state issuer-state
    """
    from issuer.policy.active import engine_for
    from issuer.policy.bundle import read_bundle
    from issuer.policy.what_if import COLUMNS, ask_again, with_resources_of
    from issuer.registry.registry import read_registry

    candidate = read_bundle(bundle)
    registry = read_registry(folder)
    # Column names are our own constants.
    select = f"SELECT {', '.join(COLUMNS)} FROM decisions"  # noqa: S608  # as above
    order = " ORDER BY time DESC, source, event_id LIMIT ?"
    with open_ledger(ledger, vkey) as opened:
        rows = opened.query(at).trusted(select + order, [limit]).to_pylist()
    registry = with_resources_of(rows, registry)
    found = ask_again(rows, engine_for(candidate, registry), registry).as_json()
    value = {
        "bundle": candidate.about.name,
        "version": candidate.version,
        "digest": candidate.digest,
        **found,
    }
    columns = ["was", "now", "decisions", "by", "action", "principal", "for example"]
    table = table_text(
        columns,
        ([one["was"], one["now"], one["count"], one["policy"], one["action"], one["principal"],
          one["examples"][0]] for one in found["differences"]),
    )  # fmt: skip
    lines = [
        table if found["differences"] else "",
        f"{found['asked']:,} decisions asked again of {candidate.about.name} {candidate.version}: "
        f"{found['different']:,} would differ.",
        *(f"{count:,} not asked: {why}." for why, count in sorted(found["not_asked"].items())),
    ]
    answer(value, "\n".join(line for line in lines if line), as_json)
