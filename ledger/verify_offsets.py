"""Whether messages and rows add up: every offset that an entry seals is a row, a dead letter, or in a range.

Works on the coordinates that `ledger.verify_rows` read, entry by entry, and holds those of an entry
only until all its files have been seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.events import DEAD_LETTER_STATUSES
from ledger.findings import MAX_ROW_FINDINGS, Finding, damage, row_findings
from ledger.manifest import Append, OffsetsRow
from ledger.state import ENGINE_TOPIC
from ledger.verify_rows import Coordinates, Int64s, Key

_ENGINE_KEY: Final[Key] = (ENGINE_TOPIC, False, 0)


@dataclass(slots=True)
class SealedRows:
    """Rows of one original as they were found: where they lie now, and their coordinates by key.

    `shift` is what to add to a row of that file to get the row of the original.
    """

    path: str
    shift: int
    keys: dict[Key, Coordinates]


@dataclass(slots=True)
class _Account:
    """What one entry is still waiting for, and what it has."""

    entry: Append
    waiting: set[str]
    events: list[SealedRows] = field(default_factory=list)
    letters: list[SealedRows] = field(default_factory=list)
    complete: bool = True


class OffsetsCheck:
    """Fed the rows of each original, in any order; the findings of an entry come with its last one."""

    def __init__(self, appends: Mapping[int, Append], paths: Mapping[int, str]) -> None:
        self._paths = paths
        self._accounts = {
            index: _Account(entry, {s.path for s in entry.segments} | {d.path for d in entry.deadletters})
            for index, entry in appends.items()
        }
        self._wanted = {replay.path for entry in appends.values() for replay in entry.replays}
        self._replayable: dict[tuple[str, int], tuple[Key, int]] = {}
        self._seen_letters: set[str] = set()

    def entries_without_files(self) -> list[Finding]:
        """The findings of entries that have no file to wait for."""
        empty = [index for index, account in self._accounts.items() if not account.waiting]
        return [finding for index in empty for finding in self._judge(index)]

    def take(
        self, index: int, original: str, rows: list[SealedRows], *, letters: bool, whole: bool, sound: bool
    ) -> list[Finding]:
        """The rows of `original`, sealed by entry `index`.

        Not `whole`: some are erased. Not `sound`: they are not what was sealed, so they prove nothing
        about other entries.
        """
        account = self._accounts.get(index)
        if account is None or original not in account.waiting:
            return []
        account.waiting.discard(original)
        account.complete = account.complete and whole
        (account.letters if letters else account.events).extend(rows)
        if original in self._wanted and sound:
            self._remember(original, rows)
        return [] if account.waiting or account.entry.replays else self._judge(index)

    def remaining(self) -> list[Finding]:
        """The findings of entries some of whose files were not read, and of replays."""
        found: list[Finding] = []
        for index in sorted(self._accounts):
            account = self._accounts[index]
            account.complete = account.complete and not account.waiting
            found += self._judge(index)
        return found

    def _remember(self, original: str, rows: Iterable[SealedRows]) -> None:
        self._seen_letters.add(original)
        for one in rows:
            for key, at in one.keys.items():
                for row, offset in zip((at.row + one.shift).tolist(), at.offset.tolist(), strict=True):
                    self._replayable[original, row] = (key, offset)

    def _judge(self, index: int) -> list[Finding]:
        account = self._accounts.pop(index)
        if account.entry.replays:
            return self._judge_replays(account)
        return _judge_entry(index, self._paths[index], account)

    def _judge_replays(self, account: _Account) -> list[Finding]:
        replays = account.entry.replays
        if any(replay.path not in self._seen_letters for replay in replays):
            return []
        allowed: dict[Key, set[int]] = {}
        for replay in replays:
            place = self._replayable.get((replay.path, replay.row))
            if place is not None:
                allowed.setdefault(place[0], set()).add(place[1])
        found: list[Finding] = []
        for one in (*account.events, *account.letters):
            for key, at in one.keys.items():
                strange = ~np.isin(at.offset, list(allowed.get(key, ())))
                message = "It is not of a dead letter that its entry replays."
                found += row_findings(one.path, at.row[strange].tolist(), message)
        return found


def _judge_entry(index: int, path: str, account: _Account) -> list[Finding]:
    found: list[Finding] = []
    spans: dict[Key, list[OffsetsRow]] = {}
    for row in account.entry.offsets:
        spans.setdefault(_key_of(row), []).append(row)
    for one in (*account.events, *account.letters):
        for key, at in one.keys.items():
            if key not in spans:
                message = f"Its entry seals nothing of {key[0]}/{key[2]}."
                found += row_findings(one.path, at.row.tolist(), message)
    for key, rows in spans.items():
        # Two clusters may have topics of one name and no id: rows do not tell which they are from.
        if key == _ENGINE_KEY or len(rows) > 1:
            continue
        events = [(one.path, one.keys[key]) for one in account.events if key in one.keys]
        letters = [(one.path, one.keys[key]) for one in account.letters if key in one.keys]
        for problem in _judge_span(rows[0], events, letters, found, complete=account.complete):
            found.append(damage("offsets", path, problem, index=index))
    return found


def _judge_span(
    span: OffsetsRow,
    events: list[tuple[str, Coordinates]],
    letters: list[tuple[str, Coordinates]],
    found: list[Finding],
    *,
    complete: bool,
) -> list[str]:
    """What is wrong with the messages of one key; single rows that are wrong go to `found`."""
    ranges = sorted([*span.skipped, *span.lost])
    for path, at in (*events, *letters):
        outside = (at.offset < span.from_) | (at.offset >= span.to)
        for start, end in ranges:
            outside |= (at.offset >= start) & (at.offset < end)
        message = f"Its offset lies outside what its entry seals of {span.topic}/{span.partition}."
        found += row_findings(path, at.row[outside].tolist(), message)
    found += _repeated(events, by_part=True) + _repeated(letters, by_part=False)
    accepted, aside = _inside(_offsets(events), span), _inside(_offsets(letters), span)
    name = f"{span.topic}/{span.partition}"
    problems = [
        f"Offset {offset} of {name} is both an event and a dead letter."
        for offset in np.intersect1d(accepted, aside).tolist()[:MAX_ROW_FINDINGS]
    ]
    if not complete:
        return problems
    for start, end in _gaps(np.union1d(accepted, aside), span.from_, span.to, ranges)[:MAX_ROW_FINDINGS]:
        what = f"Offset {start}" if end == start + 1 else f"Offsets {start} to {end - 1}"
        problems.append(f"{what} of {name}: neither an event, nor a dead letter, nor in a range.")
    if not problems:
        problems += _miscounted(span, len(accepted), letters)
    return problems


def _miscounted(span: OffsetsRow, accepted: int, letters: list[tuple[str, Coordinates]]) -> list[str]:
    counts = {"accepted": (span.accepted, accepted)}
    statuses = [at.status for _, at in letters if at.status is not None]
    status = np.concatenate(statuses) if statuses else np.empty(0, np.int8)
    for place, name in enumerate(DEAD_LETTER_STATUSES):
        counts[name] = (getattr(span, name), int((status == place).sum()))
    return [
        f"{span.topic}/{span.partition} has {there} {name} messages; its entry says {stated or 0}."
        for name, (stated, there) in counts.items()
        if there != (stated or 0)
    ]


def _repeated(rows: list[tuple[str, Coordinates]], *, by_part: bool) -> list[Finding]:
    """Rows whose coordinates an earlier row already has."""
    if not rows:
        return []
    offset = np.concatenate([at.offset for _, at in rows])
    part = np.concatenate([at.part for _, at in rows]) if by_part else np.zeros(len(offset), np.int64)
    if (np.diff(offset) > 0).all():
        return []
    order = np.lexsort((part, offset))
    again = (np.diff(offset[order]) == 0) & (np.diff(part[order]) == 0)
    if not again.any():
        return []
    repeated: npt.NDArray[np.bool_] = np.zeros(len(offset), np.bool_)
    repeated[order[1:][again]] = True
    found: list[Finding] = []
    edge = 0
    for path, at in rows:
        mine = repeated[edge : edge + len(at.offset)]
        found += row_findings(path, at.row[mine].tolist(), "Another row has the same coordinates.")
        edge += len(at.offset)
    return found


def _offsets(rows: list[tuple[str, Coordinates]]) -> Int64s:
    """The distinct offsets, ascending."""
    if not rows:
        return np.empty(0, np.int64)
    offset = np.concatenate([at.offset for _, at in rows])
    return offset if (np.diff(offset) > 0).all() else np.unique(offset)


def _inside(offsets: Int64s, span: OffsetsRow) -> Int64s:
    return offsets[(offsets >= span.from_) & (offsets < span.to)]


def _gaps(offsets: Int64s, start: int, end: int, ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The half-open stretches of [start, end) in which none of its offsets and no range lies."""
    edges = np.concatenate([[start - 1], offsets, [end]])
    holes = np.flatnonzero(np.diff(edges) > 1)
    gaps: list[tuple[int, int]] = []
    for hole in holes.tolist():
        low, high = int(edges[hole]) + 1, int(edges[hole + 1])
        for range_start, range_end in ranges:
            if range_end <= low or range_start >= high:
                continue
            if range_start > low:
                gaps.append((low, range_start))
            low = max(low, range_end)
        if low < high:
            gaps.append((low, high))
    return gaps


def _key_of(row: OffsetsRow) -> Key:
    return (row.topic_id or row.topic, row.topic_id is not None, row.partition)
