"""What the log says of itself: head, sources and partitions, what they lack, dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from dashboard.access import Right, Viewer
from dashboard.answers.activity import by_source
from dashboard.statements import Reading
from detections.clocks import Clocks
from detections.day_answers import answers_of
from detections.metrics.gaps import Gap, Gaps
from detections.sealed_log import SealedLog
from ledger.format.manifest import Append, Config, Erase, Expire
from ledger.format.state import LogState
from ledger.log.witness_policy import policy_in_force
from ledger.witnessing.asking import witnessed

MAX_LETTERS: Final = 500
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
        **_trust(reading, state),
        "files": len(state.files),
        "bytes": sum(file.bytes for file in state.files.values()),
    }


def _trust(reading: Reading, state: LogState) -> dict[str, Any]:
    """Who else saw the head, and what is held: by name for those who see all tenants."""
    policy = policy_in_force(state, reading.ledger.store)
    whole = reading.viewer.tenants is None
    return {
        "witnesses": len(policy.witnesses),
        "quorum": policy.quorum,
        "cosigned": witnessed(reading.ledger.store, policy)["size"],
        "held": len(state.legal_holds),
        "holds": [f"{one.id} ({one.reason})" for one in state.legal_holds.values()][:5] if whole else [],
    }


def completeness(reading: Reading) -> dict[str, Any]:
    """By source what is missing, provably and by estimate; by partition how far it was read, and lost."""
    reading.viewer.require(Right.INTEGRITY)
    sources = by_source(reading)
    gaps = _gaps(reading)
    for row in sources:
        gap = gaps.get(row["source"])
        row["missing"] = None if gap is None else gap.provable
        row["estimated"] = None if gap is None else gap.estimated
        row["by"] = [] if gap is None else gap.by
        row["provable"] = _provable(row["numbered"], row["events"], reading.viewer)
    clocks = Clocks()
    lost: dict[tuple[str, int], int] = {}
    expired = erased = 0
    for entry in SealedLog.of(reading.ledger).parsed(0, reading.size):
        clocks.take(entry)
        if isinstance(entry, Append):
            for one in entry.offsets:
                key = (one.topic, one.partition)
                lost[key] = lost.get(key, 0) + one.lost_messages
        elif isinstance(entry, Expire):
            expired += len(entry.paths)
        elif isinstance(entry, Erase):
            erased += sum(len(part.indexes) for part in entry.rows)
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
        "expired": expired,
        "erased": erased,
        "ledger_clock": clocks.ledger,
        "settle_clock": clocks.settle,
    }


def _gaps(reading: Reading) -> dict[str, Gap]:
    """By source what is missing. A source numbers the events of all tenants in one line."""
    if reading.viewer.tenants is not None:
        return {}
    return Gaps(answers_of(reading.ledger, reading.size, reading.days)).between()


def _provable(numbered: int, events: int, viewer: Viewer) -> str:
    if not numbered:
        return "no numbers in its events"
    if viewer.tenants is not None:
        return "for those who see all tenants"
    return "by its numbers" if numbered == events else "in part"


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
