"""The answer to a query as bytes: table, CSV, JSON, Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger.console import table_text
from ledger.format.plain_text import plain_json

DEFAULT_ROWS: Final = 1_000
"""Rows of a table before it says how many more there are."""


def _as_table(rows: pa.Table) -> bytes:
    shown = _in_words(rows.slice(0, DEFAULT_ROWS))
    text = table_text(
        shown.column_names, zip(*([_cell(v) for v in one.to_pylist()] for one in shown.columns), strict=True)
    )
    if rows.num_rows > DEFAULT_ROWS:
        text += f"\n({DEFAULT_ROWS:,} of {rows.num_rows:,} rows; --format csv or json gives all)"
    else:
        text += f"\n({rows.num_rows:,} rows)"
    return text.encode() + b"\n"


def _in_words(rows: pa.Table) -> pa.Table:
    """Times as the log spells them, RFC 3339 in UTC to the microsecond; columns of one name told apart."""
    return pa.table([_in_our_spelling(one) for one in rows.columns], names=_distinct(rows.column_names))


def _in_our_spelling(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_timestamp(column.type):
        return column
    aware = column.type.tz is not None
    exact = column.cast(pa.timestamp("us", "UTC" if aware else None))
    return pc.strftime(exact, "%Y-%m-%dT%H:%M:%S" + ("Z" if aware else ""))


def _distinct(names: list[str]) -> list[str]:
    """As DuckDB tells columns of one name apart: a, a_1, a_2."""
    given: list[str] = []
    for name in names:
        told, number = name, 0
        while told in given or (number and told in names):
            number += 1
            told = f"{name}_{number}"
        given.append(told)
    return given


def _cell(value: Any) -> str:
    if isinstance(value, list | dict):
        return _json(value).decode()
    return "" if value is None else value.isoformat() if hasattr(value, "isoformat") else str(value)


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS)


def _as_csv(rows: pa.Table) -> bytes:
    """RFC 4180, quoted only where it needs to be; lists and structures as JSON."""
    words = _in_words(rows)
    flat = [
        pa.array([None if value is None else _cell(value) for value in column.to_pylist()], pa.string())
        if pa.types.is_nested(column.type)
        else column
        for column in words.columns
    ]
    sink = io.BytesIO()
    pl.from_arrow(pa.table(flat, names=words.column_names)).write_csv(sink, quote_style="necessary")  # type: ignore[union-attr]  # a table gives a frame
    return sink.getvalue()


def _as_json(rows: pa.Table) -> bytes:
    return plain_json(_json(_in_words(rows).to_pylist()).decode()).encode() + b"\n"


def _as_parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows.rename_columns(_distinct(rows.column_names)), sink, compression="zstd")
    return bytes(sink.getvalue())


WRITERS: Final[dict[str, Callable[[pa.Table], bytes]]] = {
    "table": _as_table, "csv": _as_csv, "json": _as_json, "parquet": _as_parquet,
}  # fmt: skip
