"""Parquet in and out: one table of events (or dead letters) as a file, its leaves and its root.

The same table gives the same bytes; `ledger.sealing.segment_layout` says how its columns are encoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ledger.errors import DamageError, OutsideError, UsageError
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA
from ledger.format.canonical import leaf_hashes
from ledger.format.merkle import root
from ledger.sealing.segment_layout import STATISTICS, bloom_filters, coded_columns, column_path, encoding

ROW_GROUP_ROWS: Final = 50_000
"""Most rows in one row group: what one bloom filter answers for, and what a hit has to read."""
PAGE_BYTES: Final = 1_048_576
ZSTD_LEVEL: Final = 1

Source: TypeAlias = bytes | pa.Buffer | Path
"""A file's bytes, or where it lies on this machine's disk."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One file to be sealed: its bytes, and what its log entry says about it.

    `leaves` are the 32-byte leaf hashes in row order and `root` is theirs. The times are those of
    the rows that were not erased, aware and in UTC; None where all were. `kinds` counts events by
    kind and is empty for dead letters.
    """

    data: bytes
    sha256: str
    rows: int
    root: bytes
    leaves: list[bytes]
    min_time: datetime | None
    max_time: datetime | None
    kinds: dict[str, int] = field(default_factory=dict)


def write_events(table: pa.Table, leaves: list[bytes] | None = None) -> Segment:
    """The segment of a table in `ARROW_SCHEMA`, all of one retention class and one UTC date.

    `leaves` are the leaf hashes of its rows, where they are known already.

    Raises `UsageError` for any other table, `DamageError` for a row without a canonical form.
    """
    classes = pc.unique(_checked(table, ARROW_SCHEMA)["retention"].drop_null())
    if len(classes) > 1:
        raise UsageError(f"A segment holds one retention class, not {', '.join(classes.to_pylist())}.")
    segment = _segment(table, leaves)
    if segment.min_time and segment.max_time and segment.min_time.date() != segment.max_time.date():
        raise UsageError(
            f"A segment holds one date, not {segment.min_time.date()} to {segment.max_time.date()}."
        )
    return segment


def write_dead_letters(table: pa.Table) -> Segment:
    """The file of a table in `DEAD_LETTER_SCHEMA`. Raises as `write_events` does."""
    return _segment(_checked(table, DEAD_LETTER_SCHEMA))


def parquet_bytes(table: pa.Table) -> bytes:
    """The Parquet file alone, for rows whose leaves are known: events or dead letters."""
    groups = max(1, -(-len(table) // ROW_GROUP_ROWS))
    group_rows = max(1, -(-len(table) // groups))  # of one size, so that one filter size fits all
    encodings = {
        column_path(column): encoding(table, column.name)
        for column in table.schema
        if column.type != pa.bool_()
    }
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        data_page_size=PAGE_BYTES,
        max_rows_per_page=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        use_dictionary=[path for path, one in encodings.items() if one is None],
        column_encoding={path: one for path, one in encodings.items() if one is not None},
        bloom_filter_options=bloom_filters(table, groups),
        write_statistics=[name for name in STATISTICS if name in table.column_names],
        store_schema=False,
    ) as file:
        for start in range(0, len(table), group_rows):
            # In one piece, since pages are cut by the pieces too; and group by group, since it is a copy.
            file.write_table(table.slice(start, group_rows).combine_chunks(), group_rows)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_events(source: Source, columns: Sequence[str] | None = None, *, rows: int | None = None) -> pa.Table:
    """Events of a segment, whole or the named columns; `rows` is how many its entry says it has.

    Raises `DamageError` when it is no segment: not Parquet, other columns, another number of rows,
    text that is not UTF-8. That no byte was changed is for the caller to check, by the file's SHA-256.
    """
    return _read(source, ARROW_SCHEMA, columns, rows)


def read_dead_letters(
    source: Source, columns: Sequence[str] | None = None, *, rows: int | None = None
) -> pa.Table:
    """Dead letters of a file; otherwise as `read_events`."""
    return _read(source, DEAD_LETTER_SCHEMA, columns, rows)


def read_event_rows(source: Source, start: int, end: int, *, coded: bool = False) -> pa.Table:
    """Rows [start, end) of a segment, reading only the row groups that hold them. Raises as `read_events`.

    `coded`: text that the file keeps by distinct value comes as dictionaries, which `ledger.format.canonical`
    takes at less cost.
    """
    return _read_rows(source, ARROW_SCHEMA, start, end, coded=coded)


def read_dead_letter_rows(source: Source, start: int, end: int) -> pa.Table:
    """Rows [start, end) of a dead-letter file; otherwise as `read_event_rows`."""
    return _read_rows(source, DEAD_LETTER_SCHEMA, start, end)


def _read_rows(source: Source, schema: pa.Schema, start: int, end: int, *, coded: bool = False) -> pa.Table:
    with _opened(source, schema, coded=coded) as (file, what):
        groups: list[int] = []
        edge = first = 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if edge + rows > start and edge < end:
                if not groups:
                    first = edge
                groups.append(number)
            edge += rows
        if end > edge:
            raise DamageError(f"{what} holds {edge} rows; row {end - 1} was asked for.")
        table = file.read_row_groups(groups).slice(start - first, end - start)
        table.validate(full=True)
        return table


def _segment(table: pa.Table, leaves: list[bytes] | None = None) -> Segment:
    leaves = leaf_hashes(table) if leaves is None else leaves
    data = parquet_bytes(table)
    times = pc.min_max(table["time"])
    counts = pc.value_counts(table["kind"].drop_null()).to_pylist() if "kind" in table.column_names else []
    return Segment(
        data=data,
        sha256=sha256(data).hexdigest(),
        rows=len(table),
        root=root(leaves),
        leaves=leaves,
        min_time=_utc(times["min"].as_py()),
        max_time=_utc(times["max"].as_py()),
        kinds={count["values"]: count["counts"] for count in sorted(counts, key=lambda c: str(c["values"]))},
    )


def _checked(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if not table.schema.equals(schema):
        raise UsageError("The table's columns are not those of the format.", "Cast it to the schema first.")
    if not len(table):
        raise UsageError("A file without rows is never sealed.")
    return table


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def _read(source: Source, schema: pa.Schema, columns: Collection[str] | None, rows: int | None) -> pa.Table:
    if unknown := set(columns or ()) - set(schema.names):
        raise UsageError(f"There is no column {min(unknown)!r}.")
    with _opened(source, schema) as (file, what):
        if rows is not None and file.metadata.num_rows != rows:
            raise DamageError(f"{what} holds {file.metadata.num_rows} rows; its entry says {rows}.")
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        return table


@contextmanager
def _opened(
    source: Source, schema: pa.Schema, *, coded: bool = False
) -> Iterator[tuple[pq.ParquetFile, str]]:
    """The opened file and what to call it; what Arrow says while it is read becomes `DamageError`."""
    what = str(source) if isinstance(source, Path) else "The file"
    try:
        handle = pa.memory_map(str(source)) if isinstance(source, Path) else pa.BufferReader(source)
    except FileNotFoundError as error:
        raise DamageError(f"{what} is missing.", "Restore it from a copy.") from error
    except OSError as error:
        raise OutsideError(f"{what} cannot be read: {error}.", "Check the disk and permissions.") from error
    try:
        with handle:
            file = pq.ParquetFile(handle)
            if not file.schema_arrow.equals(schema):
                raise DamageError(f"{what} is Parquet, but its columns are not those of the format.")
            if coded:
                file = pq.ParquetFile(handle, metadata=file.metadata, read_dictionary=coded_columns(file))
            yield file, what
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DamageError(f"{what} is not a whole Parquet file of ours: {error}.") from error
