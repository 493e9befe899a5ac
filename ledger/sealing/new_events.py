"""Which events of a batch are new: duplicates dropped, conflicts marked.

Key: (source, event_id). Content: the canonical event without its coordinates, `raw`, `nonce` and
`conflict`. Same key and the content of any event under it: a duplicate. Other content: kept, with
`conflict` set (docs/ledger-format.md, "De-duplication").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ledger.format.canonical import content_column
from ledger.sealing.batch import ACCEPTED, DUPLICATE, SetAside, Stretch
from ledger.sealing.seen_events import KEY_COLUMNS, KeyHashes, SeenEvents

SEEN_BEFORE = "seen before"

SealedContent = Callable[[int, Sequence[int]], list[bytes]]
"""Contents of rows of a sealed segment, by segment number and rows."""


@dataclass(slots=True)
class Fresh:
    """The verdict on a batch's event rows (all stretches' rows, one after the other)."""

    keys: KeyHashes
    duplicate: npt.NDArray[np.bool_]
    conflict: npt.NDArray[np.bool_]

    def same_as(self, other: Fresh) -> bool:
        """True where both would seal the same rows with the same marks."""
        return bool((self.duplicate == other.duplicate).all() and (self.conflict == other.conflict).all())


def find_fresh(stretches: Sequence[Stretch], seen: SeenEvents, sealed_content: SealedContent) -> Fresh:
    """Judge every event row of a batch against what is sealed and against the rows before it."""
    tables = [stretch.events for stretch in stretches]
    keys = seen.hashes(pa.concat_tables([table.select(list(KEY_COLUMNS)) for table in tables]))
    rows = len(keys.high)
    fresh = Fresh(keys, np.zeros(rows, np.bool_), np.zeros(rows, np.bool_))
    sealed: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, segment, row in seen.find(keys):
        sealed[position].append((segment, row))
    groups = _repeated(keys)
    suspects = sorted({*sealed, *(row for group in groups for row in group)})
    if not suspects:
        return fresh
    contents = _contents(tables, suspects)
    known: dict[tuple[int, int], set[bytes]] = defaultdict(set)
    for position, content in _contents_of_places(sealed, sealed_content):
        known[int(keys.high[position]), int(keys.low[position])].add(content)
    for position in suspects:
        held = known[int(keys.high[position]), int(keys.low[position])]
        if contents[position] in held:
            fresh.duplicate[position] = True
        else:
            fresh.conflict[position] = bool(held)
            held.add(contents[position])
    return fresh


def keep_fresh(stretches: Sequence[Stretch], fresh: Fresh) -> list[Stretch]:
    """The stretches without their duplicates; a message none of whose events is new becomes a duplicate."""
    if not fresh.duplicate.any() and not fresh.conflict.any():
        return list(stretches)
    kept, edge = [], 0
    for stretch in stretches:
        span = slice(edge, edge + len(stretch.events))
        kept.append(_without_duplicates(stretch, fresh.duplicate[span], fresh.conflict[span]))
        edge = span.stop
    return kept


def _without_duplicates(
    stretch: Stretch, duplicate: npt.NDArray[np.bool_], conflict: npt.NDArray[np.bool_]
) -> Stretch:
    events, message, leaves = stretch.events, stretch.message, stretch.leaves
    if conflict.any():
        leaves = None  # the mark is part of what is hashed
        at = events.schema.get_field_index("conflict")
        marks = pa.array(conflict, mask=~conflict)
        events = events.set_column(at, events.schema.field(at), marks)
    keep = ~duplicate
    message = message[keep]
    status = stretch.status.copy()
    still = np.zeros(len(status), np.bool_)
    still[message] = True
    emptied = np.flatnonzero((status == ACCEPTED) & ~still)
    status[emptied] = DUPLICATE
    aside = {**stretch.aside, **{int(at): SetAside(SEEN_BEFORE) for at in emptied}}
    kept = pa.array(keep)
    return replace(
        stretch, events=events.filter(kept), message=message, status=status, aside=aside,
        leaves=None if leaves is None else leaves.filter(kept),
    )  # fmt: skip


def _repeated(keys: KeyHashes) -> list[list[int]]:
    """Rows that share their key with another row of the batch, by key, in row order."""
    order = np.lexsort((keys.low, keys.high))
    high, low = keys.high[order], keys.low[order]
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    if not same.any():
        return []
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    touched = np.zeros(len(order), np.bool_)
    touched[1:] |= same
    touched[:-1] |= same
    for at in np.flatnonzero(touched).tolist():
        groups[int(high[at]), int(low[at])].append(int(order[at]))
    return list(groups.values())


def _contents(tables: Sequence[pa.Table], rows: Sequence[int]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    edge = 0
    for table in tables:
        inside = [row for row in rows if edge <= row < edge + len(table)]
        if inside:
            picked = table.take(pa.array([row - edge for row in inside], pa.int64()))
            found.update(zip(inside, map(bytes, content_column(picked)), strict=True))
        edge += len(table)
    return found


def _contents_of_places(
    sealed: dict[int, list[tuple[int, int]]], sealed_content: SealedContent
) -> list[tuple[int, bytes]]:
    by_segment: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for position, places in sealed.items():
        for segment, row in places:
            by_segment[segment].append((row, position))
    found = []
    for segment, pairs in by_segment.items():
        contents = sealed_content(segment, [row for row, _ in pairs])
        found += [(position, content) for (_, position), content in zip(pairs, contents, strict=True)]
    return found
