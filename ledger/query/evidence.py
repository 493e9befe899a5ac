"""Evidence bundles: events of a ledger with all that proves them offline.

Format: docs/ledger-format.md, "Evidence bundle". Each event comes with its inclusion path in its
original segment, each commit with a C2SP tlog-proof that stands alone. `ledger.query.evidence_bundle`
checks bundles.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ledger.errors import DamageError, UsageError
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
    "entry_proof", "export", "locate", "segment_rows", "verify_bundle",
]  # fmt: skip

MAX_EVENTS: Final = 10_000


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
    state = ledger.state
    places = locate(ledger, ids, at)
    segments = dict.fromkeys(place.segment for place in places)
    entries = list(dict.fromkeys(state.originals[segment].entry for segment in segments))
    proved: dict[Place, tuple[str, list[str]]] = {}
    for segment in segments:
        proved |= _proved(ledger, [place for place in places if place.segment == segment])
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
                "tlog_proof": entry_proof(ledger, index).decode(),
            }
            for index in entries
        ],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode() + b"\n"


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
    sealed = ledger.sealed
    path = tuple(sealed.tree.inclusion_proof(index, sealed.head.size))
    return TlogProof(index, path, sealed.note).text()


def locate(ledger: OpenLedger, ids: Sequence[str], at: int | None = None) -> list[Place]:
    """Every row as of `at` entries that has one of these ids. Raises UsageError for an id that no row has."""
    files = {
        ledger.query_path(file): file
        for file in ledger.state.files.values()
        if parse_event_path(file.path) is not None
    }
    found: list[Place] = []
    for wanted in ids:
        rows = _rows_with(ledger, wanted, at)
        if not rows:
            raise UsageError(
                f"No sealed event has the id {wanted!r}.", "Give its event_id, or <source>#<event_id>."
            )
        found += [_place(files[row["filename"]], row["file_row_number"]) for row in rows]
    if len(found) > MAX_EVENTS:
        raise UsageError(f"A bundle holds at most {MAX_EVENTS} events.", "Export fewer at a time.")
    return found


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


def _rows_with(ledger: OpenLedger, wanted: str, at: int | None) -> list[dict[str, Any]]:
    from ledger.query.engine import PLACED  # noqa: PLC0415  # checking a bundle needs no engine

    # Equality on event_id itself is what lets bloom filters skip files; the rest narrows it down.
    candidates = [wanted, *(wanted[at + 1 :] for at, letter in enumerate(wanted) if letter == "#")]
    rows: list[dict[str, Any]] = []
    for candidate in dict.fromkeys(candidates):
        rows += (
            ledger.query(at)
            .trusted(
                f"SELECT filename, file_row_number FROM {PLACED}events WHERE event_id = ? "  # noqa: S608  # our own names
                "AND (event_id = ? OR source || '#' || event_id = ?) LIMIT ?",
                [candidate, wanted, wanted, MAX_EVENTS + 1],
            )
            .to_pylist()
        )
    return rows


def _place(file: LiveFile, row: int) -> Place:
    try:
        return Place(*file.origin(row))
    except IndexError:
        raise DamageError(f"{file.path} has more rows than its entry says.") from None
