"""The files and rows that count, for engines that read Parquet themselves.

A ledger's folder also holds files that were merged away, that no entry names yet, or that a crash left: a
glob over it counts rows twice. Only the log says which files count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.events import DEFAULT_CLASS, ERASED_LEAF
from ledger.format.manifest import parse_dead_letter_path, parse_event_path
from ledger.format.state import LiveFile, LogState

KINDS: Final = ("events", "dead_letters")


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A live file and which of its rows count.

    `kind` is one of `KINDS`; `ranges` are half-open row positions, ascending and disjoint, None for all rows.
    """

    file: LiveFile
    kind: str
    retention: str
    date: str
    ranges: tuple[tuple[int, int], ...] | None

    @property
    def rows(self) -> int:
        """Rows that count."""
        if self.ranges is None:
            return self.file.rows
        return sum(end - begin for begin, end in self.ranges)

    def to_json(self, root: str) -> dict[str, Any]:
        """As `files` answers; the address is that of the ledger at `root` and the path in it."""
        return {
            "file": address(root, self.file.path), "kind": self.kind, "retention": self.retention,
            "date": self.date, "rows": self.rows, "bytes": self.file.bytes, "sha256": self.file.sha256,
            "ranges": None if self.ranges is None else [list(pair) for pair in self.ranges],
        }  # fmt: skip


def committed(now: LogState, then: LogState) -> Iterator[CommittedFile]:
    """What was sealed as of `then`, in the files of `now`, in log order."""
    for file in now.files.values():
        ranges = _counted(file, then, now)
        if not ranges:
            continue
        place = parse_event_path(file.path)
        retention, day = place or (DEFAULT_CLASS, parse_dead_letter_path(file.path) or "")
        whole = ranges == ((0, file.rows),)
        yield CommittedFile(file, KINDS[place is None], retention, day, None if whole else ranges)


def address(root: str, path: str) -> str:
    """Where an engine finds a file of the ledger at `root`, a folder or a URL."""
    return f"{root.rstrip('/')}/{path}"


def duckdb_snippet(files: Sequence[CommittedFile], root: str) -> str:
    """SQL that makes the views `events` and `dead_letters` in any DuckDB."""
    statements = []
    for kind in KINDS:
        parts = []
        some = [one for one in files if one.kind == kind]
        if whole := [one for one in some if one.ranges is None]:
            parts.append(f"SELECT * FROM {_scan(whole, root)} WHERE {ERASED_LEAF} IS NULL")  # noqa: S608  # text for others
        for one in (one for one in some if one.ranges is not None):
            rows = " OR ".join(
                f"(file_row_number >= {begin} AND file_row_number < {end})" for begin, end in one.ranges or ()
            )
            parts.append(
                f"SELECT * EXCLUDE (file_row_number) FROM {_scan([one], root, ', file_row_number = true')}\n"  # noqa: S608  # as above
                f"  WHERE {ERASED_LEAF} IS NULL AND ({rows})"
            )
        if parts:
            statements.append(f"CREATE OR REPLACE VIEW {kind} AS\n" + "\nUNION ALL\n".join(parts) + ";")
    return "\n".join(statements) or "-- This ledger holds no events yet."


def polars_snippet(files: Sequence[CommittedFile], root: str) -> str:
    """Python that makes the lazy frames `events` and `dead_letters`."""
    lines = ["import polars as pl", ""]
    for kind in KINDS:
        frames = []
        some = [one for one in files if one.kind == kind]
        if whole := [address(root, one.file.path) for one in some if one.ranges is None]:
            listed = ",\n".join(f"    {path!r}" for path in whole)
            frames.append(f"pl.scan_parquet([\n{listed},\n], hive_partitioning=False)")
        for one in (one for one in some if one.ranges is not None):
            path = address(root, one.file.path)
            rows = " | ".join(
                f"((pl.col('row') >= {begin}) & (pl.col('row') < {end}))" for begin, end in one.ranges or ()
            )
            scan = f"pl.scan_parquet({path!r}, hive_partitioning=False, row_index_name='row')"
            frames.append(f"{scan}.filter({rows}).drop('row')")
        if frames:
            joined = ",\n".join(frames)
            lines += [f"{kind} = pl.concat([", joined, f"]).filter(pl.col('{ERASED_LEAF}').is_null())"]
    return "\n".join(lines)


def _scan(files: Sequence[CommittedFile], root: str, more: str = "") -> str:
    paths = ",\n  ".join("'" + address(root, one.file.path).replace("'", "''") + "'" for one in files)
    return f"read_parquet([\n  {paths}\n], hive_partitioning = false{more})"


def _counted(file: LiveFile, then: LogState, now: LogState) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for begin, end, hold in file.spans():
        if hold.segment in then.originals and not now.originals[hold.segment].expired:
            if ranges and ranges[-1][1] == begin:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((begin, end))
    return tuple(ranges)
