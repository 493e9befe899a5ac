"""Which files are worth merging: neighbours in log order, never across class or date.

Pure: live files in, merges out. A merge stays within three limits: rows, memory while its rows are in
Arrow form, and the bytes of the one entry that names its inputs and all that they hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.format.manifest import ENTRY_ROOM_BYTES, parse_event_path
from ledger.format.state import LiveFile

TARGET_ROWS: Final = 250_000
"""A file of at least half of this is left alone; merged files stay below it."""
TARGET_BYTES: Final = 128 * 1024 * 1024
"""Most bytes of rows in Arrow form in one merge; a file of at least half of this is left alone."""
FAN_IN: Final = 8
"""So many files of one size class are merged in the background; on demand, any two."""
_EXPANSION: Final = 8
"""Bytes in Arrow form for one in Parquet, where nobody has read the file yet: a guess for the plan alone."""
_HOLD_BYTES: Final = 48
"""What a hold takes beside its segment's path: its keys and two row numbers."""
_NAME_BYTES: Final = 3


@dataclass(frozen=True, slots=True)
class Merge:
    """Live files of one class and date that become one."""

    retention: str
    date: str
    files: tuple[LiveFile, ...]


def plan(
    files: Iterable[LiveFile],
    *,
    fan_in: int = FAN_IN,
    target_rows: int = TARGET_ROWS,
    widths: Mapping[str, int] | None = None,
) -> list[Merge]:
    """The merges that are due.

    At least `fan_in` files of one size class (a factor of `FAN_IN` wide), or two and more where no
    further one would fit. `widths` has the bytes in Arrow form of files that were read, by path.
    """
    known = widths or {}
    groups: dict[tuple[str, str], list[LiveFile]] = defaultdict(list)
    for file in files:
        place = parse_event_path(file.path)
        if place is not None and not _is_finished(file, target_rows, known):
            groups[place].append(file)
    merges: list[Merge] = []
    for (retention, day), members in sorted(groups.items()):
        tiers: dict[int, list[LiveFile]] = defaultdict(list)
        for file in sorted(members, key=lambda f: (f.entry, f.path)):
            tiers[0 if fan_in <= 2 else _tier(file.rows)].append(file)
        for tier in tiers.values():
            merges += [Merge(retention, day, run) for run in _runs(tier, fan_in, target_rows, known)]
    return merges


def held_bytes(file: LiveFile) -> int:
    """Bytes of an entry that name what `file` holds."""
    return sum(len(hold.segment) + _HOLD_BYTES for hold in file.holds)


def _width(file: LiveFile, known: Mapping[str, int]) -> int:
    return known.get(file.path, file.bytes * _EXPANSION)


def _is_finished(file: LiveFile, target_rows: int, known: Mapping[str, int]) -> bool:
    return (
        file.rows >= target_rows // 2
        or _width(file, known) >= TARGET_BYTES // 2
        or held_bytes(file) >= ENTRY_ROOM_BYTES // 2
    )


def _tier(rows: int) -> int:
    tier = 0
    while rows >= FAN_IN:
        rows //= FAN_IN
        tier += 1
    return tier


def _runs(
    files: Sequence[LiveFile], fan_in: int, target_rows: int, known: Mapping[str, int]
) -> Iterable[tuple[LiveFile, ...]]:
    run: list[LiveFile] = []
    rows = width = named = 0
    for file in files:
        costs = file.rows, _width(file, known), held_bytes(file) + len(file.path) + _NAME_BYTES
        full = (
            rows + costs[0] > target_rows
            or width + costs[1] > TARGET_BYTES
            or named + costs[2] > ENTRY_ROOM_BYTES
        )
        if full:
            if len(run) >= 2:
                yield tuple(run)
            run, rows, width, named = [], 0, 0, 0
        run.append(file)
        rows, width, named = rows + costs[0], width + costs[1], named + costs[2]
    if len(run) >= max(2, fan_in):
        yield tuple(run)
