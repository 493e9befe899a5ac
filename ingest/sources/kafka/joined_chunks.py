"""Chunks that follow one another, as few large ones: decoding has a cost per chunk.

While more comes than can be decoded small chunks gather, and the more of them do, the less each one costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa

from ingest.chunk import Chunk
from ingest.sources.kafka.records import GROUP_BYTES
from ledger.format.manifest import OffsetKey


def joined(chunks: Iterable[Chunk]) -> list[Chunk]:
    """The same messages, those of each key in their order; no chunk grows beyond GROUP_BYTES by it."""
    rows: list[list[Chunk]] = []
    open_: dict[OffsetKey, tuple[list[Chunk], int]] = {}
    for chunk in chunks:
        row, size = open_.get(chunk.key, ([], 0))
        size += chunk.values.nbytes
        if not row or row[-1].end != chunk.start or size > GROUP_BYTES:
            row, size = [], chunk.values.nbytes
            rows.append(row)
        row.append(chunk)
        open_[chunk.key] = row, size
    return [_one(row) for row in rows]


def _one(row: Sequence[Chunk]) -> Chunk:
    if len(row) == 1:
        return row[0]
    firsts = accumulate((len(chunk.values) for chunk in row), initial=0)
    headers = None
    if any(chunk.headers is not None for chunk in row):
        headers = [one for chunk in row for one in chunk.headers or [{}] * len(chunk.values)]
    return Chunk(
        row[0].key, row[0].start, row[-1].end,
        np.concatenate([chunk.offsets for chunk in row]),
        pa.concat_arrays([chunk.values for chunk in row]),
        skipped=[one for chunk in row for one in chunk.skipped],
        lost=[one for chunk in row for one in chunk.lost],
        truncated={
            first + at: size
            for first, chunk in zip(firsts, row, strict=False)
            for at, size in chunk.truncated.items()
        },
        headers=headers,
    )  # fmt: skip
