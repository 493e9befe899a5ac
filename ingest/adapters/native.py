"""Our own event as JSON: one object a message, or an array of objects (accepted or rejected whole).

A message takes the fast path with the whole run, or the exact row path; both give the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ingest import masking, rows, strictjson
from ingest.adapters.flat_json import read_flat
from ingest.adapters.native_columns import to_events
from ingest.decoded import Decoded, Limits, Verdict
from ingest.rows import Row
from ledger.errors import UsageError
from ledger.events import FIELDS

FIELD_MAP: Final = tuple((f"/{f.name}", f.name) for f in rows.SENDER_FIELDS)
"""Where in a message each field is read from: JSON pointer and field."""
GRADE: Final = 4
"""The context grade that it can reach: whatever the sender knows."""
NESTING: Final = 2
"""How deep an event without attributes is nested: it is an object with lists."""
_OURS: Final = frozenset(f.name for f in FIELDS)


def told_field(name: str | None) -> str | None:
    """The name of a field as a verdict may tell it: a foreign key can be long, or hold a secret."""
    if name is None or name in _OURS:
        return name
    return masking.mask_text(name.encode("utf-8", "replace").decode())[: strictjson.MAX_POINTER_CHARS]


@dataclass(slots=True)
class Collected:
    """Rows and verdicts of the messages that were read one by one."""

    rows: list[Row] = field(default_factory=list)
    message: list[int] = field(default_factory=list)
    rejected: list[Verdict] = field(default_factory=list)
    ignored: list[Verdict] = field(default_factory=list)

    def reject(self, message: int, reason: str, part: int | None = None, field: str | None = None) -> None:
        """A message that is unusable, whole."""
        self.rejected.append(Verdict(message, reason, part, told_field(field)))

    def take(self, message: int, made: list[Row]) -> None:
        """The rows that a message gave."""
        self.rows += made
        self.message += [message] * len(made)


def parts_of(value: Any, limits: Limits) -> tuple[list[dict[str, Any]], bool]:
    """The objects of one message, and whether they came as a batch.

    Raises:
        rows.Refused: it holds something else, or too many.
    """
    if isinstance(value, dict):
        return [value], False
    if not isinstance(value, list):
        raise rows.Refused("wrong type: object or array of objects expected")
    if len(value) > limits.events_per_message:
        raise rows.Refused(f"more than {limits.events_per_message} events in one message")
    return value, True


def read_message(message: bytes, limits: Limits) -> tuple[list[dict[str, Any]], bool]:
    """As `parts_of`, from bytes.

    Raises:
        rows.Refused: the message is too long, not strict JSON, or not of this shape.
    """
    if len(message) > limits.message_bytes:
        raise rows.Refused(f"longer than {limits.message_bytes} bytes")
    try:
        value = strictjson.loads(message, limits.nesting_depth)
    except strictjson.Unreadable as error:
        raise rows.Refused(error.reason, error.field) from None
    return parts_of(value, limits)


def native_row(event: Any, part: int, limits: Limits, now: datetime) -> rows.Row:
    """The row of one parsed native event.

    Raises:
        rows.Refused: with the reason and the field.
    """
    if not isinstance(event, dict):
        raise rows.Refused("wrong type: object expected")
    clean, places = masking.mask_value(event)
    return rows.normalise(clean, limits, now, places=places, part=part)


class NativeAdapter:
    """Keeps `ingest.decoded.Adapter`."""

    name = "native"

    def __init__(self, *, fast: bool = True) -> None:
        self._quick = fast

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """Events of `values`; see `Adapter.decode`."""
        table, taken = self._fast(values, limits, now)
        rest = np.ones(len(values), np.bool_)
        rest[taken] = False
        slow = Collected()
        positions = np.flatnonzero(rest)
        if len(positions):
            for position, message in zip(
                positions.tolist(), values.take(pa.array(positions)).to_pylist(), strict=True
            ):
                _read_one(slow, position, message, limits, now)
        return merged(table, taken, slow)

    def _fast(
        self, values: pa.LargeBinaryArray, limits: Limits, now: datetime
    ) -> tuple[pa.Table | None, np.ndarray[Any, np.dtype[np.int64]]]:
        # An event is an object that may hold lists: nested two deep.
        quick = self._quick and limits.nesting_depth >= NESTING
        columns = read_flat(values, limits.message_bytes) if quick else None
        if columns is None:
            return None, np.zeros(0, np.int64)
        table, good = to_events(columns, limits, now)
        if not len(good):
            return None, np.zeros(0, np.int64)
        if good.all():
            return table, columns.positions
        return table.filter(pa.array(good)), columns.positions[good]


def _read_one(slow: Collected, position: int, message: bytes, limits: Limits, now: datetime) -> None:
    try:
        events, batch = read_message(message, limits)
    except rows.Refused as error:
        slow.reject(position, error.reason, field=error.field)
        return
    if not events:
        slow.ignored.append(Verdict(position, "no events"))
        return
    made = []
    for part, event in enumerate(events):
        try:
            made.append(native_row(event, part, limits, now))
        except rows.Refused as error:
            slow.reject(position, error.reason, part if batch else None, error.field)
            return
    slow.take(position, made)


def merged(table: pa.Table | None, taken: np.ndarray[Any, np.dtype[np.int64]], slow: Collected) -> Decoded:
    """Both paths' rows in the order of their messages."""
    message = np.array(slow.message, np.int64)
    if table is None:
        table = rows.as_table(slow.rows)
    elif slow.rows:
        table = pa.concat_tables([table, rows.as_table(slow.rows)])
        message = np.concatenate([taken, message])
        order = np.argsort(message, kind="stable")
        message = message[order]
        table = table.combine_chunks().take(pa.array(order))
    else:
        message = taken
    return Decoded(table, message, slow.rejected, slow.ignored)


def from_options(options: Mapping[str, Any]) -> NativeAdapter:
    """The adapter; it has no options. Raises UsageError for any."""
    if options:
        raise UsageError(f"The format native has no option {min(options)!r}.", "Remove it from the intake.")
    return NativeAdapter()
