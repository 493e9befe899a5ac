"""Small files merged into larger ones, in entries of their own.

Merging changes no root: every original segment's rows stay together, in order, and the `compact`
entry says where they lie. Before rows are copied their Merkle root is checked against the log, so
that damage is never carried on under a new file hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from ledger.defaults import GRACE_SECONDS
from ledger.errors import DamageError
from ledger.format.canonical import leaf_hashes
from ledger.format.manifest import Compact, CompactedFile, HeldRows, InvalidEntry, event_path
from ledger.format.merkle import root
from ledger.format.state import LiveFile, LogState
from ledger.sealing.sealed_files import create_file, new_name
from ledger.sealing.segment import Segment, read_events, write_events
from ledger.storage.store import sealed_data
from ledger.upkeep.merge_plan import FAN_IN, TARGET_BYTES, TARGET_ROWS, Merge, plan
from ledger.writer import Writer

MAX_MERGES: Final = 1_000
"""Merges in one go; what is left is merged the next time."""


class Compaction:
    """Merges for one writer; remembers what it learned about files, so as not to read them in vain."""

    def __init__(self, writer: Writer, *, grace: int = GRACE_SECONDS, target_rows: int = TARGET_ROWS) -> None:
        self.damaged: dict[str, DamageError] = {}
        """Files that could not be merged, by path. The others are merged without them."""
        self._writer = writer
        self._grace = grace
        self._target_rows = target_rows
        self._widths: dict[str, int] = {}

    def run(self, *, fan_in: int = FAN_IN, most: int = MAX_MERGES) -> list[Compact]:
        """Merge until nothing is due, at most `most` times; one entry per merge.

        A merge that another writer outran is skipped. May run beside the thread that commits.
        """
        entries: list[Compact] = []
        while len(entries) < most:
            self._writer.refresh()
            made = [
                entry for merge in self._due(fan_in)[: most - len(entries)] if (entry := self._merge(merge))
            ]
            if not made:
                break
            entries += made
        return entries

    def _due(self, fan_in: int) -> list[Merge]:
        live = self._writer.live_files()
        paths = {file.path for file in live}
        self._widths = {path: width for path, width in self._widths.items() if path in paths}
        sound = [file for file in live if file.path not in self.damaged]
        return plan(sound, fan_in=fan_in, target_rows=self._target_rows, widths=self._widths)

    def _merge(self, merge: Merge) -> Compact | None:
        tables: list[pa.Table] = []
        holds: list[HeldRows] = []
        taken: list[str] = []
        width = 0
        for file in merge.files:
            try:
                table = self._sound_rows(file)
            except DamageError as error:
                self.damaged[file.path] = error
                continue
            self._widths[file.path] = table.nbytes
            width += table.nbytes
            if taken and width > TARGET_BYTES:
                break
            taken.append(file.path)
            for begin, end, hold in file.spans():
                if not self._writer.state.originals[hold.segment].expired:
                    tables.append(table.slice(begin, end - begin))
                    holds.append(hold)
        if len(taken) < 2 or not tables:
            return None
        return self._seal(merge, write_events(pa.concat_tables(tables)), holds, taken)

    def _seal(
        self, merge: Merge, segment: Segment, holds: Sequence[HeldRows], removed: list[str]
    ) -> Compact | None:
        path = event_path(merge.retention, merge.date, new_name())
        merged = CompactedFile(
            path=path, sha256=segment.sha256, bytes=len(segment.data), rows=segment.rows,
            holds=positions(holds),
        )  # fmt: skip
        values: dict[str, Any] = {"files": [merged], "removed": removed, "grace": self._grace}
        self._writer.check_size(Compact, values)
        create_file(self._writer.store, path, segment.data)
        try:
            entry = self._writer.put(Compact, values)
        except InvalidEntry:
            # Its inputs were compacted or expired meanwhile. No entry names the new file.
            self._writer.store.delete(path)
            return None
        assert isinstance(entry, Compact)
        return entry

    def _sound_rows(self, file: LiveFile) -> pa.Table:
        """The rows of `file`. Raises DamageError where an original is not what was sealed."""
        table = read_events(sealed_data(self._writer.store, file.path, file.sha256), rows=file.rows)
        check_roots(self._writer.state, file, leaf_hashes(table), "it was left out of the merge")
        return table


def check_roots(state: LogState, file: LiveFile, leaves: Sequence[bytes], what_now: str) -> None:
    """Raises DamageError where `leaves`, of the rows of `file`, lead to another root than the log names.

    An original that lies in `file` in part has no root of its own there, and is not judged.
    """
    for begin, end, hold in file.spans():
        original = state.originals[hold.segment]
        whole = hold.from_ == 0 and hold.to == original.ref.rows
        if whole and root(leaves[begin:end]).hex() != original.ref.root:
            raise DamageError(
                f"{file.path} no longer holds the rows of {hold.segment} that were sealed.",
                f"`decision-ledger verify` names all that is damaged; {what_now}.",
            )


def positions(holds: Sequence[HeldRows]) -> list[HeldRows]:
    """The same stretches as positions in the new file, as an entry states them."""
    out: list[HeldRows] = []
    edge = 0
    for hold in holds:
        end = edge + hold.to - hold.from_
        out.append(HeldRows(segment=hold.segment, from_=edge, to=end))
        edge = end
    return out
