"""Commands on the signing key: key rotate, key protect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, signing_key, store_at
from ledger.errors import UsageError

REMEDY: Final = "Restart what writes to this ledger: with the old key it stops by itself."
key_app = typer.Typer(no_args_is_help=True, help="The key that signs the ledger.")


@key_app.callback()
def key_commands() -> None:
    """The key that signs the ledger."""


@key_app.command("rotate")
def key_rotate(
    new_key: Annotated[
        Path | None,
        typer.Option(
            "--new-key", help="The new key's file, such as one that names a program; else it is made."
        ),
    ] = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new signing key and seal that it signs from here on. The verifier key from `init` stays good.

    Example: decision-ledger key rotate
    """
    from ledger.log.protected_key import is_protected
    from ledger.log.signing import (
        SigningKey,
        adopt_key,
        create_key,
        next_key_path,
        passphrase,
        put_in_place,
        put_under,
    )
    from ledger.writer import Writer

    old = signing_key(ledger, key)
    store = store_at(ledger)
    path = next_key_path(old.path)
    if not old.path.is_file():
        raise UsageError(
            "The signing key is in the environment, where it cannot be replaced.",
            "Put it into a file, name that with --key, and rotate.",
        )
    if not path.exists() and new_key is not None:
        adopt_key(new_key, path, old.signer.name)
    elif not path.exists():
        create_key(path, old.own.name)
        if is_protected(old.path.read_text("utf-8")):
            put_under(path, SigningKey(path), passphrase(old.path))
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


@key_app.command("protect")
def key_protect(
    passphrase_file: Annotated[
        Path | None,
        typer.Option("--passphrase-file", help="A file whose first line it is; else it is asked for."),
    ] = None,
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put the signing key under a passphrase, or under another one. The key stays the same.

    Example: decision-ledger key protect --passphrase-file words.txt
    """
    from ledger.log.signing import PASSPHRASE_VARIABLE, passphrase, put_under

    signing = signing_key(ledger, key)
    put_under(signing.path, signing, passphrase(signing.path, passphrase_file))
    text = (
        f"{signing.path} is under the passphrase now. Whoever writes names a file with it in "
        f"{PASSPHRASE_VARIABLE}, or types it. Destroy older copies of the key file."
    )
    answer({"key": str(signing.path), "vkey": signing.signer.vkey}, text, as_json)
