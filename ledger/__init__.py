"""The core: decision events sealed into Merkle-anchored Parquet, read, verified and proved.

`Ledger.open(url)` is the way in for Python and notebooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ledger.reader import Ledger

__all__ = ["Ledger"]


def __getattr__(name: str) -> Any:
    # Loaded on first use: the pure modules must not pull in the query engine.
    if name == "Ledger":
        from ledger.reader import Ledger  # noqa: PLC0415 - on first use, as said above

        return Ledger
    raise AttributeError(name)
