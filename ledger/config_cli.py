"""Commands on what is sealed as configuration: config load."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, signing_key, store_at
from ledger.defaults import CONFIG_NAMES
from ledger.errors import UsageError

config_app = typer.Typer(no_args_is_help=True, help="What a ledger's computations and retention go by.")


@config_app.command("load")
def config_load(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(CONFIG_NAMES)}.")],
    file: Annotated[Path, typer.Argument(help="TOML or JSON.")],
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal a configuration; it is in force from its entry on. The same content again changes nothing.

    Example: decision-ledger config load classes classes.toml
    """
    from ledger.format.manifest import Config
    from ledger.log.retention_classes import check_successor, classes_in_force, classes_json, read_classes
    from ledger.writer import Writer

    if name not in CONFIG_NAMES:
        raise UsageError(f"There is no configuration {name!r}.", f"Load one of {', '.join(CONFIG_NAMES)}.")
    classes = read_classes(file)
    writer = Writer(store_at(ledger), signing_key(ledger, key), name="config", remember=False)
    before = classes_in_force(writer.state, writer.store)
    check_successor(before, classes)
    data = classes_json(classes)
    digest = hashlib.sha256(data).hexdigest()
    changed = classes != before
    if changed:
        writer.store.create(f"config/{digest}", data)
        writer.put(Config, {"name": name, "sha256": digest})
    value = {"name": name, "sha256": digest, "changed": changed, "head": writer.state.size,
             "classes": {one: kept.model_dump() for one, kept in sorted(classes.items())}}  # fmt: skip
    lines = [f"{name}: {'sealed' if changed else 'in force already'} (head {writer.state.size})."]
    for one, kept in sorted(classes.items()):
        days = "until released" if kept.days is None else f"{kept.days:,} days"
        lines.append(f"  {one:<32} {days}{', erasable' if kept.erasable else ''}")
    answer(value, "\n".join(lines), as_json)
