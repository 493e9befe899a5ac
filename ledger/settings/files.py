"""Settings from files: the user's own, one in the current folder, one that is named.

A file in the current folder may come with somebody else's data. It sets only what cannot weaken an answer:
another ledger, a smaller sample or a place to write are refused there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ledger.errors import UsageError
from ledger.settings.option_names import defaults
from ledger.storage.user_folders import config_folder

CONFIG_VARIABLE: Final = "DECISION_LEDGER_CONFIG"
FILE_HERE: Final = "decision-ledger.toml"
USER_FILE: Final = "config.toml"
MAX_CONFIG_BYTES: Final = 1_048_576
HARMLESS: Final = frozenset({"json", "verbose", "limit", "batch-rows", "batch-seconds"})
"""Options that a file in the current folder may set: how much and in which form, never what is true."""


def settings(command: Any, named: Path | None = None) -> dict[str, Any]:
    """The parser's defaults: a `named` file wins over one in the current folder, that over the user's own.

    Raises:
        UsageError: a file cannot be read, is no TOML, has an unknown setting, or one that has no place there.
    """
    found: dict[str, Any] = {}
    for path, required in ((config_folder() / USER_FILE, False), (Path(FILE_HERE), False), (named, True)):
        if path is None or not (required or path.is_file()):
            continue
        value = _read(path)
        if path == Path(FILE_HERE):
            _check_harmless(value)
        found = _merged(found, defaults(command, value, str(path)))
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"The configuration file {path} cannot be read: {error.strerror}.",
            f"Correct --config, {CONFIG_VARIABLE} or the file's permissions.",
        ) from None
    if len(data) > MAX_CONFIG_BYTES:
        raise UsageError(
            f"The configuration file {path} is larger than {MAX_CONFIG_BYTES} bytes.", "Shorten it."
        )
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {path} is not TOML: {error}.", "Correct it.") from None


def _check_harmless(value: Mapping[str, Any], place: str = "") -> None:
    for key, inner in value.items():
        if isinstance(inner, dict):
            _check_harmless(inner, f"{place}{key}.")
        elif key.replace("_", "-") not in HARMLESS:
            raise UsageError(
                f"{FILE_HERE} in the current folder sets {place}{key}, which could weaken an answer.",
                f"Put it into {config_folder() / USER_FILE}, or name the file with --config.",
            )


def _merged(first: dict[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for key, value in second.items():
        held = merged.get(key)
        merged[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return merged
