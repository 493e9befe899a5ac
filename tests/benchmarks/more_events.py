"""Files of as many events as are wanted, at the cost of rewriting: the reference workload, day by day.

Each file holds the events of one seed on a day of its own. All random ids of a day are mapped by a
permutation of the hexadecimal digits that is the day's, so that ids keep their lengths, their entropy and who
shares them, and no two days share any.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Final

import zstandard

from tests.benchmarks import workload

_ID: Final = re.compile(rb'"(?:[0-9a-f]{32}|[0-9a-f]{16})"')
_DIGITS: Final = b"0123456789abcdef"
_DAY: Final = workload.START.strftime("%Y-%m-%d").encode()
ZSTD_LEVEL: Final = 1


def on_day(lines: bytes, day: int) -> bytes:
    """Those lines `day` days earlier, with ids of their own; the same for day 0."""
    if not day:
        return lines
    digits = list(_DIGITS)
    Random(day).shuffle(digits)
    table = bytes.maketrans(_DIGITS, bytes(digits))
    date = (workload.START - timedelta(days=day)).strftime("%Y-%m-%d").encode()
    return _ID.sub(lambda found: found.group().translate(table), lines).replace(_DAY, date)


def write_days(lines: bytes, first: int, end: int, folder: Path) -> list[Path]:
    """The files of days [first, end), as zstd, each of these lines `on_day`."""
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    paths = [folder / f"day-{day:04d}.jsonl.zst" for day in range(first, end)]
    for day, path in enumerate(paths, first):
        path.write_bytes(compressor.compress(on_day(lines, day)))
    return paths
