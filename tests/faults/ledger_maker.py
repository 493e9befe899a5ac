"""Small ledgers for tests, made by the product's own writer in memory: same seeds, same contents.

`make_ledger` gives one that has seen everything the format knows: several bundles, dead letters,
skipped and lost ranges, messages of several events, compaction, an erasure, a rotated key, a hold,
settings, a replay and an expired segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from ledger.events import ARROW_SCHEMA, ERASED_LEAF
from ledger.format.canonical import leaf_hashes
from ledger.format.manifest import (
    Append,
    Compact,
    CompactedFile,
    Config,
    Erase,
    ErasedRows,
    Expire,
    HeldRows,
    HoldMatch,
    HoldPlaced,
    Key,
    Note,
    OffsetKey,
    Release,
    RetentionClass,
    Tick,
    endorse_key,
    entry_bytes,
    instant,
    sign_entry,
)
from ledger.format.note import SignerKey, VerifierKey
from ledger.log.signing import SigningKey
from ledger.sealing.batch import ACCEPTED, IGNORED, REJECTED, SetAside, Stretch
from ledger.sealing.segment import parquet_bytes, read_events, write_events
from ledger.writer import SOFTWARE, Writer, create_ledger
from tests.simulated_store import SimulatedStore

ORIGIN = "example.org/test"
SEED = bytes(range(32))
SECOND_SEED = bytes(range(32, 64))
START = datetime(2026, 11, 23, 10, tzinfo=UTC)
RETENTION = {
    "standard": RetentionClass(days=400, erasable=False),
    "short": RetentionClass(days=30, erasable=True),
}
ORDERS = OffsetKey("orders", 0, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1")
AUDIT = OffsetKey("audit", 1)


@dataclass
class Clock:
    """The writer's clock, which a test sets."""

    now: datetime = START

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


@dataclass
class Made:
    """A ledger in memory with what a test needs to tamper with it."""

    store: SimulatedStore
    writer: Writer
    clock: Clock
    vkey: VerifierKey
    names: dict[str, str] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)
    heads: dict[int, bytes] = field(default_factory=dict)

    def keep_head(self) -> bytes:
        """The checkpoint as it stands, remembered by its size."""
        note = self.store.objects["checkpoint"]
        self.heads[self.writer.state.size] = note
        return note


def signing_key(folder: Path, seed: bytes = SEED, name: str = "ledger.key") -> SigningKey:
    """A key of a fixed seed, written to `folder`."""
    path = folder / name
    path.touch(0o600)
    path.write_text(SignerKey(ORIGIN, seed).to_text() + "\n")
    return SigningKey(path)


def new_ledger(folder: Path, seed: bytes = SEED) -> Made:
    """An empty ledger with its writer; the key lies in `folder`."""
    store, clock = SimulatedStore(), Clock()
    key = signing_key(folder, seed)
    create_ledger(store, key, retention=RETENTION, clock=clock)
    writer = Writer(store, key, name="test", clock=clock)
    return Made(store, writer, clock, key.verifier)


def event(number: int, **more: Any) -> dict[str, Any]:
    """One event row without coordinates."""
    return {
        "event_id": f"event-{number:06}",
        "kind": "decision" if number % 3 else "action",
        "time": START + timedelta(seconds=number % 3_000),
        "source": "opa/test",
        "actor": "user:ann",
        "action": "ticket:read",
        "decision": "allow",
        "scopes": ["ticket:read"],
        "retention": "standard",
        "part": 0,
        **more,
    }


def stretch(
    key: OffsetKey,
    start: int,
    messages: Sequence[Sequence[Mapping[str, Any]] | SetAside],
    *,
    skipped: Sequence[tuple[int, int]] = (),
    lost: Sequence[tuple[int, int]] = (),
) -> Stretch:
    """Messages from `start` on; each is its events, or why it was set aside (with a payload: rejected)."""
    taken = {offset for low, high in (*skipped, *lost) for offset in range(low, high)}
    offsets: list[int] = []
    at = start
    for _ in messages:
        while at in taken:
            at += 1
        offsets.append(at)
        at += 1
    end = max([at, *(high for _, high in (*skipped, *lost))])
    rows: list[dict[str, Any]] = []
    message: list[int] = []
    status: list[int] = []
    aside: dict[int, SetAside] = {}
    for position, held in enumerate(messages):
        if isinstance(held, SetAside):
            status.append(IGNORED if held.payload is None else REJECTED)
            aside[position] = held
            continue
        status.append(ACCEPTED)
        for part, row in enumerate(held):
            place = {
                "topic": key.topic, "topic_id": key.topic_id, "partition": key.partition,
                "record_offset": offsets[position], "part": part,
            }  # fmt: skip
            rows.append({**row, **place})
            message.append(position)
    values = [f"message {offset}".encode() for offset in offsets]
    return Stretch(
        key, start, end, np.array(offsets, np.int64), pa.array(values, pa.large_binary()),
        np.array(status, np.uint8), pa.Table.from_pylist(rows, ARROW_SCHEMA), np.array(message, np.int64),
        aside, list(skipped), list(lost),
    )  # fmt: skip


def commit(made: Made, *stretches: Stretch) -> Append:
    """Commit one batch as one entry."""
    outcome = made.writer.commit(stretches)
    assert len(outcome.entries) == 1
    return outcome.entries[0]


def positions(holds: Iterable[HeldRows]) -> list[HeldRows]:
    """Holds of original rows, as an entry states them: positions in the new file."""
    placed: list[HeldRows] = []
    for hold in holds:
        edge = placed[-1].to if placed else 0
        placed.append(HeldRows(segment=hold.segment, from_=edge, to=edge + hold.to - hold.from_))
    return placed


def compact(made: Made, paths: Sequence[str], grace: int = 600) -> str:
    """Merge these live files into one; its path."""
    state = made.writer.state
    files = [state.files[path] for path in paths]
    objects = made.store.objects
    segment = write_events(pa.concat_tables([read_events(objects[path]) for path in paths]))
    folder = paths[0].rpartition("/")[0]
    path = f"{folder}/{'c' * 31}{made.writer.state.size % 10}"
    path += ".parquet"
    made.store.create(path, segment.data)
    file = CompactedFile(
        path=path, sha256=segment.sha256, bytes=len(segment.data), rows=segment.rows,
        holds=positions(hold for one in files for hold in one.holds),
    )  # fmt: skip
    made.writer.put(Compact, {"files": [file], "removed": list(paths), "grace": grace})
    return path


def erase(made: Made, path: str, indexes: Sequence[int], grace: int = 0) -> str:
    """Erase rows of a segment that lies in a file of its own; the new file's path."""
    table = read_events(made.store.objects[path])
    leaves = leaf_hashes(table)
    rows = table.to_pylist()
    for index in indexes:
        rows[index] = {ERASED_LEAF: leaves[index].hex()}
    data = parquet_bytes(pa.Table.from_pylist(rows, ARROW_SCHEMA))
    new = f"{path.rpartition('/')[0]}/{'e' * 32}.parquet"
    made.store.create(new, data)
    hold = HeldRows(segment=path, from_=0, to=len(rows))
    file = CompactedFile(
        path=new, sha256=sha256(data).hexdigest(), bytes=len(data), rows=len(rows), holds=[hold]
    )
    made.writer.put(
        Erase,
        {
            "files": [file], "removed": [path], "rows": [ErasedRows(segment=path, indexes=list(indexes))],
            "by": "user:officer", "reason": "request 17", "grace": grace,
        },
    )  # fmt: skip
    return new


def rotate(made: Made, folder: Path, seed: bytes = SECOND_SEED) -> None:
    """Hand over to a second key."""
    new = signing_key(folder, seed, "second.key")
    log, clock = made.writer.log, made.clock
    entry = Key(
        index=log.size, prev=log.commits.tree.root().hex(), time=instant(clock()), writer="test",
        software=SOFTWARE, vkey=new.signer.vkey,
    )  # fmt: skip
    entry = endorse_key(entry, ORIGIN, new.signer)
    entry = sign_entry(entry, ORIGIN, log.key.signer)
    log.key = new
    assert log.append(entry_bytes(entry))
    made.writer.refresh()


def make_ledger(folder: Path, *, entries: int = 300) -> Made:
    """The ledger that has seen everything; its last entries are appends in the second bundle."""
    made = new_ledger(folder)
    names, marks, put = made.names, made.entries, made.writer.put
    first = commit(
        made,
        stretch(ORDERS, 100, [[event(n)] for n in range(20)], skipped=[(105, 107)]),
        stretch(AUDIT, 0, [[event(100), event(101)], SetAside("not JSON", payload=b"x"), SetAside("access")]),
    )
    names["first"], names["letters"] = first.segments[0].path, first.deadletters[0].path
    for n in range(2):
        start = 122 + 10 * n
        names[f"part{n}"] = (
            commit(made, stretch(ORDERS, start, [[event(200 + 10 * n + k)] for k in range(10)]))
            .segments[0]
            .path
        )
    marks["lost"] = made.writer.state.size
    lost = commit(made, stretch(ORDERS, 142, [[event(300 + n)] for n in range(8)], lost=[(145, 149)]))
    names["lost"] = lost.segments[0].path
    short = commit(
        made, stretch(ORDERS, 154, [[event(400 + n, retention="short", nonce="ab" * 16)] for n in range(6)])
    )
    names["short"] = short.segments[0].path
    mixed = commit(
        made,
        stretch(ORDERS, 160, [[event(500), event(501, retention="short")], [event(502)]]),
        stretch(AUDIT, 3, [[event(503, time=START - timedelta(days=1))]]),
    )
    names["mixed"] = mixed.segments[0].path
    marks["compact"] = made.writer.state.size
    names["compacted"] = compact(made, [names["part0"], names["part1"]], grace=0)
    names["erased"] = erase(made, names["short"], [2, 3])
    data = b'{"tier":"high"}'
    names["config"] = f"config/{sha256(data).hexdigest()}"
    made.store.create(names["config"], data)
    marks["config"] = made.writer.state.size
    put(Config, {"name": "risk-tiers", "sha256": sha256(data).hexdigest()})
    put(HoldPlaced, {"id": "h1", "match": HoldMatch(trace_id="ab" * 16), "by": "user:ann", "reason": "case"})
    put(Release, {"id": "h1", "by": "user:ann", "reason": "closed"})
    row = orjson.loads(orjson.dumps({"path": names["letters"], "row": 0}))
    again = stretch(AUDIT, 1, [[event(600)]])
    again.replays = [(row["path"], row["row"])]
    names["replayed"] = commit(made, again).segments[0].path
    old = START - timedelta(days=40)
    expiring = commit(made, stretch(AUDIT, 4, [[event(700, time=old, retention="short")]]))
    names["expired"] = expiring.segments[0].path
    cutoff = (START - timedelta(days=31)).date().isoformat()
    put(
        Expire,
        {
            "paths": [names["expired"]], "class": "short", "by": "user:ann", "reason": "30 days", "grace": 0,
            "cutoff": cutoff,
        },
    )  # fmt: skip
    made.keep_head()
    rotate(made, folder)
    made.clock.now += timedelta(seconds=5)
    for path in (names["part0"], names["part1"], names["short"], names["expired"]):
        made.store.delete(path)
    while made.writer.state.size < entries - 4:
        put(Note, {"text": f"entry {made.writer.state.size}"})
    made.keep_head()
    marks["late"] = made.writer.state.size
    bad = SetAside("bad time", field="time", payload=b"y")
    late = commit(made, stretch(ORDERS, 162, [*([event(800 + n)] for n in range(12)), bad]))
    names["late"], names["late letters"] = late.segments[0].path, late.deadletters[0].path
    # The same events again: all duplicates.
    repeated = commit(made, stretch(ORDERS, 175, [[event(800 + n)] for n in range(3)]))
    names["repeated"] = repeated.deadletters[0].path
    names["last"] = commit(made, stretch(ORDERS, 178, [[event(900 + n)] for n in range(5)])).segments[0].path
    made.clock.now += timedelta(minutes=2)
    put(Tick, {})
    made.keep_head()
    return made
