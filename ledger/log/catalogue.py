"""What a log says, kept in columns, so that a long one opens without reading all of it again.

Derived from entries that were replayed and checked once, and used only where its leaf hashes, with the
entries that came since, lead to the root of the signed checkpoint. It lies in this user's cache folder and
not in the ledger: whoever holds the store could state there what no entry says. Remove it at any time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ledger.format.manifest import (
    DeadLetterRef,
    HeldRows,
    HoldPlaced,
    Init,
    OffsetKey,
    SegmentRef,
    instant,
    parse_instant,
)
from ledger.format.merkle import HASH_BYTES, Tree
from ledger.format.note import VerifierKey
from ledger.format.state import LiveFile, LogState, Original, Position, Removed
from ledger.log.lazy_rows import Columns, LazyRows
from ledger.storage.derived_files import is_own, keep

_MAGIC: Final = b"decision-ledger catalogue 2\n"
_LENGTH_BYTES: Final = 8
_ALIGNED: Final = 64
"""Bytes to whose multiples sections are filled up with spaces, so that columns are read where they lie."""


@dataclass(slots=True)
class Catalogue:
    """A log's first `size` entries: what they say, and their tree.

    `signed` where the signature of every entry was checked, and not only that of a checkpoint over them.
    """

    size: int
    signed: bool
    state: LogState
    tree: Tree


def save(path: Path, state: LogState, tree: Tree, *, signed: bool) -> None:
    """Keep a catalogue; where this user's cache cannot be written, none is kept."""
    keep(path, catalogue_bytes(state, tree, signed=signed))


def load(path: Path, *, pinned: VerifierKey | None = None, signed: bool = False) -> Catalogue | None:
    """The kept catalogue, None where none is whole, of the pinned key, and `signed` if asked."""
    if not is_own(path):
        return None
    try:
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
    except (OSError, pa.ArrowException):
        return None
    try:
        found = parse_catalogue(data)
    except (ValueError, KeyError, TypeError, pa.ArrowException):
        return None
    if found is None or (signed and not found.signed):
        return None
    return found if pinned is None or found.state.keys[0].text == pinned.text else None


def catalogue_bytes(state: LogState, tree: Tree, *, signed: bool) -> bytes:
    """A catalogue as bytes, with their SHA-256."""
    sections = {
        "originals": _originals(state), "files": _files(state), "removed": _removed(state),
        "times": _ipc({"time": state.times, "steady": state.steady, "reached": state.reached}),
    }  # fmt: skip
    sections |= {f"tree{level}": b"".join(hashes) for level, hashes in enumerate(tree.levels())}
    head = {"signed": signed, "size": state.size, **_small(state)}
    sections = {name: data.ljust(-(-len(data) // _ALIGNED) * _ALIGNED) for name, data in sections.items()}
    head["sections"] = [[name, len(data)] for name, data in sections.items()]
    text = orjson.dumps(head)
    start = len(_MAGIC) + HASH_BYTES + _LENGTH_BYTES
    text = text.ljust(-(-(start + len(text)) // _ALIGNED) * _ALIGNED - start)
    body = len(text).to_bytes(_LENGTH_BYTES, "big") + text + b"".join(sections.values())
    return _MAGIC + hashlib.sha256(body).digest() + body


def parse_catalogue(data: pa.Buffer) -> Catalogue | None:
    """What `catalogue_bytes` made; None for anything else. Rows stay in `data` until they are asked for."""
    view = memoryview(data)
    start = len(_MAGIC) + HASH_BYTES
    if bytes(view[: len(_MAGIC)]) != _MAGIC or len(view) < start + _LENGTH_BYTES:
        return None
    if hashlib.sha256(view[start:]).digest() != bytes(view[len(_MAGIC) : start]):
        return None
    at = start + _LENGTH_BYTES
    length = int.from_bytes(view[start:at], "big")
    head = orjson.loads(view[at : at + length])
    at += length
    sections: dict[str, pa.Buffer] = {}
    for name, size in head["sections"]:
        sections[name] = data.slice(at, size)
        at += size
    levels = [
        _hashes(sections[name], head["size"] >> level)
        for level, name in enumerate(name for name in sections if name.startswith("tree"))
    ]
    return Catalogue(head["size"], head["signed"], _state(head, sections), Tree.of_levels(levels))


def _small(state: LogState) -> dict[str, Any]:
    assert state.init is not None  # there is no catalogue of an empty log
    return {
        "origin": state.origin,
        "init": state.init.model_dump(by_alias=True),
        "keys": [key.text for key in state.keys],
        "clock": instant(state.clock),
        "last_commit": state.last_commit,
        "positions": [
            [p.key.topic, p.key.partition, p.key.topic_id, p.key.cluster, p.to, p.bytes, p.prefix]
            for p in state.positions.values()
        ],
        "collected": sorted(state.collected),
        "legal_holds": [hold.model_dump(by_alias=True) for hold in state.legal_holds.values()],
        "configs": state.configs,
        "config_files": sorted(state.config_files),
        "replayed": sorted(map(list, state.replayed)),
    }


def _state(head: Mapping[str, Any], sections: Mapping[str, pa.Buffer]) -> LogState:
    state = LogState()
    state.size, state.origin, state.last_commit = head["size"], head["origin"], head["last_commit"]
    state.init = Init.model_validate(head["init"])
    state.keys = [VerifierKey.from_text(text) for text in head["keys"]]
    state.clock = parse_instant(head["clock"])
    for topic, partition, topic_id, cluster, to, size, prefix in head["positions"]:
        key = OffsetKey(topic, partition, topic_id, cluster)
        state.positions[key.identity] = Position(key, to, size, prefix)
    state.collected = set(head["collected"])
    state.legal_holds = {hold["id"]: HoldPlaced.model_validate(hold) for hold in head["legal_holds"]}
    state.configs, state.config_files = dict(head["configs"]), set(head["config_files"])
    state.replayed = {(path, row) for path, row in head["replayed"]}
    times = _table(sections["times"])
    state.times, state.steady = times["time"].to_pylist(), times["steady"].to_pylist()
    state.reached = times["reached"].to_pylist()
    originals, files = _table(sections["originals"]), _table(sections["files"])
    state.originals = _rows(originals, _original)
    state.where = LazyRows(len(originals), originals["path"].to_pylist, partial(_columns, originals), _where)
    paths = pc.coalesce(files["path"], originals["path"].take(files["own"]))
    state.files = LazyRows(
        len(files), paths.to_pylist, lambda: {**_columns(files), "path": paths.to_pylist()},
        lambda columns, at: _file(columns, at, state.originals),
    )  # fmt: skip
    state.removed = _rows(_table(sections["removed"]), _gone)
    return state


def _originals(state: LogState) -> bytes:
    paths, rows = list(state.originals), list(state.originals.values())
    columns: dict[str, list[Any]] = {
        name: [getattr(one.ref, name, None) for one in rows]
        for name in ("retention", "date", "rows", "bytes", "min_time", "max_time")
    }
    columns["path"] = paths
    for name in ("sha256", "root"):
        columns[name] = [bytes.fromhex(getattr(one.ref, name)) for one in rows]
    columns["kinds"] = [
        orjson.dumps(one.ref.kinds).decode() if isinstance(one.ref, SegmentRef) else None for one in rows
    ]
    columns["entry"] = [one.entry for one in rows]
    columns["expired"] = [one.expired for one in rows]
    columns["erased"] = [sorted(one.erased) or None for one in rows]
    there = [state.where.get(path, []) for path in paths]
    # Most segments lie in the file that they were sealed in.
    columns["where"] = [None if files == [path] else files for path, files in zip(paths, there, strict=True)]
    return _ipc(columns)


def _original(columns: Columns, at: int) -> Original:
    values = {name: columns[name][at] for name in ("path", "rows", "bytes")}
    values |= {name: columns[name][at].hex() for name in ("sha256", "root")}
    kinds = columns["kinds"][at]
    ref: SegmentRef | DeadLetterRef
    # Their values were checked when they were read from the log.
    if kinds is None:
        ref = DeadLetterRef.model_construct(**values)
    else:
        values |= {name: columns[name][at] for name in ("retention", "date", "min_time", "max_time")}
        ref = SegmentRef.model_construct(**values, kinds=orjson.loads(kinds))
    return Original(ref, columns["entry"][at], columns["expired"][at], set(columns["erased"][at] or ()))


def _where(columns: Columns, at: int) -> list[str]:
    files = columns["where"][at]
    return [columns["path"][at]] if files is None else list(files)


def _files(state: LogState) -> bytes:
    place = {path: at for at, path in enumerate(state.originals)}
    columns: dict[str, list[Any]] = {
        name: [] for name in ("own", "path", "sha256", "bytes", "rows", "entry", "segments", "from", "to")
    }
    for file in state.files.values():
        # A file as it was sealed needs no more than that: the rest stands with the original.
        own = len(file.holds) == 1 and file.holds[0].segment == file.path
        columns["own"].append(place[file.path] if own else None)
        for name in ("path", "bytes", "rows", "entry"):
            columns[name].append(None if own else getattr(file, name))
        columns["sha256"].append(None if own else bytes.fromhex(file.sha256))
        for name, part in (("segments", "segment"), ("from", "from_"), ("to", "to")):
            columns[name].append(None if own else [getattr(hold, part) for hold in file.holds])
    return _ipc(columns)


def _file(columns: Columns, at: int, originals: Mapping[str, Original]) -> LiveFile:
    path = columns["path"][at]
    if columns["own"][at] is not None:
        original = originals[path]
        ref = original.ref
        hold = HeldRows.model_construct(segment=path, from_=0, to=ref.rows)
        return LiveFile(path, ref.sha256, ref.bytes, ref.rows, (hold,), original.entry)
    holds = tuple(
        HeldRows.model_construct(segment=segment, from_=begin, to=end)
        for segment, begin, end in zip(
            columns["segments"][at], columns["from"][at], columns["to"][at], strict=True
        )
    )
    size, rows, entry = (columns[name][at] for name in ("bytes", "rows", "entry"))
    return LiveFile(path, columns["sha256"][at].hex(), size, rows, holds, entry)


def _removed(state: LogState) -> bytes:
    gone = list(state.removed.values())
    return _ipc(
        {
            "path": [one.path for one in gone],
            "entry": [one.entry for one in gone],
            "deadline": [one.deadline.isoformat() for one in gone],
        }
    )


def _gone(columns: Columns, at: int) -> Removed:
    return Removed(columns["path"][at], columns["entry"][at], datetime.fromisoformat(columns["deadline"][at]))


_TEXT: Final = ("path", "min_time", "max_time", "deadline", "time")
_REPEATED: Final = ("retention", "date", "kinds")
_TYPES: Final = {
    **dict.fromkeys(_TEXT, pa.large_string()),
    **dict.fromkeys(_REPEATED, pa.dictionary(pa.int32(), pa.string())),
    **dict.fromkeys(("sha256", "root"), pa.binary(HASH_BYTES)),
    **dict.fromkeys(("rows", "bytes", "entry", "own"), pa.int64()),
    "steady": pa.float64(), "reached": pa.float64(), "expired": pa.bool_(),
    **dict.fromkeys(("erased", "from", "to"), pa.large_list(pa.int64())),
    **dict.fromkeys(("where", "segments"), pa.large_list(pa.large_string())),
}  # fmt: skip


def _ipc(columns: Mapping[str, list[Any]]) -> bytes:
    table = pa.table({name: pa.array(values, _TYPES[name]) for name, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _table(data: pa.Buffer) -> pa.Table:
    return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


def _columns(table: pa.Table) -> Columns:
    return {name: table[name].to_pylist() for name in table.column_names}


def _rows(table: pa.Table, make: Any) -> LazyRows[Any]:
    return LazyRows(len(table), table["path"].to_pylist, partial(_columns, table), make)


def _hashes(flat: pa.Buffer, count: int) -> list[bytes]:
    data = flat.to_pybytes()
    return [data[at : at + HASH_BYTES] for at in range(0, count * HASH_BYTES, HASH_BYTES)]
