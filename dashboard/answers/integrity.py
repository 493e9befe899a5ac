"""What the log says of itself: head, sources and partitions, what they lack, dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from dashboard.access import Right
from dashboard.statements import Reading
from detections.clocks import Clocks
from detections.gaps import missing_by_source
from detections.sealed_log import SealedLog
from ledger.format.manifest import Append, Config

MAX_LETTERS: Final = 500
_SOURCES: Final = """
SELECT source, count(*) AS events, min(time) AS first_seen, max(time) AS last_seen,
       count(*) FILTER (sequence IS NOT NULL) AS numbered
FROM events WHERE kind NOT IN ('alert', 'case', 'access') GROUP BY source ORDER BY source
"""
_LETTERS: Final = f"""
SELECT time, status, reason, field, topic, partition, record_offset, part, payload
FROM dead_letters ORDER BY time DESC, topic, record_offset DESC, part LIMIT {MAX_LETTERS}
"""  # noqa: S608  # one constant


def head(reading: Reading) -> dict[str, Any]:
    """The checkpoint and what it covers."""
    reading.viewer.require(Right.OVERVIEW)
    state = reading.ledger.as_of(reading.size)
    return {
        "origin": state.origin,
        "vkey": state.key.text,
        "size": reading.size,
        "root": reading.ledger.sealed.tree.root(reading.size).hex(),
        "clock": state.clock,
        "files": len(state.files),
        "bytes": sum(file.bytes for file in state.files.values()),
    }


def completeness(reading: Reading) -> dict[str, Any]:
    """By source what is missing by its own numbers; by partition how far it was read, and what was lost."""
    reading.viewer.require(Right.INTEGRITY)
    missing = missing_by_source(reading.query)
    sources = reading.rows(_SOURCES).to_pylist()
    for row in sources:
        row["missing"] = missing.get(row["source"])
        row["provable"] = (
            "by its numbers"
            if row["numbered"] == row["events"]
            else ("in part" if row["numbered"] else "no numbers in its events")
        )
    clocks = Clocks()
    lost: dict[tuple[str, int], int] = {}
    for entry in SealedLog.of(reading.ledger).parsed(0, reading.size):
        clocks.take(entry)
        if isinstance(entry, Append):
            for row in entry.offsets:
                key = (row.topic, row.partition)
                lost[key] = lost.get(key, 0) + sum(end - start for start, end in row.lost)
    state = reading.ledger.as_of(reading.size)
    stalled = {(key.topic, key.partition) for key in clocks.stalled()}
    partitions = [
        {
            "topic": one.key.topic,
            "partition": one.key.partition,
            "next": one.to,
            "lost": lost.get((one.key.topic, one.key.partition), 0),
            "state": "stalled" if (one.key.topic, one.key.partition) in stalled else "read",
        }
        for _, one in sorted(state.positions.items())
    ]
    return {
        "sources": sources,
        "partitions": partitions,
        "ledger_clock": clocks.ledger,
        "settle_clock": clocks.settle,
    }


def configurations(reading: Reading) -> list[dict[str, Any]]:
    """What was sealed as configuration, the newest first."""
    reading.viewer.require(Right.INTEGRITY)
    found = [
        {
            "entry": number,
            "time": datetime.fromisoformat(entry.time),
            "name": entry.name,
            "sha256": entry.sha256,
        }
        for number, entry in enumerate(SealedLog.of(reading.ledger).parsed(0, reading.size))
        if isinstance(entry, Config)
    ]
    return found[::-1][:200]


def dead_letters(reading: Reading) -> dict[str, Any]:
    """Counts by status, and the newest messages that were set aside."""
    reading.viewer.require(Right.DEAD_LETTERS)
    counts = reading.rows("SELECT status, count(*) AS n FROM dead_letters GROUP BY status ORDER BY status")
    return {"counts": counts.to_pylist(), "rows": reading.rows(_LETTERS).to_pylist()}
