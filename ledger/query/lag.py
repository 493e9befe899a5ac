"""What running workers last saw of their lag: derived, kept under `cache/`, never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import orjson

from ledger.format.manifest import OffsetKey, instant
from ledger.storage.store import Store

FOLDER: Final = "cache/lag"
MAX_WORKERS_SHOWN: Final = 100


def note_lag(store: Store, worker: str, now: datetime, lag: Mapping[OffsetKey, int]) -> None:
    """Leave a worker's lag, in messages by key, for `status` to show."""
    rows = [
        {
            "topic": key.topic,
            "partition": key.partition,
            "lag": behind,
            "seen": instant(now),
            "worker": worker,
        }
        for key, behind in sorted(lag.items())
    ]
    store.replace(_place(worker), lambda _: orjson.dumps(rows))


def forget_lag(store: Store, worker: str) -> None:
    """A worker that read all there was leaves no word."""
    store.delete(_place(worker))


def _place(worker: str) -> str:
    return f"{FOLDER}/{quote(worker, safe='')}.json"


def noted_lag(store: Store) -> list[dict[str, Any]]:
    """The newest word on each key, by topic and partition."""
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for file in sorted(store.list(FOLDER), key=lambda f: -f.modified)[:MAX_WORKERS_SHOWN]:
        data = store.read(file.path)
        try:
            rows = orjson.loads(data or b"[]")
            for row in rows:
                key = (str(row["topic"]), int(row["partition"]))
                if key not in newest or newest[key]["seen"] < row["seen"]:
                    newest[key] = row
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
    return [newest[key] for key in sorted(newest)]
