"""The command on the signing key: key rotate."""

from __future__ import annotations

from typing import Final

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, signing_key, store_at
from ledger.errors import UsageError

REMEDY: Final = "Restart what writes to this ledger: with the old key it stops by itself."
key_app = typer.Typer(no_args_is_help=True, help="The key that signs the ledger.")


@key_app.callback()
def key_commands() -> None:
    """The key that signs the ledger."""


@key_app.command("rotate")
def key_rotate(ledger: LedgerOption = None, key: KeyOption = None, as_json: JsonOption = False) -> None:
    """Make a new signing key and seal that it signs from here on. The verifier key from `init` stays good.

    Example: decision-ledger key rotate
    """
    from ledger.log.signing import SigningKey, create_key, next_key_path, put_in_place
    from ledger.writer import Writer

    old = signing_key(ledger, key)
    store = store_at(ledger)
    path = next_key_path(old.path)
    if not path.exists():
        create_key(path, old.signer.name)
    new = SigningKey(path)
    try:
        writer = Writer(store, old, name="key", remember=False)
    except UsageError:
        # Cut short after the log took it: the next key is in force, and has only to be put in place.
        writer = Writer(store, new, name="key", remember=False)
    else:
        writer.rotate(new)
    retired = put_in_place(old.path, old)
    value = {
        "vkey": new.signer.vkey, "key": str(old.path), "retired": str(retired), "head": writer.state.size,
    }  # fmt: skip
    text = (
        f"The ledger is signed by {new.signer.vkey} from entry {writer.state.size} on.\n"
        f"Signing key: {old.path}. The old one is {retired}: destroy it, and every copy of it.\n{REMEDY}"
    )
    answer(value, text, as_json)
