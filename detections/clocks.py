"""The two clocks of detections, both made of what is sealed: no sender's date and no wall clock moves them.

The ledger's clock is the largest entry time so far. The settle clock lies at or behind it: nothing that was
read later than it can still be missing of what sources had sent by then. It is the oldest `complete` of the
keys read in the last hour (docs/ledger-format.md), and never goes back. A key that has not been seen to its
end for an hour holds it up no longer and is reported as stalled. A file that was read to its end holds up
nothing: its rows are on time whenever they come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from ledger.format.manifest import FILE_PREFIX, Append, Entry, OffsetKey, Tick, parse_instant
from ledger.format.state import ENGINE_TOPIC

STALLED_AFTER: Final = timedelta(hours=1)
BEGINNING: Final = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Key:
    read_at: datetime
    complete: datetime
    at_end: bool = False
    seen_end: bool = False


@dataclass(slots=True)
class Clocks:
    """Fed every entry in order; `ledger` and `settle` are what they say now."""

    ledger: datetime = BEGINNING
    settle: datetime = BEGINNING
    _keys: dict[tuple[str, str, int], tuple[OffsetKey, _Key]] = field(default_factory=dict)

    def take(self, entry: Entry) -> None:
        """Let an entry move the clocks."""
        when = parse_instant(entry.time)
        self.ledger = max(self.ledger, when)
        if isinstance(entry, Append):
            for row in entry.offsets:
                if row.topic != ENGINE_TOPIC:
                    self._read(row.key, when, row.complete)
        elif isinstance(entry, Tick):
            for said in entry.complete:
                self._read(said.key, when, said.complete)
        self._settle()

    def stalled(self) -> list[OffsetKey]:
        """Keys that were read, but not to their end, for so long that nothing waits for them."""
        return [key for key, one in self._keys.values() if self._is_stalled(one)]

    def unfinished(self) -> list[OffsetKey]:
        """Keys that are being read for the first time and have not been seen to their end yet."""
        return [key for key, one in self._keys.values() if not one.seen_end and not self._is_stalled(one)]

    def _read(self, key: OffsetKey, when: datetime, complete: str | None) -> None:
        known = self._keys.get(key.identity)
        # What was never seen to its end counts from where it was first read.
        one = known[1] if known is not None else _Key(when, when)
        one.read_at = max(one.read_at, when)
        one.at_end = complete is not None
        one.seen_end = one.seen_end or one.at_end
        if complete is not None:
            one.complete = max(one.complete, parse_instant(complete))
        self._keys[key.identity] = (key, one)

    def _settle(self) -> None:
        recent = [
            one.complete
            for key, one in self._keys.values()
            if one.read_at >= self.ledger - STALLED_AFTER
            and not self._is_stalled(one)
            and not (one.at_end and key.topic.startswith(FILE_PREFIX))
        ]
        self.settle = max(self.settle, min([self.ledger, *recent]))

    def _is_stalled(self, one: _Key) -> bool:
        return not one.at_end and one.complete < self.ledger - STALLED_AFTER <= one.read_at
