"""Dead letters: listed, shown, and replayed after a fix.

A letter's id is `<file name>:<row>`: the name of its sealed file, and its row there.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest.authority import apply
from ingest.chunk import Chunk
from ingest.decoded import Adapter
from ingest.intakes import IntakeSettings
from ingest.stretches import stretch_of
from ledger.errors import UsageError
from ledger.events import DEAD_LETTER_STATUSES
from ledger.manifest import DeadLetterRef, OffsetKey
from ledger.reader import Ledger
from ledger.segment import read_dead_letters
from ledger.writer import Writer

MAX_REPLAYS: Final = 100_000


def listed(ledger: Ledger, status: str, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The newest letters of a status (or `all`), and how many there are."""
    if status not in (*DEAD_LETTER_STATUSES, "all"):
        raise UsageError(f"There is no status {status!r}.", "Use rejected, duplicate, ignored or all.")
    found = [row for row in _letters(ledger) if status in ("all", row["status"])]
    found.sort(
        key=lambda row: (row["time"], row["topic"], row["partition"], row["record_offset"]), reverse=True
    )
    shown = [{name: value for name, value in row.items() if name != "payload"} for row in found[:limit]]
    return shown, len(found)


def shown(ledger: Ledger, letter: str) -> dict[str, Any]:
    """One letter with its message as text. Raises UsageError for an unknown id."""
    for row in _letters(ledger):
        if row["id"] == letter:
            payload = row.pop("payload")
            row["message"] = None if payload is None else base64.b64decode(payload).decode("utf-8", "replace")
            return row
    raise UsageError(
        f"There is no dead letter {letter!r}.", "`decision-ledger deadletters list` prints the ids."
    )


def replay(
    ledger: Ledger, writer: Writer, adapter: Adapter, settings: IntakeSettings, ids: Sequence[str]
) -> dict[str, int]:
    """Decode rejected messages again; seal those that are usable now, each once and for all."""
    rows = [row for row in _letters(ledger) if row["status"] == "rejected" and row["payload"] is not None]
    if ids:
        by_id = {row["id"]: row for row in rows}
        unknown = [letter for letter in ids if letter not in by_id]
        if unknown:
            raise UsageError(
                f"There is no rejected dead letter {unknown[0]!r} with a message to replay.",
                "`decision-ledger deadletters list` prints the ids.",
            )
        rows = [by_id[letter] for letter in ids]
    result = {"tried": 0, "sealed": 0, "events": 0, "still_rejected": 0}
    for row in rows[:MAX_REPLAYS]:
        if row["replayed"]:
            continue
        result["tried"] += 1
        stretch = stretch_of(_chunk(row), _decoded(row, adapter, settings, writer), settings.limits)
        if not len(stretch.events):
            result["still_rejected"] += 1
            continue
        path, _, number = row["place"].rpartition(":")
        stretch.replays = (path, int(number))
        for entry in writer.commit([stretch]).entries:
            result["sealed"] += 1
            result["events"] += sum(ref.rows for ref in entry.segments)
    return result


def _decoded(row: dict[str, Any], adapter: Adapter, settings: IntakeSettings, writer: Writer) -> Any:
    values = pa.array([base64.b64decode(row["payload"])], pa.large_binary())
    return apply(adapter.decode(values, settings.limits, writer.clock()), settings.intake)


def _chunk(row: dict[str, Any]) -> Chunk:
    key = OffsetKey(row["topic"], row["partition"], row["topic_id"])
    offset = row["record_offset"]
    values = pa.array([base64.b64decode(row["payload"])], pa.large_binary())
    return Chunk(key, offset, offset + 1, np.array([offset], np.int64), values)


def _letters(ledger: Ledger) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for file in ledger.state.files.values():
        original = ledger.state.originals.get(file.path)
        if original is None or not isinstance(original.ref, DeadLetterRef):
            continue
        name = PurePosixPath(file.path).stem
        for number, row in enumerate(read_dead_letters(ledger.local_path(file)).to_pylist()):
            if row.pop("erased_leaf") is not None:
                continue
            replayed = (file.path, number) in ledger.state.replayed
            found.append(
                {"id": f"{name}:{number}", "place": f"{file.path}:{number}", **row, "replayed": replayed}
            )
    return found
