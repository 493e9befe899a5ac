"""Events of our own, as the writer takes them: no message of anybody stands behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ledger.events import ARROW_SCHEMA
from ledger.format.manifest import OffsetKey
from ledger.sealing.batch import ACCEPTED, Stretch


def own_stretch(key: OffsetKey, start: int, end: int, events: Sequence[Mapping[str, Any]]) -> Stretch:
    """`events`, each with its `record_offset` and `part`, as [start, end) of `key`."""
    rows = [{**event, "topic": key.topic, "partition": key.partition} for event in events]
    count = len(rows)
    return Stretch(
        key, start, end, np.array([row["record_offset"] for row in rows], np.int64),
        pa.array([b""] * count, pa.large_binary()), np.full(count, ACCEPTED, np.uint8),
        pa.Table.from_pylist(rows, ARROW_SCHEMA), np.arange(count, dtype=np.int64),
    )  # fmt: skip
