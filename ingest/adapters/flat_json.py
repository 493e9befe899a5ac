"""Many flat JSON objects to columns at once, strictly, and which messages that cannot be said of.

No parser reads the messages one by one: the quotation marks of a run of messages give its texts, what
lies between them must follow the grammar (`json_structure`), and the texts themselves are copied
into their columns in bulk. `attributes`, an object on the wire, is cut out whole and read apart.

A message is vouched for only when its bytes are one object of known names, none of them twice, each
with a value of its field's wire type. All others are left to the row path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ingest.adapters.flat_block import block, columns_of
from ingest.adapters.json_tokens import Bytes, Mask, Positions

BLOCK_BYTES: Final = 2_097_152
"""What is read at once: its positions should stay in the processor's cache. A longer message is a block."""


@dataclass(slots=True)
class Columns:
    """Rows of `table` (wire types; times still text, no `attributes`) are those of `positions`.

    `attributes` (text, null where absent) is the object that a message had there, as it was written;
    None where no message had one. No text that was written with a backslash holds a secret; whether
    the others do is not looked at.
    """

    table: pa.Table
    positions: Positions
    attributes: pa.StringArray | None


def read_flat(values: pa.LargeBinaryArray, message_bytes: int) -> Columns | None:
    """The messages of `values` that are vouched for, or None where there are none.

    None of them is longer than `message_bytes`.
    """
    positions = np.flatnonzero(_candidates(values, message_bytes))
    if not len(positions):
        return None
    run = values if len(positions) == len(values) else values.take(pa.array(positions))
    starts, data = _bounds(run)
    tables, taken = [], []
    for first, last in _cuts(starts):
        some = block(data[starts[first] : starts[last]], starts[first : last + 1] - starts[first])
        if some is not None:
            tables.append(columns_of(some))
            taken.append(positions[first + some.rows[some.good]])
    if not tables:
        return None
    table = pa.concat_tables(tables, promote_options="default").combine_chunks()
    attributes = None
    if "attributes" in table.column_names:
        attributes = table["attributes"].chunk(0)
        table = table.drop_columns("attributes")
    return Columns(table, np.concatenate(taken), attributes)


def _bounds(values: pa.LargeBinaryArray) -> tuple[Positions, Bytes]:
    """Offsets (one more than messages) into the bytes of all messages."""
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    return starts, np.frombuffer(data or b"", np.uint8)


def _candidates(values: pa.LargeBinaryArray, message_bytes: int) -> Mask:
    """Messages of valid UTF-8 and an allowed length that begin and end with a brace."""
    if not len(values):
        return np.zeros(0, np.bool_)
    starts, data = _bounds(values)
    length = np.diff(starts)
    taken: Mask = (length >= 2) & (length <= message_bytes)
    where = np.flatnonzero(taken)
    taken[where] = (data[starts[where]] == ord("{")) & (data[starts[where + 1] - 1] == ord("}"))
    try:
        values.cast(pa.large_string())
    except pa.ArrowInvalid:
        for position in np.flatnonzero(taken).tolist():
            try:
                values[position].as_py().decode()
            except UnicodeDecodeError:
                taken[position] = False
    return taken


def _cuts(starts: Positions) -> Iterator[tuple[int, int]]:
    """Ranges of messages of about `BLOCK_BYTES`."""
    first, count = 0, len(starts) - 1
    while first < count:
        last = int(np.searchsorted(starts, starts[first] + BLOCK_BYTES, side="right")) - 1
        last = min(max(last, first + 1), count)
        yield first, last
        first = last
