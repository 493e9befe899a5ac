"""Commands on what is sealed as configuration: config load."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, signing_key, store_at
from ledger.defaults import CONFIG_NAMES
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.writer import Writer

READERS: Final[dict[str, Callable[[str, Path], bytes]]] = {}
"""How the file of each configuration but `classes` is read: other packages say it when they are mounted."""
config_app = typer.Typer(no_args_is_help=True, help="What a ledger's computations and retention go by.")


@config_app.command("load")
def config_load(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(CONFIG_NAMES)}.")],
    file: Annotated[Path, typer.Argument(help="TOML or JSON for classes, else YAML; a folder of rules.")],
    ledger: LedgerOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal a configuration; it is in force from its entry on. The same content again changes nothing.

    Example: decision-ledger config load classes classes.toml
    """
    from ledger.log.retention_classes import check_successor, classes_in_force, classes_json, read_classes
    from ledger.writer import Writer

    if name not in CONFIG_NAMES:
        raise UsageError(f"There is no configuration {name!r}.", f"Load one of {', '.join(CONFIG_NAMES)}.")
    classes = read_classes(file) if name == "classes" else {}
    data = classes_json(classes) if name == "classes" else READERS[name](name, file)
    writer = Writer(store_at(ledger), signing_key(ledger, key), name="config", remember=False)
    if name == "classes":
        before = classes_in_force(writer.state, writer.store)
        check_successor(before, classes)
        changed = classes != before and seal_config(writer, name, data)
    else:
        changed = seal_config(writer, name, data)
    digest = hashlib.sha256(data).hexdigest()
    value: dict[str, Any] = {"name": name, "sha256": digest, "changed": changed, "head": writer.state.size}
    lines = [f"{name}: {'sealed' if changed else 'in force already'} (head {writer.state.size})."]
    if name == "classes":
        value["classes"] = {one: kept.model_dump() for one, kept in sorted(classes.items())}
    for one, kept in sorted(classes.items()):
        days = "until released" if kept.days is None else f"{kept.days:,} days"
        lines.append(f"  {one:<32} {days}{', erasable' if kept.erasable else ''}")
    answer(value, "\n".join(lines), as_json)


def seal_config(writer: Writer, name: str, data: bytes) -> bool:
    """Seal a configuration, unless the same is in force. True where it was sealed."""
    from ledger.format.manifest import Config

    digest = hashlib.sha256(data).hexdigest()
    if writer.state.configs.get(name) == digest:
        return False
    writer.store.create(f"config/{digest}", data)
    writer.put(Config, {"name": name, "sha256": digest})
    return True
