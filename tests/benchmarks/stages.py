"""Where the time of sealing goes: CPU per event of each stage on one core, beside the least it could be.

The stages are called one after the other on the chunks and the batch that a backlog makes, with the functions
that the pipeline calls. A limit does the least that a stage is for, with the same bytes.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from ingest.adapters.flat_json import read_flat
from ingest.adapters.native_columns import to_events
from ingest.authority import Intake, apply
from ingest.chunk import Chunk
from ingest.decoded import Decoded, Limits
from ingest.decoding import shared
from ingest.decoding.fates import PackedChunk, PackedFate
from ingest.freed_memory import keep_freed_memory
from ingest.stretches import Fate, fate_of
from ledger.format.canonical import canonical_column, leaf_hashes
from ledger.format.manifest import OffsetKey
from ledger.format.merkle import root
from ledger.sealing.batch import Stretch
from ledger.sealing.new_events import find_fresh
from ledger.sealing.seen_events import SeenEvents
from ledger.sealing.segment import parquet_bytes
from tests.benchmarks import workload
from tests.benchmarks.comparisons.processes import SEED

CHUNK: Final = 15_000
"""Messages of 16 MiB of a file, or of a response of Kafka, about."""
BATCH: Final = 8 * CHUNK
RUNS: Final = 5
KEY: Final = OffsetKey("file:profile")
LIMITS: Final = Limits()
INTAKE: Final = Intake(name="bench")
NOW: Final = datetime(2026, 11, 27, tzinfo=UTC)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Stage:
    """CPU in microseconds an event: the median of some runs; and the least that it could be, by `limit`."""

    name: str
    cost: float
    limit: str | None = None
    least: float | None = None


class _Clock:
    """CPU seconds of this process by stage, one list of runs each."""

    def __init__(self) -> None:
        self.runs: list[dict[str, float]] = []

    def take(self, name: str, call: Callable[..., Made], *arguments: Any) -> Made:
        begun = time.process_time()
        made = call(*arguments)
        self.runs[-1][name] = self.runs[-1].get(name, 0.0) + time.process_time() - begun
        return made

    def cost(self, name: str, events: int) -> float:
        return float(np.median([run[name] for run in self.runs])) / events * 1e6


def profile(batch: int, chunk: int, folder: Path) -> list[Stage]:
    """The stages in their order."""
    values = pa.array(workload.json_lines(batch, SEED), pa.large_binary())
    wire = b"".join(line + b"\n" for line in values.to_pylist())
    cores = pa.cpu_count()
    pa.set_cpu_count(1)
    try:
        clock = _Clock()
        for _ in range(RUNS):
            clock.runs.append({})
            _run(clock, values, chunk, wire, folder)
    finally:
        pa.set_cpu_count(cores)

    def stage(name: str, limit: str | None = None) -> Stage:
        return Stage(name, clock.cost(name, batch), limit, clock.cost(limit, batch) if limit else None)

    return [
        stage(JSON, BY_PYARROW), stage(CHECKS), stage(AUTHORITY), stage(LEAVES, BY_SHA256), stage(CARRIED),
        stage(DUPLICATES), stage(TREE), stage(PARQUET, BY_PARQUET), stage(WRITTEN),
    ]  # fmt: skip


JSON: Final = "JSON to columns, strictly"
CHECKS: Final = "checks, masking, times, attributes"
AUTHORITY: Final = "authority of the intake, coordinates"
LEAVES: Final = "canonical form and leaf hashes"
CARRIED: Final = "to a decoding process and back"
DUPLICATES: Final = "duplicates found"
TREE: Final = "tree over the leaves"
PARQUET: Final = "Parquet with bloom filters"
WRITTEN: Final = "written, with fsync"
BY_PYARROW: Final = "pyarrow.json, types given"
BY_SHA256: Final = "SHA-256 of the canonical bytes"
BY_PARQUET: Final = "plain Parquet of the same table, zstd"


def _run(clock: _Clock, values: pa.LargeBinaryArray, size: int, wire: bytes, folder: Path) -> None:
    keep_freed_memory()
    stretches = [_decoded(clock, values.slice(start, size), start) for start in range(0, len(values), size)]
    clock.take(DUPLICATES, find_fresh, stretches, SeenEvents(), lambda _segment, _rows: [])
    table = pa.concat_tables([one.events for one in stretches]).combine_chunks()
    leaves = [leaf for one in stretches if one.leaves is not None for leaf in one.leaves.to_pylist()]
    clock.take(TREE, root, leaves)
    data = clock.take(PARQUET, parquet_bytes, table)
    clock.take(WRITTEN, _written, folder / "segment", data)
    _limits(clock, table, wire)


def _decoded(clock: _Clock, values: pa.LargeBinaryArray, start: int) -> Stretch:
    """One chunk, as a decoding process gets it and gives it back."""
    end = start + len(values)
    chunk = Chunk(KEY, start, end, np.arange(start, end), values)
    sent = clock.take(CARRIED, _there, PackedChunk.of(chunk)).unpacked()
    columns = clock.take(JSON, read_flat, sent.values, LIMITS.message_bytes)
    assert columns is not None
    events, good = clock.take(CHECKS, to_events, columns, LIMITS, NOW)
    assert good.all()
    fate = clock.take(AUTHORITY, _judged, sent, Decoded(events, columns.positions, [], []))
    fate.leaves = pa.array(clock.take(LEAVES, leaf_hashes, fate.events), pa.binary(32))
    back = clock.take(CARRIED, lambda: _there(PackedFate.of(fate)).unpacked())
    return Stretch(
        KEY, start, end, chunk.offsets, values, back.status, back.events, back.message, leaves=back.leaves
    )  # fmt: skip


def _judged(chunk: Chunk, decoded: Decoded) -> Fate:
    return fate_of(chunk, apply(decoded, INTAKE, LIMITS), LIMITS)


def _limits(clock: _Clock, table: pa.Table, wire: bytes) -> None:
    contents = canonical_column(table)
    clock.take(BY_SHA256, lambda: [sha256(one).digest() for one in contents])
    clock.take(BY_PARQUET, lambda: pq.write_table(table, pa.BufferOutputStream(), compression="zstd"))
    clock.take(BY_PYARROW, lambda: pyarrow.json.read_json(io.BytesIO(wire), _wide(), _typed()))


def _wide() -> pyarrow.json.ReadOptions:
    return pyarrow.json.ReadOptions(use_threads=False, block_size=8 << 20)


def _typed() -> pyarrow.json.ParseOptions:
    """The fields of the workload as pyarrow reads them; `attributes` as it finds them."""
    kinds = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), list: pa.list_(pa.string())}
    kinds_of: dict[str, Any] = {}
    for event in workload.events(2_000, SEED):
        kinds_of.update({name: kinds[type(one)] for name, one in event.items() if type(one) in kinds})
    return pyarrow.json.ParseOptions(explicit_schema=pa.schema(kinds_of))


def _there(value: Made) -> Made:
    """What comes out where a decoding process is on the other side."""
    memory = os.memfd_create("profile")
    try:
        made: Made = shared._read(memory, shared._write(memory, value))
    finally:
        os.close(memory)
    return made


def _written(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def kept(stages: list[Stage], batch: int, commit: str) -> dict[str, Any]:
    """A profile as docs/performance.json has it."""
    rows = [
        {"stage": one.name, "cost": round(one.cost, 2), "limit": one.limit,
         "least": None if one.least is None else round(one.least, 2)}
        for one in stages
    ]  # fmt: skip
    return {"unit": "CPU µs an event", "events": batch, "stages": rows, "commit": commit}
