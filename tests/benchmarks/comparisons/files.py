"""A file of JSON lines: sealed by us, against DuckDB and polars that only turn it into Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.comparisons.comparison import Comparison, Sides
from tests.benchmarks.comparisons.processes import lines_file, new_ledger, script, seconds
from tests.services import command

DUCKDB: Final = (
    'import duckdb, sys; duckdb.sql("COPY (SELECT * FROM read_json(\'" + sys.argv[1] + "\', '
    "format='newline_delimited')) TO '\" + sys.argv[2] + \"' (FORMAT parquet, COMPRESSION zstd)\")"
)
POLARS: Final = "import polars, sys; polars.scan_ndjson(sys.argv[1]).sink_parquet(sys.argv[2])"


@dataclass(slots=True)
class _Files:
    lines: Path
    count: int
    folder: Path
    peer: str

    def ours(self) -> float:
        ledger = new_ledger(self.folder)
        return self.count / seconds(command("ingest", "file", self.lines, "--ledger", ledger), self.folder)

    def peers(self) -> float:
        return self.count / seconds(script(self.peer, self.lines, self.folder / "peer.parquet"), self.folder)


def _with(peer: str, count: int, folder: Path) -> Iterator[Sides]:
    yield _Files(lines_file(count, folder), count, folder, peer)


@contextmanager
def with_duckdb(count: int, folder: Path) -> Iterator[Sides]:
    """Its own reader of JSON, types found by itself, and zstd."""
    yield from _with(DUCKDB, count, folder)


@contextmanager
def with_polars(count: int, folder: Path) -> Iterator[Sides]:
    """Its streaming engine."""
    yield from _with(POLARS, count, folder)


COMPARISONS: Final = (
    Comparison(
        "files_vs_duckdb", "`ingest file` by DuckDB's COPY of the same lines to plain Parquet", "events/s",
        "DuckDB COPY", 0.4, 1_000_000, 2_000, with_duckdb,
    ),
    Comparison(
        "files_vs_polars", "`ingest file` by polars' `sink_parquet` of the same lines", "events/s",
        "polars sink_parquet", None, 1_000_000, 2_000, with_polars,
    ),
)  # fmt: skip
