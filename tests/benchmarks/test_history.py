"""What a long history costs: opening a log of 100,000 commits, and merging 3,000 small ones."""

from __future__ import annotations

import time
from pathlib import Path

from ledger.reader import Ledger
from ledger.upkeep.compaction import Compaction
from tests.benchmarks.conftest import Record
from tests.benchmarks.long_log import forget_catalogues, make_long_log, opened
from tests.making import make_ledger, row, stretch

COMMITS = 100_000
SMALL_COMMITS = 3_000
ROWS = 10
RUNS = 5


def test_opening_a_long_log(tmp_path: Path, record: Record) -> None:
    folder = tmp_path / "ledger"
    make_long_log(folder, COMMITS)
    for who, target in (("reader", 0.3), ("writer", None)):
        forget_catalogues(folder)
        cold = opened(folder, who)
        record(f"open_100000_commits_{who}_cold", [cold[0]], "s", None)
        warm = [opened(folder, who) for _ in range(RUNS)]
        record(f"open_100000_commits_{who}", [seconds for seconds, _ in warm], "s", target)
        record(f"open_100000_commits_{who}_memory", [size for _, size in warm], "MB", 300 if target else None)


def test_merging_small_commits(tmp_path: Path, record: Record) -> None:
    made = make_ledger(tmp_path)
    writer = made.writer()
    compaction = Compaction(writer)
    taken = []
    for commit in range(SMALL_COMMITS):
        batch = [stretch([row(commit * ROWS + n) for n in range(ROWS)], start=commit * ROWS)]
        start = time.perf_counter()
        writer.commit(batch)
        taken.append(time.perf_counter() - start)
        if commit % 50 == 49:
            compaction.run()
    compaction.run()
    record("commit_of_10_rows", [1_000 * seconds for seconds in taken], "ms", None)
    record("files_of_3000_commits_background", [len(writer.state.files)], "files", None)
    compaction.run(fan_in=2)
    record("files_of_3000_commits_compact", [len(writer.state.files)], "files", None)
    made.clock.advance(3_600)
    writer.tick()
    with Ledger.open(str(made.folder)) as ledger:
        report = ledger.verify()
        assert report.findings == []
        assert report.events == SMALL_COMMITS * ROWS
    left = {file.path for file in made.store.list("events")} - set(writer.state.files)
    assert left == set()
