"""A ledger of more and more events: sealing, opening, a trace, evidence, verification, bytes, memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import orjson
import pyarrow as pa

from tests.benchmarks import workload
from tests.benchmarks.comparisons.processes import SEED, environment, new_ledger
from tests.benchmarks.curves.curve import Curve, Point
from tests.benchmarks.more_events import write_days
from tests.benchmarks.peak import run_measured
from tests.services import command

EVENTS_A_FILE: Final = 1_000_000
MEMORY_MIB: Final = 1_024
SAMPLE: Final = 20_000
"""Events by which the share of random bytes is told."""
LOOK: Final = """
import json, sys, time
from ledger.reader import Ledger
def timed(call):
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found
taken = {}
taken["open"], ledger = timed(lambda: Ledger.open(sys.argv[1]))
with ledger:
    # Of different files, so that none of them is warm when the first is asked for.
    files = [one for one in ledger.committed() if one.kind == "events"]
    picked = [files[at * (len(files) - 1) // 5].file.path for at in range(6)]
    import pyarrow.parquet as pq
    from pathlib import Path
    ids = ["trace_id", "event_id"]
    tables = [pq.read_table(Path(sys.argv[1]) / path, columns=ids) for path in picked]
    rows = [table.slice(7, 1).to_pylist()[0] for table in tables]
    taken["first trace"], found = timed(lambda: ledger.trace(rows[0]["trace_id"]))
    assert found.shown
    later = sorted(timed(lambda: ledger.trace(one["trace_id"]))[0] for one in rows[1:])
    taken["trace"] = later[len(later) // 2]
    later = sorted(timed(lambda: ledger.evidence(one["event_id"]))[0] for one in rows[1:])
    taken["evidence"] = later[len(later) // 2]
print(json.dumps(taken))
"""


def measure(sizes: Sequence[int], folder: Path) -> Iterator[Point]:
    """One ledger that grows; sizes are whole files of events, or parts of the first one.

    What lies between two sizes is one run of `ingest file` over files that are all there: its backlog.
    """
    ledger = new_ledger(folder)
    each = min(sizes[0], EVENTS_A_FILE)
    lines = b"".join(line + b"\n" for line in workload.each_line(each, SEED))
    before = 0
    for size in sizes:
        waiting = folder / "waiting"
        waiting.mkdir()
        write_days(lines, before // each, size // each, waiting)
        taken = run_measured(command("ingest", "file", waiting, "--ledger", ledger), folder)
        shutil.rmtree(waiting)
        yield Point(size, "sealing what is new", (size - before) / taken.seconds, "events/s", rising=True)
        yield Point(size, "memory of sealing, all processes", taken.memory_mib, "MiB", MEMORY_MIB)
        yield from _looked(size, ledger, folder)
        before = size


def _looked(size: int, ledger: Path, folder: Path) -> Iterator[Point]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(ledger)], check=True, stdout=subprocess.PIPE, env=environment(folder)
    )
    taken = orjson.loads(done.stdout)
    yield Point(size, "open for reading", taken["open"], "s")
    yield Point(size, "a trace, the first one", taken["first trace"], "s")
    yield Point(size, "a trace, again another", taken["trace"], "s", 0.3)
    yield Point(size, "evidence of an event", taken["evidence"], "s", 0.5)
    checked = run_measured(command("verify", "--ledger", ledger), folder)
    yield Point(size, "verify, everything", size / checked.seconds, "events/s", 250_000, rising=True)
    yield Point(size, "memory of verify, all processes", checked.memory_mib, "MiB", MEMORY_MIB)
    held = sum(path.stat().st_size for path in ledger.rglob("*") if path.is_file())
    yield Point(size, "bytes of an event on disk", held / size, "B")
    yield Point(size, "bytes of chance in its ids", workload.id_entropy(_sample()) / SAMPLE, "B")


@cache
def _sample() -> pa.Table:
    return workload.table(SAMPLE, SEED)


CURVE: Final = Curve(
    "events", "A ledger that grows: one run seals what is new, then it is looked at", "events",
    (1_000_000, 10_000_000, 50_000_000), (2_000, 6_000), measure,
)  # fmt: skip
