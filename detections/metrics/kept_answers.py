"""What the metrics' SQL answered, by slots of 15 minutes in UTC, kept for as long as the ledger stands there.

Periods, zones and filters are worked out from these rows in no time; only a ledger that grew is asked again.
They lie in this user's cache folder, are used for the very root, text and settings that gave them, and may be
removed at any time.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from ledger.reader import Ledger
from ledger.storage.derived_files import is_own, keep

MOST_KEPT: Final = 64
"""Files; a checkpoint needs one for each metric, and one more for each `at`."""
_ROOT_LETTERS: Final = 32


def answer(ledger: Ledger, at: int | None, text: str) -> list[dict[str, Any]]:
    """The rows of one of our statements over the first `at` entries (None: the head)."""
    path = _path(ledger, at, text)
    if path is not None and is_own(path):
        with suppress(OSError, pa.ArrowException):
            return _rows(pq.read_table(path))
    rows = ledger.query(at).trusted(text)
    if path is not None:
        _keep(path, rows)
    return _rows(rows)


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _path(ledger: Ledger, at: int | None, text: str) -> Path | None:
    folder = ledger.derived_folder
    if folder is None:
        return None
    root = ledger.sealed.tree.root().hex()
    size = ledger.size if at is None else at
    names = "\n".join((str(ledger.size), str(size), duckdb.__version__, text))
    name = f"{root[:_ROOT_LETTERS]}-{hashlib.sha256(names.encode()).hexdigest()}.parquet"
    return folder / "metrics" / name


def _keep(path: Path, rows: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    keep(path, sink.getvalue().to_pybytes())
    with suppress(OSError):
        # Of another head nothing is wanted any more: what was erased since may be in it.
        root = path.name[:_ROOT_LETTERS]
        kept = sorted(path.parent.glob("*.parquet"), key=lambda one: one.stat().st_mtime)
        current = [one for one in kept if one.name.startswith(root)]
        for one in {*kept} - {*current[-MOST_KEPT:]}:
            one.unlink()
