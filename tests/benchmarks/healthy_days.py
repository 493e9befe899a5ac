"""Days of a company at work, as sealed rows: one day is played, others are copies with ids of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import rfc8785

from issuer.scenarios.catalogue import play
from ledger.events import ARROW_SCHEMA, TIME_TYPE
from ledger.format.manifest import OffsetKey

KEY = OffsetKey("decisions", 0, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1")
TIMES = [field.name for field in ARROW_SCHEMA if field.type == TIME_TYPE]
IDS = ("event_id", "request_id", "trace_id", "task_id", "session_id", "credential_id", "parent_credential_id",
       "decision_ref", "approval_id")  # fmt: skip
"""What names one thing of one day; the first four characters are the day's in its copies."""


def one_day(rate: float, seed: int = 7) -> pa.Table:
    """A healthy day: about 140 events for each of `rate` tasks an hour, in order of time."""
    rows = []
    for event in play("healthy-day", seed, rate=rate, hours=24).events:
        row = dict(event)
        for name in TIMES:
            if name in row:
                row[name] = datetime.fromisoformat(row[name])
        if "attributes" in row:
            row["attributes"] = rfc8785.dumps(row["attributes"]).decode()
        row |= {
            "retention": "standard",
            "part": 0,
            "topic": KEY.topic,
            "topic_id": KEY.topic_id,
            "partition": 0,
        }
        rows.append(row)
    return pa.Table.from_pylist(rows, ARROW_SCHEMA)


def day_of(table: pa.Table, number: int, first_offset: int) -> pa.Table:
    """The same day `number` days later, with other ids, from `first_offset` on."""
    shift = pa.scalar(timedelta(days=number), pa.duration("us"))
    columns = {name: table[name] for name in table.schema.names}
    for name in TIMES:
        columns[name] = pc.add(columns[name], shift).cast(TIME_TYPE)
    for name in IDS:
        rest = pc.utf8_slice_codeunits(columns[name], 4)
        columns[name] = pc.binary_join_element_wise(pa.scalar(f"{number + 1:04x}"), rest, "")
    columns["sequence"] = pc.add(columns["sequence"], number * len(table))
    columns["record_offset"] = pa.array(range(first_offset, first_offset + len(table)), pa.int64())
    return pa.table(columns, schema=ARROW_SCHEMA)


def batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Slices of so many rows."""
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)
