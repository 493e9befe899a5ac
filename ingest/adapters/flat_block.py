"""Some flat JSON messages, read together: which field each key names, and the columns of their values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from ingest import masking
from ingest.adapters import json_gaps as gaps
from ingest.adapters.field_names import FieldNames
from ingest.adapters.json_structure import Structure, ranges, structure
from ingest.adapters.json_tokens import Bytes, Mask, Positions, Tokens, padded, slices, tokens
from ingest.rows import SENDER_FIELDS

_FIELDS: Final = tuple(f.name for f in SENDER_FIELDS)
_NAMES: Final = FieldNames(_FIELDS)
_WIRE: Final = tuple("object" if f.name == "attributes" else f.type for f in SENDER_FIELDS)
_VALUES: Final = {
    "text": (gaps.TEXT,), "time": (gaps.TEXT,), "int": (gaps.NUMBER,), "bool": (gaps.TRUE, gaps.FALSE),
    "list": (gaps.LIST, gaps.EMPTY_LIST), "object": (gaps.CUT_OBJECT, gaps.EMPTY_OBJECT),
}  # fmt: skip
_ALLOWED: Final = np.zeros((len(_FIELDS) + 1, gaps.KINDS), np.bool_)
for _position, _type in enumerate(_WIRE):
    _ALLOWED[_position, [*_VALUES[_type], gaps.NULL]] = True


@dataclass(slots=True)
class Block:
    """Messages that are read together: `rows` are their positions, `good` those that are vouched for.

    `key` are the texts that are keys; `kind` is what each has for its value, `name` its field (`_FIELDS`),
    `row` its message. `cell[field, row]` is 1 + the key's text, or -1 where the message has no value there.
    """

    tokens: Tokens
    structure: Structure
    rows: Positions
    good: Mask
    key: Positions
    kind: gaps.Codes
    name: Positions
    row: Positions
    cell: npt.NDArray[np.int32]

    def fill(
        self, cells: npt.NDArray[Any], fields: list[int], keys: Positions, values: npt.NDArray[Any]
    ) -> None:
        """Puts the `values` of `keys`, which are given as texts, into `cells[field, row]`.

        Keys of other fields go nowhere: their messages are not good.
        """
        slot = np.full(len(_FIELDS) + 1, -1)
        slot[fields] = np.arange(len(fields))
        at = np.searchsorted(self.key, keys)
        field = slot[self.name[at]]
        cells[field[field >= 0], self.row[at[field >= 0]]] = values[field >= 0]


def block(data: Bytes, bounds: Positions) -> Block | None:
    """Reads the messages `data[bounds[m]:bounds[m + 1]]`, which begin and end with a brace.

    None where none of them can be vouched for.
    """
    rows = np.arange(len(bounds) - 1)
    found, good = tokens(padded(data), bounds)
    while not len(found.first):
        if not good.any():
            return None
        length = np.diff(bounds)
        data, rows = data[np.repeat(good, length)], rows[good]
        bounds = np.concatenate([[0], np.cumsum(length[good])])
        found, good = tokens(padded(data), bounds)
    if not good.any():
        return None
    shape = structure(found, good)
    key = np.flatnonzero(shape.begins == gaps.KEY)
    count = np.diff(np.searchsorted(key, found.first))
    row = np.repeat(np.arange(len(rows)), count)
    name = _NAMES.find(found.data, found.begin[key], found.end[key])
    kind = gaps.kinds(shape.code[key])
    allowed = _ALLOWED.ravel()[name * gaps.KINDS + kind]
    if not allowed.all():
        good[row[~allowed]] = False
    flat = name * len(rows) + row
    cell = np.full((len(_FIELDS) + 1) * len(rows), -1, np.int32)
    cell[flat] = key + 1
    # Fewer fields than keys: a name stood there twice.
    good &= (cell >= 0).view(np.uint8).reshape(-1, len(rows)).sum(axis=0, dtype=np.uint8) == count
    cell[flat[kind == gaps.NULL]] = -1
    made = Block(found, shape, rows, good, key, kind, name, row, cell.reshape(-1, len(rows)))
    return made if good.any() else None


def columns_of(made: Block) -> pa.Table:
    """The good rows in wire types, `attributes` as it was written; fields that no message names are left out.

    Strikes rows from `made.good` whose texts cannot be read.
    """
    texts, place = _texts(made)
    used = np.bincount(made.name, minlength=len(_FIELDS) + 1)[:-1] > 0
    by_type: dict[str, list[int]] = {}
    for position in np.flatnonzero(used).tolist():
        by_type.setdefault("text" if _WIRE[position] == "time" else _WIRE[position], []).append(position)
    columns: dict[str, pa.Array] = {}
    for wire, read in (("text", _text_columns), ("list", _list_columns)):
        if wire in by_type:
            columns.update(read(made, by_type[wire], texts, place))
    if "int" in by_type:
        columns.update(
            _number_columns(made, by_type["int"], made.structure.integer_key, made.structure.integer)
        )
    if "bool" in by_type:
        true = made.kind == gaps.TRUE
        said = np.flatnonzero(true | (made.kind == gaps.FALSE))
        columns.update(_number_columns(made, by_type["bool"], made.key[said], true[said]))
    if "object" in by_type:
        columns["attributes"] = _objects(made)
    return pa.table(columns)


def _texts(made: Block) -> tuple[pa.StringArray, Positions | None]:
    """All texts, element 2t being text t; and at which t each stands, where some were unescaped."""
    found = made.tokens
    begin, end, escaped = found.begin, found.end, found.escaped
    state = made.structure.begins[escaped]
    made.good[found.message_of(escaped[state == gaps.KEY])] = False
    escaped = escaped[(state == gaps.VALUE) | (state == gaps.ITEM)]
    if not len(escaped):
        return slices(found.data, begin, end, pa.string()), None
    opened: list[bytes] = []
    unfit: list[int] = []
    for text, first, last in zip(
        escaped.tolist(), (begin[escaped] - 1).tolist(), (end[escaped] + 1).tolist(), strict=True
    ):
        clean = _unescaped(found.data[first:last].tobytes())
        if clean is None:
            unfit.append(text)
        opened.append(clean or b"")
    made.good[found.message_of(np.array(unfit, np.int64))] = False
    bounds = len(found.data) + np.cumsum([0, *(len(text) for text in opened)])
    data = np.concatenate([found.data, np.frombuffer(b"".join(opened), np.uint8)])
    place = np.arange(len(begin))
    place[escaped] = len(begin) + np.arange(len(opened))
    begin, end = np.concatenate([begin, bounds[:-1]]), np.concatenate([end, bounds[1:]])
    return slices(data, begin, end, pa.string()), place


def _unescaped(written: bytes) -> bytes | None:
    """What a text in its marks says; None where it says nothing that may be sealed as it stands."""
    try:
        text = orjson.loads(written)
    except orjson.JSONDecodeError:
        return None
    if "\0" in text or masking.mask_text(text) != text:
        return None
    clean: bytes = text.encode()
    return clean


def _taken(
    texts: pa.StringArray, which: npt.NDArray[np.signedinteger[Any]], place: Positions | None
) -> pa.StringArray:
    """The texts `which`, null where -1."""
    absent = which < 0
    if place is not None:
        which = place[which]
    return texts.take(pa.array(which * 2, mask=absent if absent.any() else None))


def _text_columns(
    made: Block, fields: list[int], texts: pa.StringArray, place: Positions | None
) -> dict[str, pa.Array]:
    cells = made.cell[fields]
    if not made.good.all():
        cells = cells[:, made.good]
    rows = cells.shape[1]
    every = _taken(texts, cells.ravel(), place)
    return {_FIELDS[field]: every.slice(at * rows, rows) for at, field in enumerate(fields)}


def _list_columns(
    made: Block, fields: list[int], texts: pa.StringArray, place: Positions | None
) -> dict[str, pa.Array]:
    shape = made.structure
    count = np.zeros((len(fields), len(made.rows)), np.int64)
    made.fill(count, fields, shape.list_key, shape.list_last - shape.list_key)
    begin, count = made.cell[fields][:, made.good], count[:, made.good]
    every = _taken(texts, ranges(begin.ravel(), count.ravel()), place)
    columns, before = {}, 0
    for at, position in enumerate(fields):
        offsets = np.concatenate([[0], np.cumsum(count[at])])
        items = every.slice(before, offsets[-1])
        columns[_FIELDS[position]] = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), items, mask=pa.array(begin[at] < 0)
        )
        before += int(offsets[-1])
    return columns


def _number_columns(
    made: Block, fields: list[int], keys: Positions, values: npt.NDArray[np.int64] | Mask
) -> dict[str, pa.Array]:
    every = np.zeros((len(fields), len(made.rows)), values.dtype)
    made.fill(every, fields, keys, values)
    return {
        _FIELDS[field]: pa.array(every[at][made.good], mask=made.cell[field][made.good] < 0)
        for at, field in enumerate(fields)
    }


def _objects(made: Block) -> pa.StringArray:
    found, shape = made.tokens, made.structure
    which = np.full(len(made.rows), -1, np.int64)
    which[made.row[np.searchsorted(made.key, shape.object_key)]] = np.arange(len(shape.object_key))
    which[made.row[made.kind == gaps.EMPTY_OBJECT]] = len(shape.object_key)
    # The padding begins with the empty object.
    begin = np.append(shape.object_begin, found.size)
    end = np.append(shape.object_end, found.size + 2)
    return _taken(slices(found.data, begin, end, pa.string()), which[made.good], None)
