"""Adapters by name: each turns messages of one foreign format into events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ingest.adapters import native, opa
from ingest.decoded import Adapter
from ledger.errors import UsageError

NAMES: Final = ("native", "opa")
FIELD_MAPS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "native": native.FIELD_MAP,
    "opa": opa.FIELD_MAP,
}
"""By format: JSON pointers in a message and the fields that they go to."""


def _native(options: Mapping[str, Any]) -> Adapter:
    if options:
        raise UsageError(f"The format native has no option {min(options)!r}.", "Remove it from the intake.")
    return native.NativeAdapter()


_MAKERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Adapter]]] = {
    "native": _native,
    "opa": opa.from_options,
}


def adapter(name: str, options: Mapping[str, Any] | None = None) -> Adapter:
    """The adapter of a format.

    Raises:
        UsageError: no such format, or an option that it does not have.
    """
    maker = _MAKERS.get(name)
    if maker is None:
        raise UsageError(f"There is no format {name!r}.", f"Known formats: {', '.join(NAMES)}.")
    return maker(options or {})
