"""What is sealed: verified and looked up, against SHA-256 over the same bytes and plain DuckDB."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.reader import Ledger
from tests.benchmarks.comparisons.comparison import Comparison, Sides
from tests.benchmarks.comparisons.processes import lines_file, new_ledger, script, seconds
from tests.services import command

HASH: Final = """
import hashlib, sys
from multiprocessing import Pool
def hashed(name):
    n = 0
    with open(name, "rb") as file:
        for line in file:
            hashlib.sha256(line).digest()
            n += 1
    return n
if __name__ == "__main__":
    with Pool(2) as pool:
        pool.map(hashed, [sys.argv[1], sys.argv[2]])
"""
PLAIN: Final = (
    "SELECT * FROM read_parquet(?, hive_partitioning=false, union_by_name=false) "
    "WHERE trace_id = ? ORDER BY time"
)


@dataclass(slots=True)
class _Verify:
    ledger: Path
    halves: tuple[Path, Path]
    count: int
    folder: Path

    def ours(self) -> float:
        return self.count / seconds(command("verify", "--ledger", self.ledger), self.folder)

    def peers(self) -> float:
        return self.count / seconds(script(HASH, *self.halves), self.folder)


@contextmanager
def with_sha256(count: int, folder: Path) -> Iterator[Sides]:
    """Every event as it was sent, hashed once by two processes: what no verification can go below."""
    lines, ledger = lines_file(count, folder), new_ledger(folder)
    seconds(command("ingest", "file", lines, "--ledger", ledger), folder)
    halves = (folder / "first.jsonl", folder / "second.jsonl")
    with lines.open("rb") as file:
        for half in halves:
            with half.open("wb") as out:
                for _ in range(count // 2):
                    out.write(file.readline())
    yield _Verify(ledger, halves, count, folder)


@dataclass(slots=True)
class _Trace:
    opened: Ledger
    traces: list[str]
    files: list[str]

    def ours(self) -> float:
        begun = time.perf_counter()
        for one in self.traces:
            assert self.opened.trace(one).shown
        return (time.perf_counter() - begun) / len(self.traces)

    def peers(self) -> float:
        import duckdb

        with duckdb.connect() as database:
            begun = time.perf_counter()
            for one in self.traces:
                assert database.sql(PLAIN, params=[self.files, one]).to_arrow_table().num_rows
            return (time.perf_counter() - begun) / len(self.traces)


@contextmanager
def with_plain_duckdb(count: int, folder: Path) -> Iterator[Sides]:
    """The same files, read by DuckDB without us."""
    lines, ledger = lines_file(count, folder), new_ledger(folder)
    seconds(command("ingest", "file", lines, "--ledger", ledger), folder)
    seconds(command("compact", "--ledger", ledger), folder)
    with Ledger.open(str(ledger), remember=False) as opened:
        rows = opened.sql("SELECT DISTINCT trace_id FROM events ORDER BY trace_id LIMIT 20").to_pylist()
        files = [str(ledger / one.file.path) for one in opened.committed(None) if one.kind == "events"]
        sides = _Trace(opened, [row["trace_id"] for row in rows], files)
        sides.ours()
        yield sides


COMPARISONS: Final = (
    Comparison(
        "verify_vs_sha256", "a full `verify` by SHA-256 of every event as it was sent, on two cores",
        "events/s", "SHA-256", None, 1_000_000, 2_000, with_sha256,
    ),
    Comparison(
        "trace_vs_duckdb", "a warm trace look-up by DuckDB over the same Parquet", "s", "DuckDB", None,
        1_000_000, 2_000, with_plain_duckdb, less_is_better=True,
    ),
)  # fmt: skip
