"""Events of one (source, event_id) that were sealed twice although the first was not yet to be forgotten.

No damage: every row is as it was sealed. But a writer should have seen the second one as a duplicate, or have
marked it as a conflict; where it did not, counts are too high, and somebody should know.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.format.state import LiveFile, LogState
from ledger.sealing.seen_events import HORIZON_DAYS
from ledger.verify.facts import FileFacts, Int64s
from ledger.verify.findings import Finding, listed

MAX_LISTED: Final = 1_000
"""Repeated events that are named one by one; a last finding counts the rest."""


class RepeatsCheck:
    """Takes in the rows of files; 16 bytes an event until all were seen."""

    def __init__(self, state: LogState) -> None:
        self._state = state
        self._files: list[LiveFile] = []
        self._rows: list[Int64s] = []
        self._hashes: list[npt.NDArray[np.uint64]] = []

    def take(self, file: LiveFile, facts: FileFacts) -> None:
        """One file's rows, as a worker found them."""
        for rows, hashes in facts.unmarked:
            self._files.append(file)
            self._rows.append(rows)
            self._hashes.append(hashes)
        facts.unmarked.clear()

    def findings(self) -> list[Finding]:
        """What was sealed twice, the later row of each pair in log order."""
        if not self._hashes:
            return []
        hashes = np.concatenate(self._hashes)
        edges = np.cumsum([0, *map(len, self._hashes)])
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        found: dict[tuple[int, str, int], Finding] = {}
        for at in same.tolist():
            pair = sorted(self._place(edges, int(order[at + step])) for step in (0, 1))
            (first, path, row), (second, later_path, later_row) = pair
            clocks = (self._state.steady, self._state.reached)
            if min(clock[second] - clock[first] for clock in clocks) <= HORIZON_DAYS * 86_400:
                message = (
                    f"The same (source, event_id) is in row {row} of {path}, sealed by entry {first} within "
                    f"the horizon of {HORIZON_DAYS} days, and this one is not marked as a conflict."
                )
                found[second, later_path, later_row] = listed("repeated", later_path, message, row=later_row)
        named = [found[place] for place in sorted(found)[:MAX_LISTED]]
        if len(found) > MAX_LISTED:
            rest = len(found) - MAX_LISTED
            named.append(listed("repeated", "events", f"{rest:,} more events were sealed twice like that."))
        return named

    def _place(self, edges: npt.NDArray[np.int64], position: int) -> tuple[int, str, int]:
        """(entry that sealed it, file, row) of one of the hashes."""
        block = int(np.searchsorted(edges, position, side="right")) - 1
        file = self._files[block]
        row = int(self._rows[block][position - edges[block]])
        segment, _ = file.origin(row)
        return self._state.originals[segment].entry, file.path, row
