"""Which (source, event_id) the ledger already holds, and where.

The index keeps 24 bytes per event: a 128-bit keyed hash of the pair and the place of the row.
It lies in memory only, is rebuilt from the segments on start, and is bounded in ledger days and
in events. Contents are not kept: on a hit the sealed row is read back and compared, which only
duplicates pay for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KEY_COLUMNS: Final = ("source", "event_id")
MAX_EVENTS: Final = 8_000_000
HORIZON_DAYS: Final = 7
_FAN_IN: Final = 4
"""Runs of about the same size that are merged into one, so that a look-up searches few runs."""

_FULL_RUNS: Final = 8
"""Runs that fill the index: what is merged at once, and what is forgotten at once, is an eighth of it."""

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class KeyHashes:
    """128 bits per row, as two arrays of 64."""

    high: Hashes
    low: Hashes


@dataclass(slots=True)
class _Run:
    high: Hashes
    low: Hashes
    place: Hashes
    newest: int = field(init=False)
    """The highest segment number of its places."""

    def __post_init__(self) -> None:
        self.newest = int(self.place.max()) >> 32 if len(self.place) else -1

    def __len__(self) -> int:
        return len(self.high)


class SeenEvents:
    """A multimap from event key to the places of its rows.

    A place is (segment number << 32 | row), segments numbered in log order by the caller.
    """

    def __init__(self, max_events: int = MAX_EVENTS) -> None:
        self.max_events = max_events
        self._longest_run = max_events // _FULL_RUNS
        self._seeds = (secrets.randbits(63), secrets.randbits(63))
        self._runs: list[_Run] = []
        self._oldest = 0

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    @classmethod
    def of_contents(
        cls,
        runs: Sequence[tuple[Hashes, Hashes, Hashes]],
        oldest: int,
        seeds: tuple[int, int],
        max_events: int,
    ) -> SeenEvents:
        """An index from what `contents` gave."""
        made = cls(max_events)
        made._seeds, made._oldest = seeds, oldest
        made._runs = [_Run(*run) for run in runs]
        made._merge()
        return made

    def contents(self) -> tuple[list[tuple[Hashes, Hashes, Hashes]], int, tuple[int, int]]:
        """All of it: (high, low, place) of sorted runs, the first segment remembered, the hash's seeds."""
        return [(run.high, run.low, run.place) for run in self._runs], self._oldest, self._seeds

    def hashes(self, table: pa.Table) -> KeyHashes:
        """Key hashes of a table that has the columns `source` and `event_id`."""
        import polars as pl  # noqa: PLC0415  # a reader that never de-duplicates need not load it

        frame = pl.DataFrame(
            {name: pl.Series(name, table.column(name).cast(pa.large_string())) for name in KEY_COLUMNS}
        )
        high, low = (frame.hash_rows(seed).to_numpy() for seed in self._seeds)
        return KeyHashes(high, low)

    def add(self, keys: KeyHashes, segment: int, rows: npt.NDArray[np.int64]) -> None:
        """Remember that row `rows[i]` of `segment` has key i."""
        if not len(rows):
            return
        place = (np.uint64(segment) << np.uint64(32)) | rows.astype(np.uint64)
        order = np.argsort(keys.high, kind="stable")
        self._runs.append(_Run(keys.high[order], keys.low[order], place[order]))
        self._merge()

    def forget_before(self, segment: int) -> None:
        """Segments below this number have left the horizon."""
        self._oldest = max(self._oldest, segment)
        self._runs = [run for run in self._runs if run.newest >= self._oldest]

    def find(self, keys: KeyHashes) -> list[tuple[int, int, int]]:
        """Every hit as (position in `keys`, segment number, row).

        There are several where a key was seen with several contents.
        """
        order = np.argsort(keys.high, kind="stable")
        high, low = keys.high[order], keys.low[order]
        hits: list[tuple[int, int, int]] = []
        for run in self._runs:
            if not len(run):
                continue
            left = np.searchsorted(run.high, high)
            inside = np.flatnonzero(run.high[np.minimum(left, len(run) - 1)] == high)
            for position in inside.tolist():
                at = int(left[position])
                while at < len(run) and run.high[at] == high[position]:
                    place = int(run.place[at])
                    if run.low[at] == low[position] and place >> 32 >= self._oldest:
                        hits.append((int(order[position]), place >> 32, place & 0xFFFF_FFFF))
                    at += 1
        return hits

    def _merge(self) -> None:
        while len(self) > self.max_events:
            # Over the bound: the run that was remembered first goes, and all that is no newer with it.
            self._oldest = max(self._oldest, self._runs.pop(0).newest + 1)
        while len(self._runs) >= _FAN_IN:
            tail = self._runs[-_FAN_IN:]
            if len(tail[0]) > _FAN_IN * len(tail[-1]) * 2 or sum(map(len, tail)) > self._longest_run:
                break
            self._runs[-_FAN_IN:] = [self._joined(tail)]

    def _joined(self, runs: list[_Run]) -> _Run:
        place = np.concatenate([run.place for run in runs])
        keep = (place >> np.uint64(32)) >= np.uint64(self._oldest)
        high = np.concatenate([run.high for run in runs])[keep]
        low = np.concatenate([run.low for run in runs])[keep]
        place = place[keep]
        order = np.argsort(high, kind="stable")
        return _Run(high[order], low[order], place[order])
