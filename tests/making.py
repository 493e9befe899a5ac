"""Small ledgers and batches for tests: a clock that stands still, rows with the few fields that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from ledger.events import ARROW_SCHEMA
from ledger.format.manifest import ObjectRange, OffsetKey
from ledger.log.signing import SigningKey, create_key
from ledger.sealing.batch import ACCEPTED, SetAside, Stretch
from ledger.storage.local_store import LocalStore
from ledger.writer import Writer, create_ledger

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORIGIN = "test.example/ledger"


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: datetime = NOON

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Made:
    folder: Path
    store: LocalStore
    key: SigningKey
    clock: Clock

    def writer(self, **options: Any) -> Writer:
        return Writer(LocalStore(self.folder), SigningKey(self.key.path), clock=self.clock, **options)


def make_ledger(place: Path) -> Made:
    folder = place / "ledger"
    create_key(place / "ledger.key", ORIGIN)
    made = Made(folder, LocalStore(folder), SigningKey(place / "ledger.key"), Clock())
    create_ledger(made.store, made.key, clock=made.clock)
    return made


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "kind": "decision",
        "time": NOON - timedelta(seconds=1),
        "source": "test/pdp",
        "decision": "allow",
        "retention": "standard",
        "part": 0,
        **more,
    }


def stretch(
    rows: Sequence[dict[str, Any]],
    start: int = 0,
    key: OffsetKey | None = None,
    *,
    messages: Sequence[Sequence[dict[str, Any]]] | None = None,
    status: Sequence[int] | None = None,
    aside: dict[int, SetAside] | None = None,
) -> Stretch:
    """One message per row; or `messages`, each a list of rows (empty where `status` says why)."""
    key = key or OffsetKey("file:test")
    parts = [[one] for one in rows] if messages is None else [list(m) for m in messages]
    flat = [
        {**one, "topic": key.topic, "topic_id": key.topic_id, "partition": key.partition,
         "record_offset": start + at, "part": part}
        for at, message in enumerate(parts) for part, one in enumerate(message)
    ]  # fmt: skip
    values = [orjson.dumps([str(one) for one in message]) for message in parts]
    return Stretch(
        key=key,
        start=start,
        end=start + len(parts),
        offsets=np.arange(start, start + len(parts), dtype=np.int64),
        values=pa.array(values, pa.large_binary()),
        status=np.array(status if status is not None else [ACCEPTED] * len(parts), np.uint8),
        events=pa.Table.from_pylist(flat, ARROW_SCHEMA),
        message=np.repeat(np.arange(len(parts), dtype=np.int64), [len(m) for m in parts]),
        aside=aside or {},
    )


def wire_message(number: int) -> bytes:
    """A decision as a source sends it, one of its own for each number."""
    return orjson.dumps(
        {
            "event_id": f"e{number}", "kind": "decision", "time": "2026-11-23T11:00:00Z",
            "source": "test/pdp", "decision": "allow", "actor": f"user:{number % 97}",
        }
    )  # fmt: skip


def object_range(key: str, start: int, to: int, *, end: bool = True, etag: str = "a") -> ObjectRange:
    """Records of one version of an object."""
    return ObjectRange(key=key, etag=etag, from_=start, to=to, end=end)


def of_objects(start: int, messages: int, *objects: ObjectRange) -> Stretch:
    """One message per record of these objects, of the stream `trail`."""
    made = stretch([row(start + at) for at in range(messages)], start, OffsetKey("objects:trail"))
    made.objects = objects
    return made
