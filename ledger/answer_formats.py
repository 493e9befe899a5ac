"""The answer to a query as bytes: table, CSV, JSON, Parquet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from ledger.console import table_text
from ledger.format.plain_text import plain_json

DEFAULT_ROWS: Final = 1_000
"""Rows of a table before it says how many more there are."""


def _as_table(rows: pa.Table) -> bytes:
    shown = rows.slice(0, DEFAULT_ROWS).to_pylist()
    cells = [[_cell(row[name]) for name in rows.column_names] for row in shown]
    text = table_text(rows.column_names, cells)
    if rows.num_rows > DEFAULT_ROWS:
        text += f"\n({DEFAULT_ROWS:,} of {rows.num_rows:,} rows; --format csv or json gives all)"
    else:
        text += f"\n({rows.num_rows:,} rows)"
    return text.encode() + b"\n"


def _cell(value: Any) -> str:
    return "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _as_csv(rows: pa.Table) -> bytes:
    flat = {
        name: [_cell(value) for value in column.to_pylist()] if pa.types.is_nested(column.type) else column
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    }
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(pa.table(flat), sink)
    return bytes(sink.getvalue())


def _as_json(rows: pa.Table) -> bytes:
    return plain_json(orjson.dumps(rows.to_pylist(), default=str).decode()).encode() + b"\n"


def _as_parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue())


WRITERS: Final[dict[str, Callable[[pa.Table], bytes]]] = {
    "table": _as_table, "csv": _as_csv, "json": _as_json, "parquet": _as_parquet,
}  # fmt: skip
