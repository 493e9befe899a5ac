"""Whether the live files hold exactly what was sealed: files in, judged segments and offsets out.

A compacted file holds rows of several originals, and a large original may lie in several files, so
leaves are brought back together here before their root is compared with the sealed one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ledger.format.manifest import (
    DeadLetterRef,
    SegmentRef,
    instant,
    parse_dead_letter_path,
    parse_event_path,
)
from ledger.format.merkle import HASH_BYTES, root
from ledger.format.state import LiveFile, LogState
from ledger.verify.facts import FileFacts, FileTask, Piece, PieceFacts
from ledger.verify.findings import Finding, damage
from ledger.verify.offsets import OffsetsCheck, SealedRows

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Counts:
    """What was read."""

    files: int = 0
    bytes: int = 0
    events: int = 0
    deadletters: int = 0


def task_of(file: LiveFile, state: LogState, seed: int = 0) -> FileTask | None:
    """What to check of a live file; None where its path is no place for one (its entry is invalid)."""
    place = parse_event_path(file.path)
    day = place[1] if place else parse_dead_letter_path(file.path)
    if day is None:
        return None
    pieces = []
    for hold in file.holds:
        original = state.originals.get(hold.segment)
        rows = original.ref.rows if original is not None else 0
        erased = sorted(row for row in original.erased if hold.from_ <= row < hold.to) if original else ()
        top = original.ref.root if original is not None else ""
        pieces.append(Piece(hold.segment, hold.from_, hold.to, rows, tuple(erased), top))
    return FileTask(
        file.path, file.sha256, file.bytes, file.rows, place[0] if place else None, day, tuple(pieces), seed
    )


@dataclass(slots=True)
class _Gathering:
    """Pieces of one original, as they come in."""

    pieces: list[tuple[str, PieceFacts]] = field(default_factory=list)
    rows: int = 0


class FilesCheck:
    """Takes in what files hold, and judges each original segment once all its rows were seen."""

    def __init__(self, state: LogState, offsets: OffsetsCheck, sealed: Mapping[str, str]) -> None:
        self.counts = Counts()
        self.findings: list[Finding] = []
        self._state = state
        self._offsets = offsets
        self._sealed = sealed
        self._gathering: dict[str, _Gathering] = {}

    def take(self, task: FileTask, facts: FileFacts, size: int) -> None:
        """One file's outcome."""
        self.counts.files += 1
        self.counts.bytes += size
        if task.retention is None:
            self.counts.deadletters += facts.rows
        else:
            self.counts.events += facts.rows
        other = self._sealed.get(facts.sha256)
        if facts.sha256 != task.sha256 and other is not None:
            message = f"It holds the bytes that were sealed as {other}."
            self.findings.append(damage("changed", task.path, message))
            return
        self.findings += facts.findings
        for piece in facts.pieces:
            self._take_piece(task, piece)

    def _take_piece(self, task: FileTask, facts: PieceFacts) -> None:
        piece = facts.piece
        if piece.segment not in self._state.originals:
            return
        gathering = self._gathering.setdefault(piece.segment, _Gathering())
        gathering.pieces.append((task.path, facts))
        gathering.rows += piece.end - piece.start
        if gathering.rows >= piece.rows:
            del self._gathering[piece.segment]
            self._judge(piece.segment, gathering.pieces)

    def _judge(self, segment: str, pieces: list[tuple[str, PieceFacts]]) -> None:
        original = self._state.originals[segment]
        pieces.sort(key=lambda pair: pair[1].piece.start)
        path, first = pieces[0]
        facts = [piece for _, piece in pieces]
        top = first.root if first.root is not None else _root(facts)
        sound = top.hex() == original.ref.root
        if not sound:
            where = "Its rows" if path == segment else f"Its rows of {segment}"
            message = f"{where} have the root {top.hex()}, sealed was {original.ref.root}."
            for path, piece in pieces:
                row = piece.at if path != segment else None
                self.findings.append(damage("root", path, message, row=row))
        elif isinstance(original.ref, SegmentRef) and not original.erased:
            self._judge_summary(path, original.ref, facts, original.entry)
        self.findings += self._offsets.take(
            original.entry,
            segment,
            [SealedRows(path, piece.piece.start - piece.at, piece.keys) for path, piece in pieces],
            letters=isinstance(original.ref, DeadLetterRef),
            whole=not original.erased,
            sound=sound,
        )

    def _judge_summary(self, path: str, ref: SegmentRef, facts: list[PieceFacts], entry: int) -> None:
        kinds: dict[str, int] = {}
        for one in facts:
            for kind, count in one.kinds.items():
                kinds[kind] = kinds.get(kind, 0) + count
        if sum(kinds.values()) < ref.rows:
            return
        if kinds != ref.kinds:
            message = f"Its rows are {kinds}; entry {entry} says {ref.kinds}."
            self.findings.append(damage("summary", path, message, index=entry))
        low = min(one.min_time for one in facts if one.min_time is not None)
        high = max(one.max_time for one in facts if one.max_time is not None)
        if (_instant(low), _instant(high)) != (ref.min_time, ref.max_time):
            message = (
                f"Its times run from {_instant(low)} to {_instant(high)}; "
                f"entry {entry} says from {ref.min_time} to {ref.max_time}."
            )
            self.findings.append(damage("summary", path, message, index=entry))


def _root(pieces: list[PieceFacts]) -> bytes:
    leaves: list[bytes] = []
    for piece in pieces:
        leaves += [piece.leaves[at : at + HASH_BYTES] for at in range(0, len(piece.leaves), HASH_BYTES)]
    return root(leaves)


def _instant(micros: int) -> str:
    try:
        return instant(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
    except OverflowError:
        return f"{micros} µs"
