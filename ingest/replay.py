"""Rejected messages tried again after a fix: decoded anew, sealed in entries that name each once."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingest.chunk import Chunk
from ingest.decoded import Adapter, headers_of
from ingest.decoding.fates import decide
from ingest.intakes import IntakeSettings
from ingest.letters import letter_row
from ingest.routes import Route
from ingest.stretches import split_headers, stretch_of
from ledger.errors import UsageError
from ledger.format.manifest import OffsetKey
from ledger.query.letter_ids import find_letter, letter_segments
from ledger.reader import Ledger
from ledger.sealing.batch import ACCEPTED, Stretch
from ledger.sealing.segment import read_dead_letter_rows
from ledger.writer import Writer

BATCH_LETTERS: Final = 500
"""Letters of one commit: its entry names each of them."""
_KEY: Final = ("topic", "topic_id", "partition")


@dataclass(slots=True)
class Replayed:
    """What became of the letters that were tried, in messages; `events` counts what was sealed of them."""

    sealed: int = 0
    events: int = 0
    still_rejected: int = 0

    def to_json(self) -> dict[str, int]:
        """As the command answers."""
        return {"tried": self.sealed + self.still_rejected, **asdict(self)}


def replay(
    ledger: Ledger, writer: Writer, adapter: Adapter, settings: IntakeSettings, ids: Sequence[str]
) -> Replayed:
    """Decode rejected messages again, those of `ids` or all, and seal the usable ones, each once and for all.

    One file of letters is in memory at a time.

    Raises:
        UsageError: an id is that of no rejected letter with a message; nothing was sealed then.
    """
    rows_of: dict[str, set[int]] = defaultdict(set)
    for letter in ids:
        segment, row = _rejected_place(ledger, letter)
        rows_of[segment].add(row)
    result = Replayed()
    for segment in list(rows_of) if ids else list(letter_segments(ledger.state)):
        rejected = _rejected(ledger, segment, rows_of[segment] if ids else None)
        for batch in _batches(rejected, ledger.state.replayed, segment):
            _seal(writer, adapter, settings, batch, result)
    return result


def _seal(
    writer: Writer, adapter: Adapter, settings: IntakeSettings, letters: pa.Table, result: Replayed
) -> None:
    while True:
        stretches = [
            stretch for key, rows in _by_key(letters)
            if (stretch := _usable(writer, adapter, settings, key, rows)) is not None
        ]  # fmt: skip
        outcome = writer.commit(stretches)
        for entry in outcome.entries:
            result.sealed += len(entry.replays)
            result.events += sum(ref.rows for ref in entry.segments)
        places = zip(letters["path"].to_pylist(), letters["row"].to_pylist(), strict=True)
        letters = letters.filter(
            pa.array([place not in writer.state.replayed for place in places], pa.bool_())
        )
        if not outcome.fenced:
            result.still_rejected += len(letters)
            return
        # Another process replayed some of them meanwhile: the others of their keys are tried again.


def _usable(
    writer: Writer, adapter: Adapter, settings: IntakeSettings, key: OffsetKey, letters: pa.Table
) -> Stretch | None:
    """The letters of one key that hold events now, as messages; None where there are none."""
    stretch = _decoded(writer, adapter, settings, key, letters)
    usable = np.flatnonzero(stretch.status == ACCEPTED)
    if not len(usable):
        return None
    if len(usable) < len(letters):
        letters = letters.take(pa.array(usable))
        stretch = _decoded(writer, adapter, settings, key, letters)
    stretch.replays = list(zip(letters["path"].to_pylist(), letters["row"].to_pylist(), strict=True))
    return stretch


def _decoded(
    writer: Writer, adapter: Adapter, settings: IntakeSettings, key: OffsetKey, letters: pa.Table
) -> Stretch:
    payloads = [base64.b64decode(text) for text in letters["payload"].to_pylist()]
    headers = None
    if headers_of(adapter):
        parts = [split_headers(payload) for payload in payloads]
        payloads, headers = [value for value, _ in parts], [told for _, told in parts]
    values = pa.array(payloads, pa.large_binary())
    offsets = letters["record_offset"].to_numpy()
    chunk = Chunk(key, int(offsets[0]), int(offsets[-1]) + 1, offsets, values, headers=headers)
    return stretch_of(chunk, decide({None: Route(adapter, settings)}, chunk, writer.clock()))


def _by_key(letters: pa.Table) -> Iterator[tuple[OffsetKey, pa.Table]]:
    ordered = letters.sort_by([*((name, "ascending") for name in _KEY), ("record_offset", "ascending")])
    keys = zip(*(ordered[name].to_pylist() for name in _KEY), strict=True)
    edge = 0
    for (topic, topic_id, partition), group in groupby(keys):
        rows = len(list(group))
        yield OffsetKey(topic, partition, topic_id), ordered.slice(edge, rows)
        edge += rows


def _batches(rows: pa.Table, replayed: set[tuple[str, int]], segment: str) -> Iterator[pa.Table]:
    fresh = [row for row, number in enumerate(rows["row"].to_pylist()) if (segment, number) not in replayed]
    for at in range(0, len(fresh), BATCH_LETTERS):
        yield rows.take(pa.array(fresh[at : at + BATCH_LETTERS]))


def _rejected(ledger: Ledger, segment: str, only: set[int] | None) -> pa.Table:
    """Rejected letters of a sealed file that have a message, with their `path` and `row` in it."""
    tables: list[pa.Table] = []
    for file, begin, end, hold in ledger.state.spans_of(segment):
        table = read_dead_letter_rows(ledger.local_path(file), begin, end)
        numbers = pa.array(np.arange(hold.from_, hold.to))
        table = table.append_column("row", numbers)
        table = table.append_column("path", pa.array([segment] * len(table), pa.string()))
        table = table.filter(pc.and_(pc.equal(table["status"], "rejected"), table["payload"].is_valid()))
        if only is not None:
            table = table.filter(pc.is_in(table["row"], pa.array(sorted(only), pa.int64())))
        tables.append(table)
    return pa.concat_tables(tables) if tables else pa.table({"row": pa.array([], pa.int64())})


def _rejected_place(ledger: Ledger, letter: str) -> tuple[str, int]:
    place = find_letter(ledger.state, letter)
    row = None if place is None else letter_row(ledger, *place)
    if place is None or row is None or row["status"] != "rejected" or row["payload"] is None:
        raise UsageError(
            f"There is no rejected dead letter {letter!r} with a message to replay.",
            "`decision-ledger deadletters list` prints the ids.",
        )
    return place
