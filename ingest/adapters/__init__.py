"""Adapters by name: each turns messages of one foreign format into events."""

from __future__ import annotations

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


def _module(name: str) -> Any:
    match name:
        case "native":
            from ingest.adapters import native  # noqa: PLC0415 - only the format that is used is loaded

            return native
        case "opa":
            from ingest.adapters import opa  # noqa: PLC0415 - as above

            return opa
        case _:
            raise UsageError(f"There is no format {name!r}.", f"Known formats: {', '.join(FORMATS)}.")
