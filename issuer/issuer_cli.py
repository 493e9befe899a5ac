"""Commands of the reference services: issuer init."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from issuer.policy_cli import policy_app
from ledger.console import JsonOption, answer

issuer_app = typer.Typer(no_args_is_help=True, help="The reference identity stack.")
issuer_app.add_typer(policy_app, name="policy")


@issuer_app.callback()
def issuer() -> None:
    """The reference identity stack: broker, policy, enforcement, egress. A model, not a product to expose."""


@issuer_app.command("init")
def init_issuer(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    as_json: JsonOption = False,
) -> None:
    """Write a working example of every file: registry, policies, keys, trust bundles, exceptions.

    Example: decision-ledger issuer init company
    """
    import time

    from issuer.example.founding import write_example

    passwords = write_example(folder, now=time.time())
    answer(
        {"folder": str(folder), "people": sorted(passwords), "passwords": str(folder / "passwords.json")},
        f"Wrote the example company into {folder}: agents.yml, tools.yml, destinations.yml, users.yml, "
        f"resources.yml,\ngrants.yml, exceptions.yml, policies/, trust/ (public keys), keys/ (private: for "
        f"trying out, here alone),\npasswords.json. A reference: do not expose it.\n"
        f"Next: decision-ledger issuer policy test {folder / 'policies' / 'agents-1'}",
        as_json,
    )
