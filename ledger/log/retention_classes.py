"""Retention classes: read from an operator's file, sealed by `init` or a `config` entry, and in force since.

The file is TOML or JSON, a table for each class:

    [short]
    days = 30

    [legal]
    until_released = true

    [personal]
    days = 90
    erasable = true
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ledger.errors import DamageError, UsageError
from ledger.events import DEFAULT_CLASS
from ledger.format.manifest import Class, RetentionClass
from ledger.format.state import LogState
from ledger.log.sealed_config import config_data
from ledger.storage.store import Store

CLASSES: Final = "classes"
"""The name of the `config` entries that seal them."""
DEFAULT_CLASSES: Final = {DEFAULT_CLASS: RetentionClass(days=400, erasable=False)}
MAX_CLASSES: Final = 100
MAX_FILE_BYTES: Final = 65_536
_NAME: Final = re.compile(r"[a-z0-9-]{1,32}")
_REMEDY: Final = "Write a table for each class, such as [short] with days = 30; docs/commands.md shows one."

Classes = dict[str, RetentionClass]
_SEALED: Final[TypeAdapter[Classes]] = TypeAdapter(dict[Class, RetentionClass])


class _Wanted(BaseModel):
    """A class as an operator writes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    days: int | None = None
    until_released: bool = False
    erasable: bool = False


def read_classes(path: Path) -> Classes:
    """The classes of an operator's file; the default one is added where it is not named.

    Raises:
        UsageError: it cannot be read, or does not say for each class how long it is kept.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"The classes in {path} cannot be read: {error.strerror}.", _REMEDY) from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(
            f"{path} is larger than the {MAX_FILE_BYTES:,} bytes that classes may take.", _REMEDY
        )
    try:
        tables = json.loads(data) if data.lstrip()[:1] == b"{" else tomllib.loads(data.decode())
    except ValueError as error:
        raise UsageError(f"{path} is neither TOML nor JSON: {error}.", _REMEDY) from None
    if not isinstance(tables, dict) or not tables or len(tables) > MAX_CLASSES:
        raise UsageError(f"{path} holds no classes, or more than {MAX_CLASSES}.", _REMEDY)
    return {**DEFAULT_CLASSES, **{name: _class_of(path, name, table) for name, table in tables.items()}}


def classes_json(classes: Classes) -> bytes:
    """What is sealed: RFC 8785 JSON, each class as in `init`."""
    return orjson.dumps(
        {name: one.model_dump() for name, one in classes.items()}, option=orjson.OPT_SORT_KEYS
    )


def classes_of_json(data: bytes) -> Classes:
    """What `classes_json` gave. Raises pydantic's ValidationError for anything else."""
    return _SEALED.validate_json(data)


def classes_in_force(state: LogState, store: Store) -> Classes:
    """What the log says now. Raises DamageError where the sealed file is gone or another one."""
    digest = state.configs.get(CLASSES)
    if digest is None:
        return dict(state.init.retention) if state.init is not None else {}
    data = config_data(store, digest, "the classes in force")
    try:
        return classes_of_json(data)
    except ValidationError:
        raise DamageError(
            f"config/{digest} was sealed as classes, but holds none.", "Load them anew with `config load`."
        ) from None


def check_successor(old: Classes, new: Classes) -> None:
    """Raises UsageError where a class would vanish: events of it are sealed, or may be on their way."""
    if gone := sorted(set(old) - set(new)):
        raise UsageError(
            f"The new classes leave out {', '.join(gone)}, which this ledger has.",
            "Name them as well: a class never goes, since events of it may be sealed.",
        )


def _class_of(path: Path, name: str, table: Any) -> RetentionClass:
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            f"{path}: {name!r} cannot be a class's name.", "Use 1 to 32 of the letters a-z, digits and '-'."
        )
    try:
        wanted = _Wanted.model_validate(table)
        if (wanted.days is None) != wanted.until_released:
            raise UsageError(f"{path}: the class {name} needs either days or until_released = true.", _REMEDY)
        return RetentionClass(days=wanted.days, erasable=wanted.erasable)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its table"
        raise UsageError(f"{path}: the class {name}, {where}: {first['msg']}.", _REMEDY) from None
