"""The log's state machine for a log that may be damaged: it can go on after an entry that must not be."""

from __future__ import annotations

from typing import Final

from ledger.errors import LedgerError
from ledger.format.manifest import Entry
from ledger.format.state import LogState

# What a state machine fed a hostile entry may raise beside the errors of this package: dates and
# durations out of range, nesting that a parser refuses, references to what no entry named.
REFUSALS: Final = (LedgerError, ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


class LenientState(LogState):
    """Strict until it meets what it cannot judge; `lenient`, it takes in whatever makes sense."""

    lenient = False

    def judge(self, entry: Entry) -> None:
        """As the log's rules say; when lenient, everything may pass."""
        try:
            super().judge(entry)
        except REFUSALS:
            if not self.lenient:
                raise

    def skip(self) -> None:
        """Count an entry of which nothing is known: from here on any offset may come next."""
        self.size += 1
        self.times.append(self.times[-1] if self.times else "")
        self.steady.append(self.steady[-1] if self.steady else 0.0)
        self.reached.append(self.reached[-1] if self.reached else 0.0)
        self.positions.clear()
        self.lenient = True

    def take_leniently(self, entry: Entry) -> None:
        """Take in an entry that must not be, as far as it makes sense."""
        before, strict = self.size, not self.lenient
        self.lenient = True
        try:
            self.apply(entry)
        except REFUSALS:
            strict = False
        if self.size == before:
            self.size += 1
            self.times.append(entry.time)
            self.steady.append(self.steady[-1] if self.steady else 0.0)
            self.reached.append(self.reached[-1] if self.reached else 0.0)
        self.lenient = not strict
