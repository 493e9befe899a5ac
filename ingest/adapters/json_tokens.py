"""Where the texts of many JSON messages begin and end, by their quotation marks alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

PAD: Final = b"{}" + b"\0" * 30
"""Stands behind the last message, so that reading words of 8 bytes never leaves the buffer."""
MAX_BACKSLASHES: Final = 64
"""Backslashes in a row before a quotation mark; more are left to the row path."""
_QUOTE, _BACKSLASH, _SPACE, _FIRST_PRINTABLE = 34, 92, 32, 32


@dataclass(slots=True)
class Tokens:
    """The texts of a run of messages, in order.

    `data` is every message without a gap, then `PAD`; `size` is without it. Text t is
    `data[begin[t]:end[t]]`, without its marks; behind it, up to the next text of its message or the
    message's end, is its gap, `data[end[t] + 1 : stop[t]]`. Message m has the texts
    [first[m], first[m + 1]). `escaped` are the texts that hold a backslash, ascending.
    """

    data: Bytes
    size: int
    begin: Positions
    end: Positions
    stop: Positions
    first: Positions
    escaped: Positions

    def message_of(self, texts: Positions) -> Positions:
        """The messages that `texts` belong to."""
        return np.searchsorted(self.first, texts, side="right") - 1


def slices(data: Bytes, begin: Positions, end: Positions, type_: pa.DataType) -> pa.Array:
    """An array whose element 2k is `data[begin[k]:end[k]]`; the others are what lies between.

    The slices are in order and do not overlap.
    """
    offsets = np.empty(2 * len(begin), np.int32)
    offsets[0::2], offsets[1::2] = begin, end
    count = max(len(offsets) - 1, 0)
    return pa.Array.from_buffers(type_, count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def padded(data: Bytes) -> Bytes:
    """A copy of `data` with `PAD` behind it."""
    made = np.empty(len(data) + len(PAD), np.uint8)
    made[: len(data)] = data
    made[len(data) :] = np.frombuffer(PAD, np.uint8)
    return made


def tokens(data: Bytes, starts: Positions) -> tuple[Tokens, Mask]:
    """The texts of messages, and which messages are fit to be read by them.

    `data` is padded; message m is `data[starts[m]:starts[m + 1]]` and is known to begin with `{` and
    to end with `}`. Unfit are messages with control characters, without a text, or with anything but
    spaces before the first. Where a message does not close its last text, the tokens stop making
    sense: it is told as unfit and no `begin` is given at all; ask again without it.
    """
    size = int(starts[-1])
    body = data[:size]
    fit: Mask = np.ones(len(starts) - 1, np.bool_)
    if body.min() < _FIRST_PRINTABLE:
        fit[np.searchsorted(starts, np.flatnonzero(body < _FIRST_PRINTABLE), side="right") - 1] = False
    quotes = np.flatnonzero(body == _QUOTE)
    slashes = body == _BACKSLASH
    escaping = bool(slashes.any())
    open_ended = np.zeros(len(fit), np.bool_)
    if escaping:
        runs, endless = _backslashes(data, quotes)
        open_ended[np.searchsorted(starts, quotes[endless], side="right") - 1] = True
        quotes = quotes[runs % 2 == 0]
    first = np.searchsorted(quotes, starts)
    count = np.diff(first)
    open_ended |= count % 2 == 1
    if open_ended.any():
        nothing = np.zeros(0, np.int64)
        return Tokens(data, size, nothing, nothing, nothing, first[:0], nothing), ~open_ended
    begin, end = quotes[0::2] + 1, quotes[1::2]
    first //= 2
    fit &= count > 0
    stop = np.empty(len(end), np.int64)
    stop[:-1] = quotes[2::2]
    some = np.flatnonzero(count)
    stop[first[some + 1] - 1] = starts[some + 1]
    lead = begin[first[some]] - starts[some] - 2
    far = np.flatnonzero(lead)
    if len(far):
        fit[some[far[(lead[far] != 1) | (data[starts[some[far]] + 1] != _SPACE)]]] = False
    escaped = np.zeros(0, np.int64)
    if escaping:
        inside = np.searchsorted(begin, np.flatnonzero(slashes), side="right") - 1
        escaped = np.unique(inside[inside >= 0])
        escaped = escaped[slashes_inside(slashes, begin[escaped], end[escaped])]
    return Tokens(data, size, begin, end, stop, first, escaped), fit


def slashes_inside(slashes: Mask, begin: Positions, end: Positions) -> Mask:
    """Which of the ranges hold a backslash: one behind a text belongs to its gap."""
    upto = np.concatenate([[0], np.cumsum(slashes)])
    inside: Mask = upto[end] > upto[begin]
    return inside


def _backslashes(data: Bytes, quotes: Positions) -> tuple[Positions, Positions]:
    """How many backslashes stand right before each mark, and the marks that have too many to say."""
    runs = np.zeros(len(quotes), np.int64)
    live = np.arange(len(quotes))
    for back in range(1, MAX_BACKSLASHES + 1):
        # A message begins with a brace, so this never reaches into the one before it.
        live = live[data[quotes[live] - back] == _BACKSLASH]
        if not len(live):
            break
        runs[live] = back
    return runs, live
