"""What a check of one sealed file is asked, and what it answers: values that go from process to process."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ledger.verify.findings import Finding

Int64s = npt.NDArray[np.int64]
Key = tuple[str, bool, int]
"""(topic_id or topic, whether it is an id, partition): what a row tells of its offset key."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows [start, end) of an original segment of `rows` rows, as a file holds them.

    `erased` are the erased ones of them, counted in the original; `root` is the original's, in hex.
    """

    segment: str
    start: int
    end: int
    rows: int
    erased: tuple[int, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class FileTask:
    """One file to check. `retention` is None for dead letters; `day` is the ISO date of its folder."""

    path: str
    sha256: str
    bytes: int
    rows: int
    retention: str | None
    day: str
    pieces: tuple[Piece, ...]
    seed: int = 0
    """For hashes that tell events apart: random, so that nobody can aim at one."""


@dataclass(slots=True)
class Coordinates:
    """Offsets and parts (−1 for null) of one key's rows, and which rows of the file they are.

    `status` is the place in DEAD_LETTER_STATUSES, −1 for any other; None for events.
    """

    row: Int64s
    offset: Int64s
    part: Int64s
    status: npt.NDArray[np.int8] | None = None


@dataclass(slots=True)
class PieceFacts:
    """What a piece really holds. `root` where it is the whole original, else `leaves`, 32 bytes a row.

    `at` is its first row in the file. Times are in microseconds since 1970, None without live rows.
    """

    piece: Piece
    at: int
    root: bytes | None = None
    leaves: bytes = b""
    kinds: dict[str, int] = field(default_factory=dict)
    min_time: int | None = None
    max_time: int | None = None
    keys: dict[Key, Coordinates] = field(default_factory=dict)
    whole: bool = True
    """False where rows are missing or without a leaf."""


@dataclass(slots=True)
class FileFacts:
    """The outcome of one task. `sha256` is that of the bytes that were there."""

    path: str
    sha256: str
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    pieces: list[PieceFacts] = field(default_factory=list)
    unmarked: list[tuple[Int64s, npt.NDArray[np.uint64]]] = field(default_factory=list)
    """Rows of events that are not marked as a conflict, and the hash of each one's (source, event_id)."""


def joined(several: list[Coordinates]) -> Coordinates:
    """The coordinates of several stretches of rows, one after the other."""
    if len(several) == 1:
        return several[0]
    statuses = [one.status for one in several if one.status is not None]
    return Coordinates(
        np.concatenate([one.row for one in several]),
        np.concatenate([one.offset for one in several]),
        np.concatenate([one.part for one in several]),
        np.concatenate(statuses) if len(statuses) == len(several) else None,
    )
