"""Whatever is done to a ledger behind its writers' backs, `verify` names exactly that.

Each case tampers with a copy of one ledger and states every finding to expect; a finding more or
less fails it. The ledger's own sealed `lost` range is always listed and left out of the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest

from ledger.errors import NotALedger
from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import Append, OffsetsRow, entry_bytes, instant, parse_entry, sign_entry
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.note import SignerKey
from ledger.format.tiles import (
    BUNDLE_WIDTH,
    decode_bundle,
    encode_bundle,
    entries_path,
    parse_tile_path,
    tile_bytes,
    tiles_added,
)
from ledger.sealing.segment import parquet_bytes, read_dead_letters, read_events
from ledger.verify import workers
from ledger.verify.findings import Finding, Report
from ledger.verify.parquet import check_file
from ledger.verify.verification import verify
from ledger.writer import SOFTWARE
from tests.faults.ledger_maker import ORIGIN, SECOND_SEED, SEED, START, Made, make_ledger, new_ledger
from tests.simulated_store import SimulatedStore

SIZE = 300
WIDTH = SIZE - BUNDLE_WIDTH
FULL = entries_path(0)
HEAD = entries_path(1, WIDTH)
NEXT = entries_path(1, WIDTH + 1)
SIGNER = SignerKey(ORIGIN, SECOND_SEED)
FOREIGN = SignerKey(ORIGIN, bytes(32))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own for each of many damaged files: `unit/test_verify_offsets.py` is about those."""
    monkeypatch.setattr(workers._Apart, "check", lambda _, task, data, digest: check_file(task, data, digest))


Found = tuple[str, str, int | None, int | None]
"""kind, path, index, row"""


@dataclass
class Tampering:
    """A copy of the ledger, to be tampered with by the names of its files."""

    made: Made
    store: SimulatedStore
    options: dict[str, Any] = field(default_factory=dict)

    def path(self, name: str) -> str:
        return self.made.names.get(name, name)

    def read(self, name: str) -> bytes:
        return self.store.objects[self.path(name)]

    def write(self, name: str, data: bytes | None) -> None:
        self.store.tamper(self.path(name), data)

    def flip(self, name: str, at: int) -> None:
        data = bytearray(self.read(name))
        data[at] ^= 1
        self.write(name, bytes(data))

    def rows(self, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
        """Re-encode a segment after a change to its rows."""
        rows = read_events(self.read(name)).to_pylist()
        change(rows)
        self.write(name, parquet_bytes(pa.Table.from_pylist(rows, ARROW_SCHEMA)))

    def letters(self, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
        rows = read_dead_letters(self.read(name)).to_pylist()
        change(rows)
        self.write(name, parquet_bytes(pa.Table.from_pylist(rows, DEAD_LETTER_SCHEMA)))

    @property
    def entries(self) -> list[bytes]:
        """The log as it is in the untouched ledger."""
        objects = self.made.store.objects
        return decode_bundle(objects[FULL]) + decode_bundle(objects[HEAD])

    def rewrite_log(self, entries: list[bytes], signer: SignerKey | None = None) -> None:
        """Put another log in place of this one, every bundle and hash tile; signed where a key is at hand."""
        for path in self.store.objects:
            if parse_tile_path(path) is not None:
                self.store.tamper(path, None)
        tree = Tree(map(leaf_hash, entries))
        full = len(entries) // BUNDLE_WIDTH
        for number in range(full):
            self.write(
                entries_path(number),
                encode_bundle(entries[number * BUNDLE_WIDTH : (number + 1) * BUNDLE_WIDTH]),
            )
        rest = entries[full * BUNDLE_WIDTH :]
        for width in range(1, len(rest) + 1):
            self.write(entries_path(full, width), encode_bundle(rest[:width]))
        for size in range(1, len(entries) + 1):
            for tile in tiles_added(0, size):
                if tile.width == BUNDLE_WIDTH or size > full * BUNDLE_WIDTH or tile.level:
                    self.write(tile.path, tile_bytes(tree, tile.level, tile.index, tile.width))
        if signer is not None:
            self.write("checkpoint", Checkpoint(ORIGIN, len(entries), tree.root()).sign(signer))

    def add_next(self, data: bytes) -> None:
        """Make entry 300 as a writer would, that died before it signed."""
        self.write(NEXT, encode_bundle([*decode_bundle(self.read(HEAD)), data]))

    def next_entry(self, signer: SignerKey = SIGNER, **values: Any) -> bytes:
        root = Tree(map(leaf_hash, self.entries)).root()
        fields: dict[str, Any] = {
            "index": SIZE, "prev": root.hex(), "time": instant(START), "writer": "other",
            "software": SOFTWARE, **values,
        }  # fmt: skip
        return entry_bytes(sign_entry(Append(**fields), ORIGIN, signer))


@dataclass(frozen=True)
class Case:
    name: str
    tamper: Callable[[Tampering], object]
    damage: tuple[Found, ...] = ()
    listed: tuple[Found, ...] = ()


def on(kind: str, path: str, index: int | None = None, row: int | None = None) -> Found:
    return (kind, path, index, row)


def _swap(t: Tampering, one: str, other: str) -> None:
    first, second = t.read(one), t.read(other)
    t.write(one, second)
    t.write(other, first)


def _set(row: int, **values: Any) -> Callable[[list[dict[str, Any]]], object]:
    return lambda rows: rows[row].update(values)


def _change_entry(
    t: Tampering, index: int, old: bytes, new: bytes, *, signer: SignerKey | None = None
) -> None:
    entries = t.entries
    assert old in entries[index]
    entries[index] = entries[index].replace(old, new, 1)
    t.rewrite_log(entries, signer)


def _change_head_entry(t: Tampering, place: int) -> None:
    """Change one entry of the head bundle in every copy, and nothing else."""
    for width in range(place + 1, WIDTH + 1):
        entries = decode_bundle(t.read(entries_path(1, width)))
        entries[place] = entries[place].replace(b'"writer":"test"', b'"writer":"tess"')
        t.write(entries_path(1, width), encode_bundle(entries))


def _forge_segment(t: Tampering) -> None:
    """Change a row, and the entry, so that the file's hash and root are right again."""
    t.rows("first", _set(3, decision="deny"))
    entries = t.entries
    value = orjson.loads(entries[1])
    from hashlib import sha256

    from ledger.sealing.segment import write_events

    segment = write_events(read_events(t.read("first")))
    t.write("first", segment.data)
    ref = next(ref for ref in value["segments"] if ref["path"] == t.path("first"))
    ref.update(sha256=sha256(segment.data).hexdigest(), bytes=len(segment.data), root=segment.root.hex())
    entries[1] = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    t.rewrite_log(entries)


def _other_ledger(t: Tampering) -> None:
    """The whole ledger again, sealed by another key: consistent in itself."""
    t.options["vkey"] = FOREIGN.verifier


def _fork(t: Tampering, at: int) -> None:
    """Another history from entry `at` on, by the holder of the key."""
    entries = t.entries[:at]
    tree = Tree(map(leaf_hash, entries))
    for index in range(at, SIZE + 3):
        note = parse_entry(t.entries[280]).model_copy(update={"index": index, "prev": tree.root().hex()})
        data = entry_bytes(sign_entry(note, ORIGIN, SIGNER))
        entries.append(data)
        tree.append(leaf_hash(data))
    t.rewrite_log(entries, SIGNER)


def _keep(t: Tampering) -> None:
    note = t.made.store.objects["checkpoint"]
    t.options["kept"] = [Checkpoint.parse(note.decode().split("\n\n")[0] + "\n")]


def _roll_back(t: Tampering, size: int) -> None:
    t.rewrite_log(t.entries[:size], SIGNER)
    for path in ("late", "late letters", "repeated", "last"):
        t.write(path, None)


def _older_checkpoint(t: Tampering, size: int) -> None:
    tree = Tree(map(leaf_hash, t.entries[:size]))
    t.write("checkpoint", Checkpoint(ORIGIN, size, tree.root()).sign(SIGNER))


def _seal_invalid(t: Tampering, **values: Any) -> None:
    """An entry that breaks the rules, signed and covered by a signed checkpoint."""
    t.rewrite_log([*t.entries, t.next_entry(**values)], SIGNER)


def _lost_race(t: Tampering, signer: SignerKey) -> None:
    entries = t.entries[:20]
    note = parse_entry(t.entries[21]).model_copy(
        update={"index": 20, "prev": Tree(map(leaf_hash, entries)).root().hex(), "writer": "stalled"}
    )
    data = entry_bytes(sign_entry(note, ORIGIN, signer))
    t.write(entries_path(0, 21), encode_bundle([*entries, data]))


def _witness(t: Tampering, size: int, *, honest: bool = True) -> None:
    tree = Tree(map(leaf_hash, [*t.entries, b"more"]))
    root = tree.root(size) if honest else bytes(32)
    t.write("checkpoint.witnessed", Checkpoint(ORIGIN, size, root).sign(SIGNER))


def _ledger_json(t: Tampering, **values: Any) -> None:
    value = orjson.loads(t.read("ledger.json")) | values
    t.write("ledger.json", orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _partials(first: int, *, kind: str = "changed", index: int | None = None) -> tuple[Found, ...]:
    return tuple(on(kind, entries_path(1, width), index) for width in range(first, WIDTH + 1))


UNSEALED = tuple(on("unsealed", name) for name in ("late", "late letters", "repeated", "last"))

SEGMENTS = [
    Case("a byte of a segment's footer", lambda t: t.flip("first", -12), (on("changed", "first"),)),
    Case(
        "a segment cut short", lambda t: t.write("first", t.read("first")[:-100]), (on("changed", "first"),)
    ),
    Case("an empty segment", lambda t: t.write("first", b""), (on("changed", "first"),)),
    Case(
        "bytes after the sealed file",
        lambda t: t.write("first", t.read("first") + b"x"),
        (on("changed", "first"),),
    ),
    Case(
        "two segments swapped",
        lambda t: _swap(t, "first", "late"),
        (on("changed", "first"), on("changed", "late")),
    ),
    Case(
        "a segment over another",
        lambda t: t.write("first", t.read("late")),
        (on("changed", "first"),),
    ),
    Case("a segment gone", lambda t: t.write("first", None), (on("missing", "first", 1),)),
    Case(
        "a row's content",
        lambda t: t.rows("first", _set(3, decision="deny")),
        (on("changed", "first"), on("root", "first")),
    ),
    Case(
        "a cell cleared",
        lambda t: t.rows("first", _set(3, actor=None)),
        (on("changed", "first"), on("root", "first")),
    ),
    Case(
        "rows reordered",
        lambda t: t.rows("first", list.reverse),
        (on("changed", "first"), on("root", "first")),
    ),
    Case(
        "two rows exchanged",
        lambda t: t.rows("first", lambda rows: rows.insert(3, rows.pop(2))),
        (on("changed", "first"), on("root", "first")),
    ),
    Case("the same rows encoded again", lambda t: _encode_again(t, "first"), (on("changed", "first"),)),
    Case(
        "a row removed",
        lambda t: t.rows("first", lambda rows: rows.pop(3)),
        (on("changed", "first"), on("rows", "first"), on("root", "first"), on("offsets", FULL, 1)),
    ),
    Case(
        "the last row removed",
        lambda t: t.rows("last", lambda rows: rows.pop()),
        (on("changed", "last"), on("rows", "last"), on("root", "last"), on("offsets", HEAD, 298)),
    ),
    Case(
        "a row added twice",
        lambda t: t.rows("last", lambda rows: rows.append(rows[0])),
        (on("changed", "last"), on("rows", "last"), on("root", "last"), on("row", "last", None, 5)),
    ),
    Case(
        "a foreign row added",
        lambda t: t.rows("last", lambda rows: rows.append(rows[0] | {"record_offset": 7})),
        (on("changed", "last"), on("rows", "last"), on("root", "last"), on("row", "last", None, 5)),
    ),
    Case(
        "a row of another topic",
        lambda t: t.rows("last", _set(0, topic_id=None)),
        (
            on("changed", "last"),
            on("root", "last"),
            on("row", "last", None, 0),
            on("offsets", HEAD, 298),
        ),
    ),
    Case(
        "a row in a skipped range",
        lambda t: t.rows("first", _set(0, record_offset=105)),
        (
            on("changed", "first"),
            on("root", "first"),
            on("row", "first", None, 0),
            on("offsets", FULL, 1),
        ),
    ),
    Case(
        "a row of another class",
        lambda t: t.rows("first", _set(4, retention="short")),
        (on("changed", "first"), on("root", "first"), on("row", "first", None, 4)),
    ),
    Case(
        "a row of another date",
        lambda t: t.rows("first", _set(4, time=START.replace(year=2025))),
        (on("changed", "first"), on("root", "first"), on("row", "first", None, 4)),
    ),
    Case(
        "a row without an id",
        lambda t: t.rows("first", _set(4, event_id=None)),
        (on("changed", "first"), on("root", "first"), on("row", "first", None, 4)),
    ),
    Case(
        "a row that has no canonical form",
        lambda t: t.rows("first", _set(4, bytes_out=2**60)),
        (on("changed", "first"), on("root", "first"), on("row", "first", None, 4)),
    ),
    Case(
        "a row erased without an entry",
        lambda t: _erase_unnamed(t, "last", 2),
        (on("changed", "last"), on("row", "last", None, 2), on("offsets", HEAD, 298)),
    ),
    Case(
        "an erased row's kept hash",
        lambda t: t.rows("erased", _set(2, erased_leaf="00" * 31 + "01")),
        (on("changed", "erased"), on("root", "erased", None, 0)),
    ),
    Case(
        "an erased row filled again",
        lambda t: t.rows("erased", lambda rows: rows[2].update(rows[1] | {"record_offset": 156})),
        (on("changed", "erased"), on("root", "erased", None, 0), on("row", "erased", None, 2)),
    ),
    Case(
        "content beside an erased row's hash",
        lambda t: t.rows("erased", _set(2, actor="user:eve")),
        (on("changed", "erased"), on("root", "erased", None, 0), on("row", "erased", None, 2)),
    ),
    Case(
        "a row of a compacted file",
        lambda t: t.rows("compacted", _set(13, decision="deny")),
        (on("changed", "compacted"), on("root", "compacted", None, 10)),
    ),
    Case(
        "a row of a compacted file removed",
        lambda t: t.rows("compacted", lambda rows: rows.pop(3)),
        (
            on("changed", "compacted"),
            on("rows", "compacted"),
            on("root", "compacted", None, 0),
            on("offsets", FULL, 2),
        ),
    ),
    Case(
        "a row added to a compacted file",
        lambda t: t.rows("compacted", lambda rows: rows.insert(12, rows[3])),
        (
            on("changed", "compacted"),
            on("rows", "compacted"),
            on("root", "compacted", None, 10),
            on("row", "compacted", None, 12),
        ),
    ),
    Case("a compacted file gone", lambda t: t.write("compacted", None), (on("missing", "compacted", 7),)),
    Case(
        "columns of another schema",
        lambda t: t.write("first", t.read("letters") + b""),
        (on("changed", "first"),),
    ),
    Case(
        "a column dropped",
        lambda t: t.write("first", _without_column(t.read("first"))),
        (on("changed", "first"),),
    ),
]

LETTERS = [
    Case(
        "a dead letter's reason",
        lambda t: t.letters("letters", _set(0, reason="forged")),
        (on("changed", "letters"), on("root", "letters")),
    ),
    Case(
        "a dead letter's status",
        lambda t: t.letters("letters", _set(1, status="rejected")),
        (
            on("changed", "letters"),
            on("root", "letters"),
            # One rejected too many, one ignored too few.
            on("offsets", FULL, 1),
            on("offsets", FULL, 1),
        ),
    ),
    Case(
        "a dead letter with an unknown status",
        lambda t: t.letters("letters", _set(1, status="fine")),
        (
            on("changed", "letters"),
            on("root", "letters"),
            on("row", "letters", None, 1),
            on("offsets", FULL, 1),
        ),
    ),
    Case(
        "a dead letter's digest",
        lambda t: t.letters("letters", _set(1, digest="x")),
        (on("changed", "letters"), on("root", "letters"), on("row", "letters", None, 1)),
    ),
    Case(
        "a dead letter removed",
        lambda t: t.letters("letters", lambda rows: rows.pop()),
        (on("changed", "letters"), on("rows", "letters"), on("root", "letters"), on("offsets", FULL, 1)),
    ),
    Case("dead letters gone", lambda t: t.write("letters", None), (on("missing", "letters", 1),)),
]

LOG = [
    Case("a byte of an entry", lambda t: t.flip(FULL, 40), (on("changed", FULL, 0),)),
    Case("a full bundle cut short", lambda t: t.write(FULL, t.read(FULL)[:-1]), (on("changed", FULL, 255),)),
    Case(
        "bytes after a full bundle",
        lambda t: t.write(FULL, t.read(FULL) + b"xy"),
        (on("changed", FULL, 256),),
    ),
    Case(
        "an entry after a full bundle",
        lambda t: t.write(FULL, t.read(FULL) + encode_bundle([t.entries[0]])),
        (on("changed", FULL, 256),),
    ),
    Case(
        "two entries exchanged",
        lambda t: t.write(
            FULL, encode_bundle([*t.entries[:30], t.entries[31], t.entries[30], *t.entries[32:256]])
        ),
        (on("changed", FULL, 30), on("changed", FULL, 31)),
    ),
    Case(
        "a partial bundle gone",
        lambda t: t.write(entries_path(1, WIDTH - 2), None),
        (on("missing", entries_path(1, WIDTH - 2)),),
    ),
    Case("the head's bundle gone", lambda t: t.write(HEAD, None), (on("missing", HEAD),)),
    Case(
        "a byte of an older partial bundle",
        lambda t: t.flip(entries_path(1, WIDTH - 2), 40),
        (on("changed", entries_path(1, WIDTH - 2), 256),),
    ),
    Case("a byte of the head's bundle", lambda t: t.flip(HEAD, -20), (on("changed", HEAD, SIZE - 1),)),
    Case("a length in the head's bundle", lambda t: t.flip(HEAD, 1), (on("changed", HEAD, 256),)),
    Case(
        "a well-formed entry past the tree, in the head's bundle",
        lambda t: t.write(HEAD, t.read(HEAD) + encode_bundle([t.next_entry()])),
        (on("changed", HEAD, SIZE),),
    ),
    Case(
        "bytes after the head's bundle",
        lambda t: t.write(HEAD, t.read(HEAD) + b"\0"),
        (on("changed", HEAD, SIZE),),
    ),
    Case(
        "the head's bundle one entry short",
        lambda t: t.write(HEAD, encode_bundle(t.entries[256:-1])),
        (on("changed", HEAD, SIZE - 1),),
    ),
    Case("an empty partial bundle", lambda t: t.write(HEAD, b""), (on("changed", HEAD, 256),)),
    Case(
        "an entry changed in all its copies",
        lambda t: _change_head_entry(t, 30),
        _partials(31, index=286),
    ),
    Case(
        "an entry rewritten with its hashes",
        lambda t: _change_entry(t, 30, b'"writer":"test"', b'"writer":"tess"'),
        (on("entry", FULL, 30),),
    ),
    Case("an entry forged over a changed segment", _forge_segment, (on("entry", FULL, 1),)),
    Case(
        "a bundle beyond the end",
        lambda t: t.write(entries_path(2, 1), encode_bundle([t.entries[0]])),
        (on("extra", entries_path(2, 1)),),
    ),
    Case("a hash of a full tile", lambda t: t.flip("tile/0/000", 77), (on("changed", "tile/0/000"),)),
    Case("a full tile gone", lambda t: t.write("tile/0/000", None), (on("missing", "tile/0/000"),)),
    Case(
        "a hash of a partial tile",
        lambda t: t.flip(f"tile/0/001.p/{WIDTH - 5}", 3),
        (on("changed", f"tile/0/001.p/{WIDTH - 5}"),),
    ),
    Case(
        "a partial tile gone",
        lambda t: t.write(f"tile/0/001.p/{WIDTH}", None),
        (on("missing", f"tile/0/001.p/{WIDTH}"),),
    ),
    Case(
        "bytes after a partial tile",
        lambda t: t.write(f"tile/0/001.p/{WIDTH}", t.read(f"tile/0/001.p/{WIDTH}") + bytes(32)),
        (on("changed", f"tile/0/001.p/{WIDTH}"),),
    ),
    Case("the tile above", lambda t: t.flip("tile/1/000.p/1", 0), (on("changed", "tile/1/000.p/1"),)),
    Case(
        "a tile beyond the end",
        lambda t: t.write("tile/0/002.p/1", bytes(32)),
        (on("extra", "tile/0/002.p/1"),),
    ),
    Case(
        "a tile of a level too high",
        lambda t: t.write("tile/5/000.p/1", bytes(32)),
        (on("extra", "tile/5/000.p/1"),),
    ),
    Case("no tile's name", lambda t: t.write("tile/0/0", bytes(32)), (on("extra", "tile/0/0"),)),
    Case(
        "an entry and a tile, each on its own",
        lambda t: (t.flip(HEAD, -20), t.flip("tile/0/000", 5), t.flip(f"tile/0/001.p/{WIDTH}", 5)),
        (
            on("changed", HEAD, SIZE - 1),
            on("changed", "tile/0/000"),
            on("changed", f"tile/0/001.p/{WIDTH}"),
        ),
    ),
    Case(
        "a stalled writer's partial beside the full bundle",
        lambda t: _lost_race(t, SIGNER),
        (),
        (on("lost-race", entries_path(0, 21), 20),),
    ),
    Case(
        "a forged partial beside the full bundle",
        lambda t: _lost_race(t, FOREIGN),
        (on("changed", entries_path(0, 21), 20),),
    ),
    Case(
        "a right partial beside the full bundle",
        lambda t: t.write(entries_path(0, 9), encode_bundle(t.entries[:9])),
    ),
    Case(
        "a sealed entry whose offsets do not add up",
        lambda t: _seal_invalid(
            t, offsets=[OffsetsRow(topic="new", partition=0, from_=0, to=5, accepted=0, ignored=1)]
        ),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry whose offsets overlap",
        lambda t: _seal_invalid(
            t, offsets=[OffsetsRow(topic="audit", partition=1, from_=1, to=2, skipped=[(1, 2)])]
        ),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry that accepts messages without rows",
        lambda t: _seal_invalid(t, offsets=[OffsetsRow(topic="new", partition=0, from_=0, to=2, accepted=2)]),
        (on("offsets", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry of another place in the log",
        lambda t: _seal_invalid(t, index=7),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry on another history",
        lambda t: _seal_invalid(t, prev="00" * 32),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry by another key",
        lambda t: t.rewrite_log([*t.entries, t.next_entry(FOREIGN)], SIGNER),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry that is no entry",
        lambda t: t.rewrite_log([*t.entries, b"{}"], SIGNER),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a sealed entry nested too deep",
        lambda t: t.rewrite_log([*t.entries, b"[" * 600 + b"]" * 600], SIGNER),
        (on("entry", NEXT, SIZE),),
    ),
]

HEADS = [
    Case("the checkpoint gone", lambda t: t.write("checkpoint", None), (on("missing", "checkpoint"),)),
    Case("an empty checkpoint", lambda t: t.write("checkpoint", b""), (on("changed", "checkpoint"),)),
    Case("a byte of the checkpoint", lambda t: t.flip("checkpoint", 30), (on("changed", "checkpoint"),)),
    Case(
        "a huge size in the checkpoint",
        lambda t: t.write("checkpoint", t.read("checkpoint").replace(b"\n300\n", b"\n4000000000000000000\n")),
        (on("changed", "checkpoint"),),
    ),
    Case(
        "another key's checkpoint",
        lambda t: t.write(
            "checkpoint", Checkpoint(ORIGIN, SIZE, Tree(map(leaf_hash, t.entries)).root()).sign(FOREIGN)
        ),
        (on("wrong-key", "checkpoint"),),
    ),
    Case(
        "the rotated-out key's checkpoint",
        lambda t: t.write(
            "checkpoint",
            Checkpoint(ORIGIN, SIZE, Tree(map(leaf_hash, t.entries)).root()).sign(SignerKey(ORIGIN, SEED)),
        ),
        (on("wrong-key", "checkpoint"),),
    ),
    Case(
        "a signed checkpoint of another root",
        lambda t: t.write("checkpoint", Checkpoint(ORIGIN, SIZE, bytes(32)).sign(SIGNER)),
        (on("checkpoint", "checkpoint"),),
    ),
    Case(
        "a checkpoint one entry back",
        lambda t: _older_checkpoint(t, SIZE - 1),
        (),
        (on("uncovered", HEAD, SIZE - 1),),
    ),
    Case(
        "a checkpoint one entry back, against a kept head",
        lambda t: (_older_checkpoint(t, SIZE - 1), _keep(t)),
        (),
        (on("uncovered", HEAD, SIZE - 1),),
    ),
    Case(
        "a checkpoint put back",
        lambda t: _older_checkpoint(t, SIZE - 3),
        (on("rollback", "checkpoint", SIZE - 3),),
        tuple(on("uncovered", HEAD, index) for index in range(SIZE - 3, SIZE)),
    ),
    Case("a log put back, unseen without a kept head", lambda t: _roll_back(t, 296)),
    Case(
        "a log put back, against a kept head",
        lambda t: (_roll_back(t, 296), _keep(t)),
        (on("rollback", "checkpoint", 296),),
    ),
    Case(
        "a fork by the key's holder, against a kept head",
        lambda t: (_fork(t, 290), _keep(t)),
        (on("fork", "checkpoint"),),
        UNSEALED,
    ),
    Case(
        "a fork by the key's holder, against a copy",
        lambda t: (_fork(t, 290), t.options.update(against=t.made.store)),
        (on("fork", entries_path(1, WIDTH + 3), 290),),
        UNSEALED,
    ),
    Case("an older copy", lambda t: t.options.update(against=_older_copy(t))),
    Case("a wrong key", _other_ledger, (on("wrong-key", "checkpoint"),)),
    Case("the second key as pin", lambda t: t.options.update(vkey=SIGNER.verifier)),
    Case("no pin", lambda t: t.options.update(vkey=None)),
    Case("a witnessed head", lambda t: _witness(t, 298)),
    Case(
        "a witnessed head of a longer log", lambda t: _witness(t, 301), (on("rollback", "checkpoint", SIZE),)
    ),
    Case(
        "a witnessed head of another log",
        lambda t: _witness(t, 298, honest=False),
        (on("fork", "checkpoint.witnessed"),),
    ),
    Case(
        "a witnessed head that is none",
        lambda t: t.write("checkpoint.witnessed", b"x"),
        (on("changed", "checkpoint.witnessed"),),
    ),
]

NEXTS = [
    Case(
        "a valid next entry",
        lambda t: t.add_next(t.next_entry()),
        (),
        (on("uncovered", NEXT, SIZE),),
    ),
    Case(
        "a next entry by another key", lambda t: t.add_next(t.next_entry(FOREIGN)), (on("entry", NEXT, SIZE),)
    ),
    Case(
        "a next entry on another history",
        lambda t: t.add_next(t.next_entry(prev="11" * 32)),
        (on("entry", NEXT, SIZE),),
    ),
    Case(
        "a next entry whose offsets do not continue",
        lambda t: t.add_next(
            t.next_entry(offsets=[OffsetsRow(topic="audit", partition=1, from_=9, to=10, skipped=[(9, 10)])])
        ),
        (on("entry", NEXT, SIZE),),
    ),
    Case("a next entry that is no entry", lambda t: t.add_next(b"\xff"), (on("entry", NEXT, SIZE),)),
    Case(
        "a next entry after a gap",
        lambda t: t.write(entries_path(1, WIDTH + 2), encode_bundle([*t.entries[256:], b"{}", b"{}"])),
        (on("entry", entries_path(1, WIDTH + 2), SIZE),),
    ),
]

FOLDER = [
    Case("ledger.json gone", lambda t: t.write("ledger.json", None), (on("missing", "ledger.json"),)),
    Case(
        "another key in ledger.json",
        lambda t: _ledger_json(t, vkey=FOREIGN.vkey),
        (on("changed", "ledger.json"),),
    ),
    Case("a field more in ledger.json", lambda t: _ledger_json(t, more=1), (on("changed", "ledger.json"),)),
    Case(
        "a space in ledger.json",
        lambda t: t.write("ledger.json", t.read("ledger.json") + b" "),
        (on("changed", "ledger.json"),),
    ),
    Case("ledger.json is none", lambda t: t.write("ledger.json", b"\xff\0"), (on("changed", "ledger.json"),)),
    Case("a file in the root", lambda t: t.write("notes.txt", b""), (on("extra", "notes.txt"),)),
    Case(
        "a file in a strange folder",
        lambda t: t.write("backup/checkpoint", b""),
        (on("extra", "backup/checkpoint"),),
    ),
    Case("a private key in the folder", lambda t: t.write("ledger.key", b"x"), (on("extra", "ledger.key"),)),
    Case("a lock in a folder", lambda t: t.write("tile/x.lock", b""), (on("extra", "tile/x.lock"),)),
    Case("a file with the folder's name", lambda t: t.write("events", b""), (on("extra", "events"),)),
    Case(
        "locks and the cache",
        lambda t: (t.write("checkpoint.lock", b""), t.write("cache/catalogue.db", b"x")),
    ),
    Case(
        "temporary files",
        lambda t: (
            t.write("ab.tmp", b""),
            t.write("tile/entries/cd.tmp", b""),
            t.write("events/ef.tmp", b""),
        ),
        (),
        (on("temporary", "ab.tmp"), on("temporary", "tile/entries/cd.tmp"), on("temporary", "events/ef.tmp")),
    ),
    Case(
        "left-overs",
        lambda t: (
            t.write("events/retention=standard/date=2026-11-23/aa.parquet", t.read("first")),
            t.write("deadletters/date=2026-11-23/bb.parquet", b""),
            t.write("config/" + "0" * 64, b""),
        ),
        (),
        (
            on("unsealed", "events/retention=standard/date=2026-11-23/aa.parquet"),
            on("unsealed", "deadletters/date=2026-11-23/bb.parquet"),
            on("unsealed", "config/" + "0" * 64),
        ),
    ),
    Case("settings changed", lambda t: t.write("config", b"{}"), (on("changed", "config", 9),)),
    Case("settings gone", lambda t: t.write("config", None), (on("missing", "config", 9),)),
    Case("a compacted segment back", lambda t: t.write("part0", b"x"), (on("past-grace", "part0", 7),)),
    Case("an expired segment back", lambda t: t.write("expired", b"x"), (on("past-grace", "expired", 14),)),
    Case("an erased segment back", lambda t: t.write("short", b"x"), (on("past-grace", "short", 8),)),
    Case(
        "much at once",
        lambda t: [
            t.write("first", None),
            t.flip("last", -12),
            t.flip(FULL, -40),
            t.write("x", b""),
        ],
        (
            on("missing", "first", 1),
            on("changed", "last"),
            on("changed", FULL, 255),
            on("extra", "x"),
        ),
    ),
]

CASES = [*SEGMENTS, *LETTERS, *LOG, *HEADS, *NEXTS, *FOLDER]


def _encode_again(t: Tampering, name: str) -> None:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(read_events(t.read(name)), sink, store_schema=False)
    t.write(name, sink.getvalue().to_pybytes())


def _without_column(data: bytes) -> bytes:
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(read_events(data).drop_columns(["comment"]), sink, store_schema=False)
    result: bytes = sink.getvalue().to_pybytes()
    return result


def _erase_unnamed(t: Tampering, name: str, row: int) -> None:
    from ledger.format.canonical import leaf_hashes

    leaf = leaf_hashes(read_events(t.read(name)))[row].hex()

    def change(rows: list[dict[str, Any]]) -> None:
        rows[row] = {"erased_leaf": leaf}

    t.rows(name, change)


def _older_copy(t: Tampering) -> SimulatedStore:
    copy = Tampering(t.made, t.made.store.fork())
    _roll_back(copy, 270)
    return copy.store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_ledger(tmp_path_factory.mktemp("key"), entries=SIZE)


def run(tampering: Tampering) -> Report:
    options: dict[str, Any] = {"vkey": tampering.made.vkey, **tampering.options}
    return verify(tampering.store, **options)


def _as_found(tampering: Tampering, findings: list[Finding]) -> list[Found]:
    return sorted(
        ((f.kind, f.path, f.index, f.row) for f in findings), key=lambda found: tuple(map(str, found))
    )


def _expected(tampering: Tampering, found: tuple[Found, ...]) -> list[Found]:
    named = [(kind, tampering.path(path), index, row) for kind, path, index, row in found]
    return sorted(named, key=lambda found: tuple(map(str, found)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_tampering_is_named_exactly(made: Made, case: Case) -> None:
    tampering = Tampering(made, made.store.fork())
    case.tamper(tampering)

    report = run(tampering)

    assert _as_found(tampering, report.damaged) == _expected(tampering, case.damage), report.text()
    listed = [finding for finding in report.listed if finding.kind != "lost"]
    assert _as_found(tampering, listed) == _expected(tampering, case.listed), report.text()
    assert report.ok == (not case.damage)


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_an_untouched_ledger_is_clean_but_for_its_lost_range(made: Made) -> None:
    report = run(Tampering(made, made.store.fork()))

    assert report.ok
    assert [(f.kind, f.path, f.index) for f in report.findings] == [("lost", FULL, made.entries["lost"])]
    assert (report.entries, report.events, report.deadletters) == (SIZE, 78, 6)
    assert report.head is not None
    assert report.head.size == SIZE


def test_a_lost_bundle_is_the_only_damage_that_is_named(made: Made) -> None:
    tampering = Tampering(made, made.store.fork())
    tampering.write(FULL, None)

    report = run(tampering)

    # What the lost entries sealed cannot be told from left-overs; the second key was in them.
    assert [(f.kind, f.path) for f in report.damaged] == [("missing", FULL)], report.text()
    assert {f.kind for f in report.listed} == {"unsealed"}


def test_nothing_of_a_ledger_is_no_ledger() -> None:
    store = SimulatedStore()
    with pytest.raises(NotALedger):
        verify(store)
    store.tamper("readme.txt", b"x")
    with pytest.raises(NotALedger):
        verify(store)


def test_a_removed_file_is_pending_within_its_grace(tmp_path: Path) -> None:
    from datetime import timedelta

    from ledger.format.manifest import Note
    from tests.faults.ledger_maker import ORDERS, commit, compact, event, stretch

    made = new_ledger(tmp_path)
    paths = [commit(made, stretch(ORDERS, n, [[event(n)]])).segments[0].path for n in range(2)]
    compact(made, paths, grace=60)
    report = verify(made.store, vkey=made.vkey)
    assert report.ok
    assert sorted((f.kind, f.path, f.index) for f in report.findings) == sorted(
        ("pending", p, 3) for p in paths
    )

    made.clock.now += timedelta(seconds=61)
    made.writer.put(Note, {"text": "later"})
    for path in paths:
        # The writer has swept them; someone puts them back.
        made.store.tamper(path, b"x")
    report = verify(made.store, vkey=made.vkey)
    assert sorted((f.kind, f.path, f.index) for f in report.damaged) == sorted(
        ("past-grace", p, 3) for p in paths
    )


@pytest.mark.parametrize("name", ["first", "late", "letters", "compacted", "erased"])
def test_no_byte_of_a_file_can_change_unseen(made: Made, name: str) -> None:
    size = len(Tampering(made, made.store.fork()).read(name))
    for at in range(0, size, max(1, size // 12)):
        tampering = Tampering(made, made.store.fork())
        tampering.flip(name, at)
        damaged = run(tampering).damaged
        assert ("changed", tampering.path(name)) in {(f.kind, f.path) for f in damaged}
        assert {f.path for f in damaged} <= {tampering.path(name), FULL, HEAD}


@pytest.mark.parametrize("name", ["checkpoint", "ledger.json", FULL, HEAD, "tile/0/000"])
def test_no_byte_of_the_log_can_change_unseen(made: Made, name: str) -> None:
    size = len(made.store.objects[name])
    for at in range(0, size, max(1, size // 10)):
        tampering = Tampering(made, made.store.fork())
        tampering.flip(name, at)
        report = run(tampering)
        assert {f.path for f in report.damaged} == {name}, report.text()


def test_a_bundle_of_other_entries_is_blamed_alone(made: Made) -> None:
    """A changed length can leave lengths that fit again further on: then every entry before is noise."""
    tampering = Tampering(made, made.store.fork())
    entries = decode_bundle(tampering.read(FULL))
    tampering.write(FULL, encode_bundle([b"noise", b'{"also": noise', *entries[190:]]))
    report = run(tampering)
    assert {f.path for f in report.damaged} == {FULL}, report.text()


def test_no_file_can_go_unseen(made: Made) -> None:
    partial = [path for path in made.store.objects if ".p/" in path]
    for path in sorted(set(made.store.objects) - set(partial)) + partial[::6]:
        tampering = Tampering(made, made.store.fork())
        tampering.write(path, None)
        assert [(f.kind, f.path) for f in run(tampering).damaged] == [("missing", path)]
