"""A log of more and more commits: what it costs to open, and what one commit more costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from ledger.format.manifest import OffsetKey
from ledger.log.signing import SigningKey
from ledger.storage.local_store import LocalStore
from ledger.writer import Writer
from tests.benchmarks.curves.curve import Curve, Point
from tests.benchmarks.long_log import forget_catalogues, make_long_log, opened
from tests.making import row, stretch

COMMITS: Final = 40
ROWS: Final = 10
OWN: Final = OffsetKey("file:measured")
"""A key of its own: the log says how far that of its entries is read."""
RUNS: Final = 3


def measure(sizes: Sequence[int], folder: Path) -> Iterator[Point]:
    """Logs without segments before (`tests.benchmarks.long_log`); the commits that are timed have theirs."""
    for commits in sizes:
        place = folder / f"log-{commits}"
        make_long_log(place, commits)
        try:
            yield from _measured(commits, place)
        finally:
            shutil.rmtree(place)


def _measured(commits: int, place: Path) -> Iterator[Point]:
    forget_catalogues(place)
    cold, _ = opened(place, "reader")
    warm = [opened(place, "reader") for _ in range(RUNS)]
    yield Point(commits, "open for reading, first time", cold, "s")
    yield Point(commits, "open for reading, again", median(seconds for seconds, _ in warm), "s", 0.3)
    yield Point(commits, "memory after opening", max(size for _, size in warm), "MiB")
    key = place.with_name(place.name + ".key")
    writer = Writer(LocalStore(place), SigningKey(key), remember=False)
    taken = []
    for number in range(COMMITS):
        rows = [row(number * ROWS + n) for n in range(ROWS)]
        batch = [stretch(rows, start=number * ROWS, key=OWN)]
        begun = time.perf_counter()
        writer.commit(batch)
        taken.append(1_000 * (time.perf_counter() - begun))
    yield Point(commits, f"a commit of {ROWS} rows", median(taken), "ms")


CURVE: Final = Curve(
    "commits", "A log of many commits: opening it, and one commit more", "commits",
    (10, 1_000, 10_000, 100_000), (10, 300), measure,
)  # fmt: skip
