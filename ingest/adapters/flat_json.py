r"""Many flat JSON objects to columns at once, strictly, and which messages it cannot vouch for.

pyarrow's reader takes objects one per line against an explicit schema and refuses other types,
unknown fields, duplicate keys and numbers that are no integers. What it would let pass is kept
away from it: control characters between objects, `\\u` escapes and possible secrets (see
`masking.TRIGGER`), invalid UTF-8. `attributes`, an object on the wire, is cut out of the text and
read apart.

A message is vouched for only when it starts with `{`, ends with `}`, and the run gave one row per
message. The schema knows no nested objects, so each closing brace outside a text ends an object:
every message then holds at least one whole object, and as many rows as messages means one each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingest import masking
from ingest.rows import SENDER_FIELDS
from ledger.events import FIELDS

BLOCK_BYTES: Final = 524_288
"""What pyarrow parses at once; a block must hold the longest message."""
PIECES: Final = 16
"""Into how many parts a run is cut when one of its messages cannot be parsed."""
SMALLEST_PIECE: Final = 64
"""Messages; a smaller run with a bad message in it is not vouched for as a whole."""
SAMPLE_MESSAGES: Final = 32
"""How many messages are looked at for the fields that a run uses: absent columns cost time."""
_KEY: Final = b'"attributes"'
_WIRE_TYPES: Final = {
    "text": pa.string(), "list": pa.list_(pa.string()), "int": pa.int64(), "bool": pa.bool_(),
    "time": pa.string(),
}  # fmt: skip
_ALL: Final = {
    f.name: pa.field(f.name, pa.string() if f.name == "attributes" else _WIRE_TYPES[f.type])
    for f in SENDER_FIELDS
}
_PYTHON_TYPES: Final = {
    f.name: {"list": list, "int": int, "bool": bool}.get(f.type, str) for f in SENDER_FIELDS
}
_SUSPECT: Final = masking.TRIGGER + r"|[\n\r]"
NAMES: Final = tuple(f.name for f in FIELDS)

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


@dataclass(slots=True)
class Columns:
    """Rows of `table` (wire types; times still text) are those of `positions`.

    `attributes` holds, by row of the table, the text of the object that a message had there.
    """

    table: pa.Table
    positions: Positions
    attributes: dict[int, bytes]


class FlatReader:
    """Remembers which fields the last runs used, so that rare ones cost nothing in the others."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def read(self, values: pa.LargeBinaryArray, message_bytes: int) -> Columns | None:
        """The messages of `values` that are vouched for, or None where there are none."""
        taken = _candidates(values, message_bytes)
        texts = _as_text(values, taken)
        if texts is None:
            return None
        taken &= ~pl.Series(texts).str.contains(_SUSPECT).fill_null(value=True).to_numpy()
        positions = np.flatnonzero(taken)
        if not len(positions):
            return None
        run = values if len(positions) == len(values) else values.take(pa.array(positions))
        lines = _Lines(run)
        self._look(run)
        schema = self._schema()
        whole = _parse(lines, 0, len(positions), schema)
        if isinstance(whole, str) and "unexpected field" in whole:
            schema = pa.schema(list(_ALL.values()))
            whole = _parse(lines, 0, len(positions), schema)
            if isinstance(whole, pa.Table):
                self._used |= {n for n in schema.names if whole[n].null_count < len(whole)}
        if isinstance(whole, pa.Table):
            return Columns(whole, positions, lines.attributes)
        return _pieces(lines, positions, schema)

    def _look(self, run: pa.LargeBinaryArray) -> None:
        step = max(1, len(run) // SAMPLE_MESSAGES)
        for message in run[::step].to_pylist():
            try:
                found = orjson.loads(message)
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                self._used |= found.keys() & _ALL.keys()

    def _schema(self) -> pa.Schema:
        return pa.schema([field for name, field in _ALL.items() if name in self._used])


def _bounds(values: pa.LargeBinaryArray) -> tuple[Positions, npt.NDArray[np.uint8]]:
    """Offsets (one more than messages) into the bytes of all messages."""
    _, offsets, data = values.buffers()
    starts = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    return starts, np.frombuffer(data or b"", np.uint8)


def _candidates(values: pa.LargeBinaryArray, message_bytes: int) -> Mask:
    starts, data = _bounds(values)
    length = np.diff(starts)
    taken: Mask = (length >= 2) & (length <= message_bytes)
    where = np.flatnonzero(taken)
    taken[where] = (data[starts[where]] == ord("{")) & (data[starts[where + 1] - 1] == ord("}"))
    return taken


def _as_text(values: pa.LargeBinaryArray, taken: Mask) -> pa.Array | None:
    """The messages as text; those that are not UTF-8 are null and no longer taken."""
    if not taken.any():
        return None
    try:
        return values.cast(pa.large_string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for position, message in enumerate(values.to_pylist()):
            try:
                texts.append(message.decode())
            except UnicodeDecodeError:
                taken[position] = False
                texts.append(None)
        return pa.array(texts, pa.large_string())


class _Lines:
    """Messages one per line in one buffer, their attributes blanked out and kept apart."""

    def __init__(self, run: pa.LargeBinaryArray) -> None:
        newline = pa.scalar(b"\n", pa.large_binary())
        joined = pc.binary_join_element_wise(run, pa.scalar(b"", pa.large_binary()), newline)
        starts, data = _bounds(joined)
        # A copy: what is cut out is overwritten in place.
        self.starts = starts - starts[0]
        self.data = bytearray(data[starts[0] : starts[-1]])
        self.longest = int(np.diff(starts).max())
        self.attributes: dict[int, bytes] = {}
        self._cut()

    def _cut(self) -> None:
        data = self.data
        hits: list[int] = []
        at = data.find(_KEY)
        while at >= 0:
            hits.append(at)
            at = data.find(_KEY, at + len(_KEY))
        if not hits:
            return
        rows = np.searchsorted(self.starts, np.array(hits), side="right") - 1
        for row, at in zip(rows.tolist(), hits, strict=True):
            begin = _value_begin(data, at + len(_KEY))
            end = _value_end(data, begin, int(self.starts[row + 1]) - 1)
            # Left as it is, the object is of another type than the schema's text: refused.
            if end is not None and row not in self.attributes:
                self.attributes[row] = bytes(data[begin:end])
                data[begin:end] = b'""' + b" " * (end - begin - 2)


def _value_begin(data: bytearray, at: int) -> int:
    while data[at] in b" \t:":
        at += 1
    return at


def _value_end(data: bytearray, begin: int, stop: int) -> int | None:
    """Behind the brace that balances the one at `begin`: the end of the object unless texts hold braces.

    The cut is parsed apart, so a wrong one shows.
    """
    if data[begin] != ord("{"):
        return None
    end = data.find(b"}", begin, stop) + 1
    opened, counted = data.count(b"{", begin, end), 1
    while end and opened > counted:
        further = data.find(b"}", end, stop) + 1
        opened += data.count(b"{", end, further)
        end, counted = further, counted + 1
    return end or None


def _parse(lines: _Lines, first: int, last: int, schema: pa.Schema) -> pa.Table | str:
    """Rows of the messages [first, last), or why there are none."""
    start, end = int(lines.starts[first]), int(lines.starts[last])
    block = max(min(BLOCK_BYTES, end - start), lines.longest + 1)
    try:
        table = pj.read_json(
            pa.BufferReader(memoryview(lines.data)[start:end]),
            # One thread: two cost a quarter more CPU, and the pipeline has the other core.
            read_options=pj.ReadOptions(use_threads=False, block_size=block),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        return str(error)
    return table if len(table) == last - first else "rows and messages differ in number"


def _pieces(lines: _Lines, positions: Positions, schema: pa.Schema) -> Columns | None:
    """The runs without a bad message: one bad among many costs little more than a second pass."""
    good: list[tuple[int, int, pa.Table]] = []
    waiting = [(0, len(positions))]
    while waiting:
        first, last = waiting.pop()
        step = -(-(last - first) // PIECES)
        for begin in range(first, last, step):
            end = min(begin + step, last)
            table = _parse(lines, begin, end, schema)
            if isinstance(table, str):
                _screen(lines, begin, end)
                table = _parse(lines, begin, end, schema)
            if isinstance(table, pa.Table):
                good.append((begin, end, table))
            elif end - begin > SMALLEST_PIECE:
                waiting.append((begin, end))
    if not good:
        return None
    good.sort(key=lambda piece: piece[0])
    rows = np.concatenate([np.arange(first, last) for first, last, _ in good])
    attributes = {
        row: lines.attributes[kept] for row, kept in enumerate(rows.tolist()) if kept in lines.attributes
    }
    table = pa.concat_tables([piece for _, _, piece in good])
    return Columns(table, positions[rows], attributes)


def _screen(lines: _Lines, first: int, last: int) -> None:
    """Empties the messages that another reader finds unfit.

    An empty event has no id, so nobody vouches for it. What that reader lets pass (duplicate keys)
    is found by cutting.
    """
    for row in range(first, last):
        begin, end = int(lines.starts[row]), int(lines.starts[row + 1]) - 1
        if not _fits(bytes(lines.data[begin:end])):
            lines.data[begin:end] = b"{}" + b" " * (end - begin - 2)


def _fits(line: bytes) -> bool:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and all(
        child is None or type(child) is _PYTHON_TYPES.get(name) for name, child in value.items()
    )
