"""Which offsets of a range hold no message. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ranges = list[tuple[int, int]]


def gaps(start: int, end: int, offsets: npt.NDArray[np.int64]) -> Ranges:
    """The half-open ranges of [start, end) that `offsets` leave out.

    Raises ValueError unless the offsets ascend within [start, end).
    """
    edges = np.empty(len(offsets) + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = start - 1, offsets, end
    steps = np.diff(edges)
    if end < start or (steps < 1).any():
        raise ValueError(f"offsets do not ascend within [{start}, {end})")
    return [(int(edges[at]) + 1, int(edges[at + 1])) for at in np.flatnonzero(steps > 1)]


def subtract(ranges: Ranges, others: Ranges) -> Ranges:
    """What is left of `ranges` without `others`."""
    for low, high in others:
        left = []
        for start, end in ranges:
            left += [(start, min(end, low)), (max(start, high), end)]
        ranges = [(start, end) for start, end in left if start < end]
    return ranges
