"""Evidence bundles: events of a ledger with all that proves them offline.

Format: docs/ledger-format.md, "Evidence bundle". Each event comes with its inclusion path in its
original segment, each commit with a C2SP tlog-proof that stands alone. `ledger.query.evidence_bundle`
checks bundles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ledger.errors import DamageError, UsageError
from ledger.format.checkpoint import open_checkpoint
from ledger.format.manifest import parse_event_path
from ledger.format.merkle import Tree
from ledger.format.proof import TlogProof
from ledger.format.state import LiveFile, LogState
from ledger.query.evidence_bundle import FORMAT, MAX_BUNDLE_BYTES, Proved, verify_bundle

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger.log.commit_log import SealedLog
    from ledger.query.engine import Query

__all__ = [
    "FORMAT", "MAX_BUNDLE_BYTES", "MAX_EVENTS", "Place", "Proved",
    "entry_proof", "export", "export_each", "locate", "present", "segment_rows", "verify_bundle",
]  # fmt: skip

MAX_EVENTS: Final = 10_000
ASKED_ALONE: Final = 16
"""So many ids are looked up one by one; more of them in one pass over the column."""


class OpenLedger(Protocol):
    """What of an opened ledger evidence is made of."""

    @property
    def state(self) -> LogState:
        """What the log says up to the checkpoint."""
        ...

    @property
    def sealed(self) -> SealedLog:
        """The log itself."""
        ...

    def query(self, at: int | None = None) -> Query:
        """The views as of `at` entries."""
        ...

    def query_path(self, file: LiveFile) -> str:
        """What the engine calls a file."""
        ...

    def local_path(self, file: LiveFile) -> Path:
        """A checked copy of a file on this machine."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """One sealed row: its original segment and its index there, from 0."""

    segment: str
    index: int


def export(ledger: OpenLedger, ids: Sequence[str], at: int | None = None) -> bytes:
    """An evidence bundle for every row as of `at` entries that has one of `ids`; each segment is read once.

    Raises UsageError for an unknown id, DamageError where a segment is not what was sealed.
    """
    if not ids:
        raise UsageError("No event was named.", "Give one or more event ids, or <source>#<event_id>.")
    places = locate(ledger, ids, at)
    return _bundle(ledger, places, _proved_all(ledger, places), _Head.of(ledger, None))


def export_each(
    ledger: OpenLedger, ids: Sequence[str], at: int | None = None, note: bytes | None = None
) -> dict[str, bytes]:
    """A bundle for each of `ids`, proved at the checkpoint of `note` (None: the newest).

    Raises as `export`; DamageError also where `note` is no checkpoint of this ledger.
    """
    head = _Head.of(ledger, note)
    places = locate_each(ledger, ids, at)
    proved = _proved_all(ledger, [place for own in places.values() for place in own])
    return {wanted: _bundle(ledger, own, proved, head) for wanted, own in places.items()}


@dataclass(frozen=True, slots=True)
class _Head:
    """The checkpoint that proofs lead to."""

    note: bytes
    size: int

    @classmethod
    def of(cls, ledger: OpenLedger, note: bytes | None) -> _Head:
        """The checkpoint of `note`, else the newest one."""
        sealed = ledger.sealed
        if note is None:
            return cls(sealed.note, sealed.head.size)
        checkpoint = open_checkpoint(note, ledger.state.key)
        if (
            not 0 < checkpoint.size <= sealed.head.size
            or sealed.tree.root(checkpoint.size) != checkpoint.root
        ):
            raise DamageError(
                f"The checkpoint of {checkpoint.size} entries is none of this ledger's.",
                "Take one that this ledger signed, or leave it out.",
            )
        return cls(note, checkpoint.size)


def _bundle(
    ledger: OpenLedger, places: Sequence[Place], proved: Mapping[Place, tuple[str, list[str]]], head: _Head
) -> bytes:
    state = ledger.state
    entries = list(dict.fromkeys(state.originals[place.segment].entry for place in places))
    bundle = {
        "format": FORMAT,
        "origin": state.origin,
        "vkey": state.key.text,
        "events": [
            {
                "event": proved[place][0],
                "segment": place.segment,
                "index": place.index,
                "proof": proved[place][1],
                "entry": entries.index(state.originals[place.segment].entry),
            }
            for place in places
        ],
        "entries": [
            {
                "manifest": ledger.sealed.entries[index].decode(),
                "tlog_proof": _entry_proof(ledger, index, head).decode(),
            }
            for index in entries
        ],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode() + b"\n"


def _proved_all(ledger: OpenLedger, places: Sequence[Place]) -> dict[Place, tuple[str, list[str]]]:
    proved: dict[Place, tuple[str, list[str]]] = {}
    for segment in dict.fromkeys(place.segment for place in places):
        proved |= _proved(ledger, [place for place in places if place.segment == segment])
    return proved


def _proved(ledger: OpenLedger, places: Sequence[Place]) -> dict[Place, tuple[str, list[str]]]:
    """(C(event), inclusion path) of rows of one segment."""
    from ledger.format.canonical import canonical_column, leaf_hashes  # noqa: PLC0415  # checking needs no Arrow

    segment = places[0].segment
    rows = segment_rows(ledger, segment)
    tree = Tree(leaf_hashes(rows))
    if tree.root().hex() != ledger.state.originals[segment].ref.root:
        raise DamageError(
            f"The rows of {segment} are not those that were sealed, so nothing can be proved by them.",
            "`decision-ledger verify` names all that is damaged.",
        )
    return {
        place: (
            canonical_column(rows.slice(place.index, 1))[0].decode(),
            [digest.hex() for digest in tree.inclusion_proof(place.index)],
        )
        for place in places
    }


def entry_proof(ledger: OpenLedger, index: int) -> bytes:
    """The C2SP tlog-proof of entry `index` under the ledger's present checkpoint."""
    return _entry_proof(ledger, index, _Head.of(ledger, None))


def _entry_proof(ledger: OpenLedger, index: int, head: _Head) -> bytes:
    path = tuple(ledger.sealed.tree.inclusion_proof(index, head.size))
    return TlogProof(index, path, head.note).text()


def locate(ledger: OpenLedger, ids: Sequence[str], at: int | None = None) -> list[Place]:
    """Every row as of `at` entries that has one of these ids. Raises UsageError for an id that no row has."""
    found = [place for own in locate_each(ledger, ids, at).values() for place in own]
    if len(found) > MAX_EVENTS:
        raise UsageError(f"A bundle holds at most {MAX_EVENTS} events.", "Export fewer at a time.")
    return found


def seal_order(ledger: OpenLedger, rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str, int]]:
    """Where rows stand in the order of sealing: entry, segment, index.

    `rows` bear their `filename` and `file_row_number`.
    """
    files = _event_files(ledger)
    places = [_place(files[row["filename"]], row["file_row_number"]) for row in rows]
    return [(ledger.state.originals[one.segment].entry, one.segment, one.index) for one in places]


def locate_each(ledger: OpenLedger, ids: Sequence[str], at: int | None = None) -> dict[str, list[Place]]:
    """As `locate`, by id, each id once."""
    files = _event_files(ledger)
    wanted = list(dict.fromkeys(ids))
    # The id itself, or what stands behind one of its number signs.
    candidates = {
        one: [one, *(one[cut + 1 :] for cut, letter in enumerate(one) if letter == "#")] for one in wanted
    }
    rows = _rows_with(
        ledger, list(dict.fromkeys(name for names in candidates.values() for name in names)), at
    )
    found: dict[str, list[Place]] = {}
    for one in wanted:
        own = [
            row for name in dict.fromkeys(candidates[one]) for row in rows.get(name, ())
            if one in {name, f"{row['source']}#{name}"}
        ]  # fmt: skip
        if not own:
            raise UsageError(
                f"No sealed event has the id {one!r}.", "Give its event_id, or <source>#<event_id>."
            )
        found[one] = [_place(files[row["filename"]], row["file_row_number"]) for row in own]
    return found


def present(ledger: OpenLedger, ids: Sequence[str], at: int | None = None) -> set[str]:
    """Which of these, each `<source>#<event_id>`, there are as of `at` entries."""
    found = ledger.query(at).trusted(
        "SELECT DISTINCT source || '#' || event_id FROM events"
        " WHERE source || '#' || event_id IN (SELECT unnest(?))",
        [list(ids)],
    )
    return set(found.column(0).to_pylist())


def segment_rows(ledger: OpenLedger, segment: str) -> pa.Table:
    """All rows of an original segment, in its order, from wherever they lie now, text as dictionaries."""
    import pyarrow as pa  # noqa: PLC0415  # checking a bundle needs no Arrow

    from ledger.sealing.segment import read_event_rows  # noqa: PLC0415  # as above

    parts: list[tuple[int, pa.Table]] = []
    for file, begin, end, hold in ledger.state.spans_of(segment):
        parts.append((hold.from_, read_event_rows(ledger.local_path(file), begin, end, coded=True)))
    return pa.concat_tables(
        [part for _, part in sorted(parts, key=lambda pair: pair[0])], promote_options="permissive"
    )


def _rows_with(ledger: OpenLedger, names: Sequence[str], at: int | None) -> dict[str, list[dict[str, Any]]]:
    """The rows of each event_id: for a few each is asked for alone, so that bloom filters skip files."""
    from ledger.query.engine import PLACED  # noqa: PLC0415  # checking a bundle needs no engine

    select = f"SELECT filename, file_row_number, source, event_id FROM {PLACED}events WHERE"  # noqa: S608  # our own names
    query = ledger.query(at)
    if len(names) <= ASKED_ALONE:
        asked: list[tuple[str, list[Any]]] = [
            (f"{select} event_id = ? LIMIT {MAX_EVENTS + 1}", [name]) for name in names
        ]
    else:
        asked = [(f"{select} event_id IN (SELECT unnest(?)) LIMIT {MAX_EVENTS + 1}", [list(names)])]
    found: dict[str, list[dict[str, Any]]] = {}
    for statement, values in asked:
        rows = query.trusted(statement, values).to_pylist()
        for row in sorted(rows, key=lambda row: (row["filename"], row["file_row_number"])):
            found.setdefault(row["event_id"], []).append(row)
    return found


def _event_files(ledger: OpenLedger) -> dict[str, LiveFile]:
    """Files of events by what the engine calls them."""
    return {
        ledger.query_path(file): file
        for file in ledger.state.files.values()
        if parse_event_path(file.path) is not None
    }


def _place(file: LiveFile, row: int) -> Place:
    try:
        return Place(*file.origin(row))
    except IndexError:
        raise DamageError(f"{file.path} has more rows than its entry says.") from None
