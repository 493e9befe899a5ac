"""Configurations as they lie in a ledger: plain data that reads back as what was loaded."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson
from pydantic import ValidationError

from detections.configs.models import NAMES, parse_config
from ledger.errors import DamageError
from ledger.log.sealed_config import config_data
from ledger.storage.store import Store

_TIMES: Final = ("begins_at", "ends_at", "expires_at")


def sealed_config(store: Store, name: str, digest: str) -> Any:
    """A sealed configuration. Raises DamageError where its file is gone or another one."""
    data = config_data(store, digest, f"sealed as {name}")
    try:
        return parse_config(name, with_times(orjson.loads(data)))
    except (ValidationError, ValueError) as error:
        first = str(error).split("\n", 1)[0]
        raise DamageError(
            f"config/{digest} was sealed as {name}, but is none: {first}.", "Load it anew with `config load`."
        ) from None


def is_ours(name: str) -> bool:
    """Whether a `config` entry of this name is one of detections'."""
    return name in NAMES


def with_times(value: Any) -> Any:
    """Times of a file are text; the models take them as times."""
    if isinstance(value, list):
        return [with_times(one) for one in value]
    if isinstance(value, dict):
        return {name: _time(one) if name in _TIMES else with_times(one) for name, one in value.items()}
    return value


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value
