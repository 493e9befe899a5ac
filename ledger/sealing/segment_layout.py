"""How the columns of a sealed file are encoded, and which bloom filters and statistics it has.

What is measured in `tests/benchmarks` decided it: random ids as length-delta text under zstd 1, which
brings 32 hex digits to 16.07 bytes because that level looks for no short matches; dictionaries where
values repeat; binary deltas for numbers and times.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger.events import ERASED_LEAF

BLOOM_BITS: Final = {
    "trace_id": 8.0, "event_id": 4.5, "session_id": 5.5, "credential_id": 4.5, "request_id": 4.5,
}  # fmt: skip
"""Wanted bits per distinct value; the size is the nearest power of two, so 0.7 to 1.4 times that."""
STATISTICS: Final = ("time", "partition", "record_offset")
DICTIONARY_REPEATS: Final = 4
"""A free-text column is written through a dictionary from this many rows per distinct value."""

_FPP: Final = 0.1
_BITS_AT_FPP: Final = 5.78
"""Bits per value that a split-block filter takes for `_FPP`: -8 / ln(1 - _FPP^(1/8)), rounded up."""
_BLOOM_MIN_BITS: Final = 256
# Ids that are new on almost every row, and digests: a dictionary of them would be the column again.
_RANDOM: Final = frozenset(
    {
        "event_id", "request_id", "trace_id", "span_id", "parent_span_id", "credential_id", "nonce",
        "parent_credential_id", "decision_ref", "evidence", "payload", "digest", ERASED_LEAF,
    }
)  # fmt: skip
# Text that repeats at one source and never at the next: looked at in each table.
_FREE: Final = frozenset({"task_id", "resource", "attributes", "raw", "comment", "target", "delegation"})


def column_path(column: pa.Field) -> str:
    """The column's path in the Parquet schema."""
    return f"{column.name}.list.element" if pa.types.is_list(column.type) else str(column.name)


def encoding(table: pa.Table, name: str) -> str | None:
    """The Parquet encoding of a column that is not bool; None stands for a dictionary."""
    values = table[name]
    kind = values.type
    if values.null_count == len(values):
        return "PLAIN"  # saves the empty dictionary
    if pa.types.is_timestamp(kind) or pa.types.is_integer(kind):
        repeats = name in {"session_risk", "session_expires_at"}  # the same on each event of a session
        return None if repeats else "DELTA_BINARY_PACKED"
    if name in _RANDOM:
        return "DELTA_LENGTH_BYTE_ARRAY"
    if name in _FREE:
        texts = pc.list_flatten(values) if pa.types.is_list(kind) else values.drop_null()
        if _distinct(texts) * DICTIONARY_REPEATS > len(texts):
            return "DELTA_LENGTH_BYTE_ARRAY"
    return None


def bloom_filters(table: pa.Table, groups: int) -> dict[str, dict[str, float]]:
    """Filters whose size fits the distinct values of one row group."""
    filters = {}
    for name, bits_each in BLOOM_BITS.items():
        if name not in table.column_names or table[name].null_count == len(table):
            continue
        wanted = bits_each * _distinct(table[name].drop_null()) / groups
        bits = _BLOOM_MIN_BITS
        while bits * 2**0.5 < wanted:
            bits *= 2
        filters[name] = {"ndv": max(1, int(bits / _BITS_AT_FPP)), "fpp": _FPP}
    return filters


def _distinct(values: pa.ChunkedArray) -> int:
    """About how many distinct values; within some percent, at a tenth of the exact count's cost."""
    if not len(values):
        return 0
    import polars as pl  # noqa: PLC0415  # readers, who write no file, need not load it

    count: int = pl.Series(values).approx_n_unique()  # type: ignore[assignment]  # typed as any literal
    return count


def coded_columns(file: pq.ParquetFile) -> list[str]:
    """The text columns that an opened file keeps by distinct value: cheaper to read as dictionaries."""
    if not file.metadata.num_row_groups:
        return []
    group = file.metadata.row_group(0)
    chunks = (group.column(place) for place in range(group.num_columns))
    coded = {chunk.path_in_schema for chunk in chunks if "RLE_DICTIONARY" in chunk.encodings}
    return [f.name for f in file.schema_arrow if f.type == pa.string() and f.name in coded - {ERASED_LEAF}]
