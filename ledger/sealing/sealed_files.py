"""From settled messages to the files and the entry of one commit: everything before the commit point."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ledger.errors import DamageError, OutcomeUnknown
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA
from ledger.format.manifest import (
    ENTRY_ROOM_BYTES,
    MAX_SEGMENTS_PER_ENTRY,
    DeadLetterRef,
    ObjectRange,
    OffsetsRow,
    Replay,
    SegmentRef,
    dead_letter_path,
    event_path,
    instant,
)
from ledger.sealing.batch import ACCEPTED, DUPLICATE, IGNORED, REJECTED, STATUS_NAMES, Stretch
from ledger.sealing.segment import write_dead_letters, write_events
from ledger.storage.store import Store

NAME_BYTES = 16
CREATE_ATTEMPTS = 4
"""Lost answers to the creation of one file before the commit gives up."""
_SEGMENT_BYTES = 450
_OFFSETS_BYTES = 250
_RANGE_BYTES = 14
_REPLAY_BYTES = 30
_OBJECT_BYTES = 90
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(slots=True)
class Sealed:
    """What one commit will name. `segment_rows` gives, for each segment, the batch rows it holds."""

    segments: list[SegmentRef]
    segment_rows: list[npt.NDArray[np.int64]]
    deadletters: list[DeadLetterRef]
    offsets: list[OffsetsRow]
    replays: list[Replay]

    @property
    def paths(self) -> list[str]:
        """Every file of this commit."""
        return [ref.path for ref in self.segments] + [ref.path for ref in self.deadletters]


def new_name() -> str:
    """A file name never used before: 128 random bits in hex."""
    return secrets.token_hex(NAME_BYTES)


def fits_an_entry(stretches: Sequence[Stretch]) -> bool:
    """Whether one entry can seal these, as far as that can be told before anything is written."""
    segments = len(_places(stretches))
    if segments > MAX_SEGMENTS_PER_ENTRY:
        return False
    named = segments * _SEGMENT_BYTES + len({s.key.identity for s in stretches}) * _OFFSETS_BYTES
    for stretch in stretches:
        named += _RANGE_BYTES * (len(stretch.skipped) + len(stretch.lost))
        named += sum(len(path) + _REPLAY_BYTES for path, _ in stretch.replays or ())
        named += sum(object_bytes(part) for part in stretch.objects or ())
    return named <= ENTRY_ROOM_BYTES or sum(len(stretch.offsets) for stretch in stretches) < 2


def object_bytes(part: ObjectRange) -> int:
    """Room of an entry that naming one object takes, about."""
    return len(orjson.dumps([part.key, part.etag])) + _OBJECT_BYTES


def _places(stretches: Iterable[Stretch]) -> set[tuple[str, int]]:
    """The (retention class, UTC day since 1970) pairs of a batch: one segment each."""
    found: set[tuple[str, int]] = set()
    for stretch in stretches:
        if len(stretch.events):
            days = _days(stretch.events)
            classes = pc.unique(stretch.events.column("retention")).to_pylist()
            if len(classes) == 1:
                found.update((classes[0], int(day)) for day in np.unique(days))
            else:
                found.update(zip(stretch.events.column("retention").to_pylist(), days.tolist(), strict=True))
    return found


def seal(stretches: Sequence[Stretch], store: Store, now: datetime) -> Sealed:
    """Write the batch's segments and dead letters durably. Nothing names them yet."""
    events = pa.concat_tables([s.events for s in stretches]) if stretches else ARROW_SCHEMA.empty_table()
    leaves = _known_leaves(stretches)
    segments, rows = [], []
    for (retention, day), picked in _by_place(events):
        whole = len(picked) == len(events)
        table = events if whole else events.take(pa.array(picked))
        hashes = None if leaves is None else (leaves if whole else leaves.take(pa.array(picked))).to_pylist()
        when = date.fromordinal(_EPOCH + day).isoformat()
        segments.append(_write_segment(table, hashes, retention, when, store))
        rows.append(picked)
    letters = dead_letter_table(stretches, now)
    replays = [Replay(path=path, row=row) for s in stretches for path, row in s.replays or ()]
    return Sealed(
        segments,
        rows,
        [_write_letters(letters, now, store)] if len(letters) else [],
        [] if replays else offsets_rows(stretches),
        replays,
    )


def offsets_rows(stretches: Sequence[Stretch]) -> list[OffsetsRow]:
    """One row per key; neighbouring stretches of a key are joined."""
    ordered = sorted(stretches, key=lambda s: s.key.identity)
    rows = []
    for _, group in groupby(ordered, key=lambda s: s.key.identity):
        run = list(group)
        status = np.concatenate([s.status for s in run])
        counts = np.bincount(status, minlength=4)
        last = run[-1]
        rows.append(
            OffsetsRow(
                topic=last.key.topic,
                topic_id=last.key.topic_id,
                cluster=last.key.cluster,
                partition=last.key.partition,
                from_=run[0].start,
                to=last.end,
                accepted=None if last.derived else int(counts[ACCEPTED]),
                duplicate=None if last.derived else int(counts[DUPLICATE]),
                ignored=None if last.derived else int(counts[IGNORED]),
                rejected=None if last.derived else int(counts[REJECTED]),
                skipped=_joined(pair for s in run for pair in s.skipped),
                lost=_joined(pair for s in run for pair in s.lost),
                bytes=last.read_bytes,
                prefix=last.prefix,
                objects=_joined_objects(run),
                complete=None if last.complete is None else instant(last.complete),
            )
        )
    return rows


def dead_letter_table(stretches: Sequence[Stretch], now: datetime) -> pa.Table:
    """One row per message that was not accepted."""
    rows = []
    for stretch in stretches:
        for message in np.flatnonzero(stretch.status != ACCEPTED).tolist():
            why = stretch.aside[message]
            rows.append(
                {
                    "topic": stretch.key.topic,
                    "topic_id": stretch.key.topic_id,
                    "partition": stretch.key.partition,
                    "record_offset": int(stretch.offsets[message]),
                    "part": why.part,
                    "time": now.astimezone(UTC),
                    "status": STATUS_NAMES[int(stretch.status[message])],
                    "reason": why.reason,
                    "field": why.field,
                    "payload": None if why.payload is None else base64.b64encode(why.payload).decode(),
                    "digest": stretch.digest(message),
                }
            )
    return pa.Table.from_pylist(rows, DEAD_LETTER_SCHEMA)


def _by_place(events: pa.Table) -> list[tuple[tuple[str, int], npt.NDArray[np.int64]]]:
    if not len(events):
        return []
    days = _days(events)
    encoded = events.column("retention").combine_chunks().dictionary_encode()
    classes, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    if len(classes) == 1 and days[0] == days[-1] and (days == days[0]).all():
        return [((classes[0], int(days[0])), np.arange(len(days)))]
    order = np.lexsort((days, codes))
    edges = np.flatnonzero((np.diff(days[order]) != 0) | (np.diff(codes[order]) != 0)) + 1
    return [
        ((classes[codes[picked[0]]], int(days[picked[0]])), np.sort(picked))
        for picked in np.split(order, edges)
    ]


def _days(events: pa.Table) -> npt.NDArray[np.int64]:
    micros = events.column("time").cast(pa.int64()).to_numpy()
    days: npt.NDArray[np.int64] = np.floor_divide(micros, _DAY_US)
    return days


def _known_leaves(stretches: Sequence[Stretch]) -> pa.ChunkedArray | None:
    """The leaf hashes of all events, where every stretch brings its own."""
    filled = [stretch for stretch in stretches if len(stretch.events)]
    known = [stretch.leaves for stretch in filled if stretch.leaves is not None]
    return pa.chunked_array(known) if known and len(known) == len(filled) else None


def _write_segment(
    table: pa.Table, leaves: list[bytes] | None, retention: str, day: str, store: Store
) -> SegmentRef:
    segment = write_events(table, leaves)
    assert segment.min_time is not None  # events always have a time
    assert segment.max_time is not None
    path = event_path(retention, day, new_name())
    create_file(store, path, segment.data)
    return SegmentRef(
        path=path, retention=retention, date=day, rows=segment.rows, bytes=len(segment.data),
        sha256=segment.sha256, root=segment.root.hex(), min_time=instant(segment.min_time),
        max_time=instant(segment.max_time), kinds=segment.kinds,
    )  # fmt: skip


def _write_letters(table: pa.Table, now: datetime, store: Store) -> DeadLetterRef:
    segment = write_dead_letters(table)
    path = dead_letter_path(now.astimezone(UTC).date().isoformat(), new_name())
    create_file(store, path, segment.data)
    return DeadLetterRef(
        path=path, rows=segment.rows, bytes=len(segment.data), sha256=segment.sha256, root=segment.root.hex()
    )


def create_file(store: Store, path: str, data: bytes) -> None:
    """Create a file of a name that `new_name` made. Raises OutcomeUnknown after several lost answers."""
    # The name is random and used once, so a write of unknown outcome can simply be made again.
    for attempt in range(CREATE_ATTEMPTS):
        try:
            if store.create(path, data) or store.read(path) == data:
                return
        except OutcomeUnknown:
            if attempt == CREATE_ATTEMPTS - 1:
                raise
        else:
            raise DamageError(f"{path} is there already, with other content.", "Nobody else knows this name.")


def _joined_objects(run: Sequence[Stretch]) -> list[ObjectRange] | None:
    out: list[ObjectRange] = []
    for part in (part for stretch in run for part in stretch.objects or ()):
        if out and (out[-1].key, out[-1].etag, out[-1].end) == (part.key, part.etag, False):
            out[-1] = out[-1].model_copy(update={"to": part.to, "end": part.end})
        else:
            out.append(part)
    return out or None


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out
