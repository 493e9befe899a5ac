"""What the plan of merges comes to, over simulated commits: no file is read here."""

from __future__ import annotations

from itertools import count

import pytest

from ledger.format.manifest import ENTRY_ROOM_BYTES, MAX_ENTRY_BYTES, HeldRows, event_path
from ledger.format.state import LiveFile
from ledger.upkeep.merge_plan import FAN_IN, TARGET_BYTES, TARGET_ROWS, held_bytes, plan

DAY = "2026-11-23"
NUMBERS = count()


def live(number: int, rows: int, holds: tuple[HeldRows, ...] | None = None, bytes_: int = 5_000) -> LiveFile:
    path = event_path("standard", DAY, f"{number:032x}")
    return LiveFile(
        path, "0" * 64, bytes_, rows, holds or (HeldRows(segment=path, from_=0, to=rows),), number
    )


def carried_out(files: list[LiveFile], fan_in: int = FAN_IN) -> list[LiveFile]:
    """The files that are left when nothing is due any more. Each pass makes less than it takes."""
    while merges := plan(files, fan_in=fan_in):
        gone = {file.path for merge in merges for file in merge.files}
        made = []
        for merge in merges:
            holds = tuple(hold for file in merge.files for hold in file.holds)
            rows = sum(file.rows for file in merge.files)
            made.append(live(next(NUMBERS), rows, holds, sum(file.bytes for file in merge.files)))
        assert len(made) < len(gone)
        files = [file for file in files if file.path not in gone] + made
    return files


@pytest.mark.parametrize(("rows", "most"), [(10, 40), (1, 40), (500, 40)])
def test_small_commits_come_to_few_files_in_the_background(rows: int, most: int) -> None:
    files: list[LiveFile] = []
    for number in range(3_000):
        files.append(live(next(NUMBERS), rows))
        if number % 50 == 49:
            files = carried_out(files)
    assert len(files) <= most
    assert sum(file.rows for file in files) == 3_000 * rows


def test_on_demand_any_two_are_merged_up_to_what_one_entry_can_name() -> None:
    files = carried_out([live(next(NUMBERS), 10) for _ in range(3_000)], fan_in=2)
    assert len(files) <= 13
    assert all(held_bytes(file) <= ENTRY_ROOM_BYTES for file in files)
    assert ENTRY_ROOM_BYTES < MAX_ENTRY_BYTES


def test_a_merge_stays_below_the_rows_and_the_memory_that_are_aimed_at() -> None:
    for merge in plan([live(number, 30_000) for number in range(40)]):
        assert sum(file.rows for file in merge.files) <= TARGET_ROWS
    wide = [live(number, 10, bytes_=TARGET_BYTES // 80) for number in range(40)]
    merges = plan(wide)
    assert merges
    assert all(len(merge.files) <= 10 for merge in merges)
    known = {file.path: TARGET_BYTES // 2 for file in wide}
    assert plan(wide, widths=known) == []


def test_the_background_waits_for_eight_files_of_a_size() -> None:
    files = [live(number, 5) for number in range(10)]
    assert [len(merge.files) for merge in plan(files)] == [10]
    assert plan(files[:7]) == []
    assert plan([*files[:7], live(99, 5_000)]) == []


def test_dates_and_classes_are_never_crossed() -> None:
    other = event_path("standard", "2026-11-24", "f" * 32)
    files = [live(0, 5), LiveFile(other, "0" * 64, 9, 5, (HeldRows(segment=other, from_=0, to=5),), 1)]
    assert plan(files, fan_in=2) == []
