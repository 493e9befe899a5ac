"""One to four workers of a group over the same topic of Kafka, which seal into one ledger."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ledger.reader import Ledger
from tests.benchmarks.comparisons.processes import TIMEOUT_SECONDS, environment, new_ledger
from tests.benchmarks.comparisons.topics import broker_needs, filled, sealing
from tests.benchmarks.curves.curve import Curve, Point

EVENTS: Final = 1_000_000
FEW_EVENTS: Final = 2_000
MANY: Final = 3
"""From so many workers on it is the full run."""


def measure(sizes: Sequence[int], folder: Path) -> Iterator[Point]:
    """The same events for each number of workers; the start of processes and the group's joining included."""
    count = EVENTS if max(sizes) >= MANY else FEW_EVENTS
    with filled(count, folder) as (bootstrap, topic):
        for workers in sizes:
            ledger = new_ledger(folder)
            sealed = sealing(bootstrap, topic, f"g-{workers}", ledger, "--until-end")
            begun = time.perf_counter()
            group = [
                subprocess.Popen(
                    [*sealed, "--writer", f"w{number}"], stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL, env=environment(folder), cwd=folder,
                )
                for number in range(workers)
            ]  # fmt: skip
            try:
                ended = [one.wait(TIMEOUT_SECONDS) for one in group]
            finally:
                for one in group:
                    one.kill()
            seconds = time.perf_counter() - begun
            with Ledger.open(str(ledger), remember=False) as opened:
                (row,) = opened.sql("SELECT count(*) AS n FROM events").to_pylist()
            assert (set(ended), row["n"]) == ({0}, count), (ended, row["n"])
            yield Point(workers, "sealing", count / seconds, "events/s", rising=True)


CURVE: Final = Curve(
    "workers", "Workers of one group, over Kafka, on one machine", "workers", (1, 2, 3, 4), (1, 2), measure,
    broker_needs,
)  # fmt: skip
