"""What running engines last said of themselves: derived, kept under `cache/`, never trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from ledger.format.manifest import OffsetKey, instant
from ledger.storage.store import Store

FOLDER: Final = "cache/engines"
MAX_SHOWN: Final = 20
MAX_BYTES: Final = 1 << 20


def note_engine(
    store: Store,
    name: str,
    now: datetime,
    *,
    judged: int,
    troubles: Mapping[str, tuple[str, int]],
    stalled: Sequence[OffsetKey],
) -> None:
    """Leave word of an engine: how far it judged, which rules failed (why, how often), what stands still."""
    told = {
        "engine": name,
        "seen": instant(now),
        "judged": judged,
        "troubles": [
            {"rule": rule, "message": why, "times": times} for rule, (why, times) in sorted(troubles.items())
        ],
        "stalled": [{"topic": key.topic, "partition": key.partition} for key in stalled],
    }
    store.replace(f"{FOLDER}/{name}.json", lambda _: orjson.dumps(told))


def noted_engines(store: Store) -> list[dict[str, Any]]:
    """The newest word of each engine, the newest first; what makes no sense is left out."""
    found = []
    for file in sorted(store.list(FOLDER), key=lambda one: -one.modified)[:MAX_SHOWN]:
        data = store.read(file.path)
        if data is None or len(data) > MAX_BYTES:
            continue
        try:
            told = orjson.loads(data)
            found.append(
                {
                    "engine": str(told["engine"]),
                    "seen": datetime.fromisoformat(told["seen"]),
                    "judged": int(told["judged"]),
                    "troubles": [
                        {"rule": str(one["rule"]), "message": str(one["message"]), "times": int(one["times"])}
                        for one in told["troubles"]
                    ],
                    "stalled": [
                        {"topic": str(one["topic"]), "partition": int(one["partition"])}
                        for one in told["stalled"]
                    ],
                }
            )
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            continue
    return found
