"""Names found in a buffer, all at once: each by at most three words of eight bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ingest.adapters.json_tokens import Bytes, Positions

WORD: Final = 8
LONGEST: Final = 3 * WORD
"""Bytes of the longest name that three words state."""
_SLOT_BITS: Final = 12
_SHIFT: Final = np.uint64(64 - _SLOT_BITS)
_ODD: Final = 0x9E3779B97F4A7C15
_TRIES: Final = 1_000

Words = npt.NDArray[np.uint64]
_MASKS: Final = [
    np.array([(1 << 8 * min(max(n - WORD * word, 0), WORD)) - 1 for n in range(LONGEST + 1)], np.uint64)
    for word in range(LONGEST // WORD)
]
"""By word of a name and its length: which bits of the word are the name's."""


class FieldNames:
    """Finds the position of a name among `names` (ASCII, at most `LONGEST` bytes)."""

    def __init__(self, names: Sequence[str]) -> None:
        texts = [name.encode("ascii") for name in names]
        if any(len(text) > LONGEST or not text for text in texts):
            raise ValueError(f"names of 1 to {LONGEST} bytes are expected")
        self.unknown = len(texts)
        # The last entry is the answer for what is no name: of length zero, so it never fits.
        texts.append(b"")
        data = np.frombuffer(b"".join(text.ljust(LONGEST, b"\0") for text in texts) + b"\0" * WORD, np.uint8)
        begin = np.arange(len(texts)) * LONGEST
        self._length = np.array([len(text) for text in texts], np.int64)
        self._first, self._second = _begins(data, begin, self._length)
        self._third = _words(data, begin + 2 * WORD, 1)[:, 0]
        self._slots, self._factor = self._place()

    def _place(self) -> tuple[Positions, np.uint64]:
        """A factor by which no two names share a slot, and the name of each slot."""
        for attempt in range(_TRIES):
            factor = np.uint64((_ODD * (2 * attempt + 1)) % 2**64)
            slot = _slots(self._first[:-1], self._second[:-1], factor)
            if len(np.unique(slot)) == self.unknown:
                table = np.full(1 << _SLOT_BITS, self.unknown, np.int64)
                table[slot] = np.arange(self.unknown)
                return table, factor
        raise ValueError("no factor keeps these names apart")

    def find(self, data: Bytes, begin: Positions, end: Positions) -> Positions:
        """Which name `data[begin[k]:end[k]]` is; `unknown` where it is none. `data` is padded."""
        length = end - begin
        first, second = _begins(data, begin, length)
        found = self._slots[_slots(first, second, self._factor)]
        same = (self._first[found] == first) & (self._second[found] == second)
        same &= self._length[found] == length
        long = np.flatnonzero(length > 2 * WORD)
        # Only names can be this long here: others were found unlike by their length.
        long = long[same[long]]
        third = _words(data, begin[long] + 2 * WORD, 1)[:, 0] & _MASKS[2][length[long]]
        same[long] = self._third[found[long]] == third
        if not same.all():
            found[~same] = self.unknown
        return found


def _words(data: Bytes, at: Positions, count: int) -> Words:
    """The `count` words from each position on."""
    size = count * WORD
    # Void, since numpy reads numbers slowly where they are not aligned.
    every = np.ndarray((len(data) - size + 1,), f"V{size}", data, 0, (1,))
    words: Words = every[at].view("<u8").reshape(-1, count)
    return words


def _begins(data: Bytes, begin: Positions, length: Positions) -> tuple[Words, Words]:
    """The first and the second eight bytes of each name, zero where it has ended."""
    words = _words(data, begin, 2)
    length = np.minimum(length, LONGEST)
    return words[:, 0] & _MASKS[0][length], words[:, 1] & _MASKS[1][length]


def _slots(first: Words, second: Words, factor: np.uint64) -> Words:
    mixed: Words = ((first ^ (second >> np.uint64(7))) * factor) >> _SHIFT
    return mixed
