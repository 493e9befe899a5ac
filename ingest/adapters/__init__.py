"""Adapters by name: each turns messages of one foreign format into events."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ingest.defaults import FORMATS
from ledger.errors import UsageError

if TYPE_CHECKING:
    from ingest.decoded import Adapter


def adapter(name: str, options: Mapping[str, Any] | None = None) -> Adapter:
    """The adapter of a format.

    Raises:
        UsageError: no such format, or an option that it does not have.
    """
    module = _module(name)
    made: Adapter = module.from_options(options or {})
    return made


def field_map(name: str) -> tuple[tuple[str, str], ...]:
    """JSON pointers in a message of the format, and the fields that they go to."""
    found: tuple[tuple[str, str], ...] = _module(name).FIELD_MAP
    return found


def grade(name: str) -> int:
    """The context grade that decisions of the format can reach."""
    found: int = _module(name).GRADE
    return found


def _module(name: str) -> Any:
    if name not in FORMATS:
        raise UsageError(f"There is no format {name!r}.", f"Known formats: {', '.join(FORMATS)}.")
    # Only the format that is used is loaded; the name is one of ours.
    return importlib.import_module(f"ingest.adapters.{name}")
