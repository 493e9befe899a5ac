"""Commands on what is sealed as configuration: config load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ledger.console import JsonOption, KeyOption, LedgerOption, answer, writer_of
from ledger.defaults import CONFIG_NAMES
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ledger.writer import Writer


@dataclass(frozen=True, slots=True)
class ConfigKind:
    """How one configuration is read from its file, held against what is in force, and told to people."""

    read: Callable[[Path], bytes]
    """What is sealed. Raises UsageError where the file is none of this kind."""
    changes: Callable[[Writer, bytes], bool] = lambda _writer, _data: True
    """Whether it says something else than what is in force. Raises UsageError where it may not follow."""
    lines: Callable[[bytes], list[str]] = lambda _data: []
    """What it says, for people."""


KINDS: Final[dict[str, ConfigKind]] = {}
"""Each configuration but `classes` by its name: other packages say it when they are mounted."""
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
    if name not in CONFIG_NAMES:
        raise UsageError(f"There is no configuration {name!r}.", f"Load one of {', '.join(CONFIG_NAMES)}.")
    kind = _classes() if name == "classes" else KINDS[name]
    data = kind.read(file)
    writer = writer_of(ledger, key, "config")
    changed = kind.changes(writer, data) and seal_config(writer, name, data)
    digest = writer.state.configs.get(name)
    value: dict[str, Any] = {"name": name, "sha256": digest, "changed": changed, "head": writer.state.size}
    if name == "classes":
        value["classes"] = json.loads(data)
    told = f"{name}: {'sealed' if changed else 'in force already'} (head {writer.state.size})."
    answer(value, "\n".join([told, *kind.lines(data)]), as_json)


def _classes() -> ConfigKind:
    from ledger.log.retention_classes import (
        check_successor,
        classes_in_force,
        classes_json,
        classes_of_json,
        read_classes,
    )

    def changes(writer: Writer, data: bytes) -> bool:
        before, after = classes_in_force(writer.state, writer.store), classes_of_json(data)
        check_successor(before, after)
        return after != before

    def lines(data: bytes) -> list[str]:
        found = []
        for one, kept in sorted(classes_of_json(data).items()):
            days = "until released" if kept.days is None else f"{kept.days:,} days"
            found.append(f"  {one:<32} {days}{', erasable' if kept.erasable else ''}")
        return found

    return ConfigKind(lambda path: classes_json(read_classes(path)), changes, lines)


def seal_config(writer: Writer, name: str, data: bytes) -> bool:
    """Seal a configuration, unless the same is in force. True where it was sealed.

    Where `gc` took a file of these bytes as a left-over, its name is spent: a line feed more makes another.
    """
    from ledger.format.manifest import Config

    def unspent() -> tuple[str, bytes]:
        text = data
        while f"config/{hashlib.sha256(text).hexdigest()}" in writer.state.collected:
            text += b"\n"
        return hashlib.sha256(text).hexdigest(), text

    def propose() -> tuple[type[Any], dict[str, Any]]:
        digest, text = unspent()
        writer.store.create(f"config/{digest}", text)
        return Config, {"name": name, "sha256": digest}

    if writer.state.configs.get(name) == unspent()[0]:
        return False
    writer.put_when(propose)
    return True
