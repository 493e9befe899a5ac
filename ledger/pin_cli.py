"""`pin`: names for verifier keys, so that answers say who sealed instead of showing a pasted key."""

from __future__ import annotations

from typing import Annotated

import typer

from ledger.console import JsonOption, answer, table_text

pin_app = typer.Typer(no_args_is_help=True, help="Names for the verifier keys that you trust.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, '.', '_' and '-'.")]


@pin_app.command("add")
def pin_add(
    name: NameArgument,
    vkey: Annotated[
        str,
        typer.Argument(metavar="VKEY", help="The verifier key: its text, a file, or an https:// address."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Give a verifier key a name: `--vkey NAME` means it from then on, and answers show it.

    Example: decision-ledger pin add prod example.org/prod+1a2b3c4d+AY…
    """
    from ledger.log.named_keys import NamedKeys, read_vkey

    key = read_vkey(vkey)
    added = NamedKeys().add(name, key)
    text = f"{name} is {key.text}." if added else f"{name} was {key.text} before."
    if vkey.startswith(("https://", "http://")):
        text += "\nIt came over the network: compare it with what the ledger's operator says elsewhere."
    answer({"name": name, "vkey": key.text, "added": added}, text, as_json)


@pin_app.command("list")
def pin_list(as_json: JsonOption = False) -> None:
    """The names and their keys.

    Example: decision-ledger pin list
    """
    from ledger.log.named_keys import NamedKeys

    found = [{"name": name, "vkey": key.text} for name, key in NamedKeys().all().items()]
    text = table_text(["name", "vkey"], [[one["name"], one["vkey"]] for one in found])
    answer(found, text if found else "No key has a name here.", as_json)


@pin_app.command("remove")
def pin_remove(name: NameArgument, as_json: JsonOption = False) -> None:
    """Forget a name. What is kept for a ledger's place (`verify --pin`) stays.

    Example: decision-ledger pin remove prod
    """
    from ledger.log.named_keys import NamedKeys

    key = NamedKeys().remove(name)
    answer({"name": name, "vkey": key.text}, f"{name} names no key any more; it was {key.text}.", as_json)
