"""Whether the rows of one offset key fill what an entry says that it seals of it, message by message."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ledger.events import DEAD_LETTER_STATUSES
from ledger.format.manifest import OffsetsRow
from ledger.verify.facts import Coordinates, Int64s
from ledger.verify.findings import MAX_ROW_FINDINGS, Finding, row_findings


def judge_span(
    spans: list[OffsetsRow],
    events: list[tuple[str, Coordinates]],
    letters: list[tuple[str, Coordinates]],
    found: list[Finding],
    *,
    complete: bool,
) -> list[str]:
    """What is wrong with the messages of one key, whose one span it is; single wrong rows go to `found`."""
    span = spans[0]
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


def judge_shared_name(
    spans: list[OffsetsRow],
    events: list[tuple[str, Coordinates]],
    letters: list[tuple[str, Coordinates]],
    found: list[Finding],
    *,
    complete: bool,
) -> list[str]:
    """As `judge_span`, for topics of one name and no id in several clusters.

    Rows do not tell which cluster they are from, so an offset may be there once for each.
    """
    name = f"{spans[0].topic}/{spans[0].partition}"
    for rows, by_part in ((events, True), (letters, False)):
        for path, at in rows:
            message = f"Its offset lies outside what its entry seals of {name}."
            found += row_findings(path, at.row[_allowed(spans, at.offset) == 0].tolist(), message)
        found += _repeated(rows, by_part=by_part, spans=spans)
    if not complete:
        return []
    offsets = np.union1d(_offsets(events), _offsets(letters))
    problems = []
    for span in spans:
        ranges = sorted([*span.skipped, *span.lost])
        for start, end in _gaps(_inside(offsets, span), span.from_, span.to, ranges)[:MAX_ROW_FINDINGS]:
            what = f"Offset {start}" if end == start + 1 else f"Offsets {start} to {end - 1}"
            problems.append(f"{what} of {name}: neither an event, nor a dead letter, nor in a range.")
    stated = [sum(getattr(span, status) or 0 for span in spans) for status in DEAD_LETTER_STATUSES]
    there = _counted(letters)
    problems += [
        f"{name} has {there[place]} {status} messages in all clusters; its entry says {stated[place]}."
        for place, status in enumerate(DEAD_LETTER_STATUSES)
        if there[place] != stated[place]
    ]
    return problems


def _allowed(spans: list[OffsetsRow], offset: Int64s) -> Int64s:
    """How many of the spans have a message at each offset."""
    times = np.zeros(len(offset), np.int64)
    for span in spans:
        inside = (offset >= span.from_) & (offset < span.to)
        for start, end in (*span.skipped, *span.lost):
            inside &= (offset < start) | (offset >= end)
        times += inside
    return times


def _counted(letters: list[tuple[str, Coordinates]]) -> list[int]:
    """Dead letters by status, in the order of DEAD_LETTER_STATUSES."""
    statuses = [at.status for _, at in letters if at.status is not None]
    status = np.concatenate(statuses) if statuses else np.empty(0, np.int8)
    return [int((status == place).sum()) for place in range(len(DEAD_LETTER_STATUSES))]


def _miscounted(span: OffsetsRow, accepted: int, letters: list[tuple[str, Coordinates]]) -> list[str]:
    counts = {"accepted": (span.accepted, accepted)}
    for name, there in zip(DEAD_LETTER_STATUSES, _counted(letters), strict=True):
        counts[name] = (getattr(span, name), there)
    return [
        f"{span.topic}/{span.partition} has {there} {name} messages; its entry says {stated or 0}."
        for name, (stated, there) in counts.items()
        if there != (stated or 0)
    ]


def _repeated(
    rows: list[tuple[str, Coordinates]], *, by_part: bool, spans: list[OffsetsRow] | None = None
) -> list[Finding]:
    """Rows whose coordinates earlier rows already have; with `spans`, as often as they allow."""
    if not rows:
        return []
    offset = np.concatenate([at.offset for _, at in rows])
    part = np.concatenate([at.part for _, at in rows]) if by_part else np.zeros(len(offset), np.int64)
    if (np.diff(offset) > 0).all():
        return []
    order = np.lexsort((part, offset))
    new = np.concatenate([[True], (np.diff(offset[order]) != 0) | (np.diff(part[order]) != 0)])
    if new.all():
        return []
    # How many rows before each have its coordinates: its place less that of the first of them.
    before = np.arange(len(new)) - np.flatnonzero(new)[np.cumsum(new) - 1]
    most = np.maximum(_allowed(spans, offset[order]), 1) if spans else 1
    repeated: npt.NDArray[np.bool_] = np.zeros(len(offset), np.bool_)
    repeated[order] = before >= most
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
