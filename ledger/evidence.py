"""Evidence bundles: one JSON file that proves events to someone who has only it and the vkey.

Format: docs/ledger-format.md, "Evidence bundle". Each event comes with its inclusion path in its
original segment, each commit with a C2SP tlog-proof that stands alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson
import pyarrow as pa
import rfc8785

from ledger.canonical import canonical_column, leaf_hashes
from ledger.checkpoint import Checkpoint
from ledger.errors import DamageError, UsageError
from ledger.manifest import Append, InvalidEntry, SegmentRef, parse_entry, parse_event_path
from ledger.merkle import inclusion_proof, leaf_hash, verify_inclusion
from ledger.note import VerifierKey
from ledger.proof import TlogProof, verify_proof
from ledger.segment import read_event_rows
from ledger.state import LiveFile

if TYPE_CHECKING:
    from ledger.reader import Ledger

FORMAT: Final = "decision-ledger-evidence/1"
MAX_BUNDLE_BYTES: Final = 256 * 1024 * 1024
MAX_EVENTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """One sealed row: its original segment and its index there, from 0."""

    segment: str
    index: int


@dataclass(frozen=True, slots=True)
class Proved:
    """What a bundle proves: the events, and the checkpoint that vouches for each."""

    origin: str
    events: list[dict[str, Any]]
    checkpoints: list[Checkpoint]


def export(ledger: Ledger, ids: Sequence[str]) -> bytes:
    """An evidence bundle for every row that has one of `ids`. Raises UsageError for an unknown id."""
    if not ids:
        raise UsageError("No event was named.", "Give one or more event ids, or <source>#<event_id>.")
    state = ledger.state
    events: list[dict[str, Any]] = []
    entries: list[int] = []
    for place in locate(ledger, ids):
        original = state.originals[place.segment]
        if original.entry not in entries:
            entries.append(original.entry)
        rows = segment_rows(ledger, place.segment)
        leaves = leaf_hashes(rows)
        events.append(
            {
                "event": canonical_column(rows.slice(place.index, 1))[0].decode(),
                "segment": place.segment,
                "index": place.index,
                "proof": [digest.hex() for digest in inclusion_proof(leaves, place.index)],
                "entry": entries.index(original.entry),
            }
        )
    bundle = {
        "format": FORMAT,
        "origin": state.origin,
        "vkey": state.key.text,
        "events": events,
        "entries": [
            {
                "manifest": ledger.sealed.entries[index].decode(),
                "tlog_proof": entry_proof(ledger, index).decode(),
            }
            for index in entries
        ],
    }
    return json.dumps(bundle, ensure_ascii=False, indent=1).encode() + b"\n"


def entry_proof(ledger: Ledger, index: int) -> bytes:
    """The C2SP tlog-proof of entry `index` under the ledger's present checkpoint."""
    sealed = ledger.sealed
    path = tuple(sealed.tree.inclusion_proof(index, sealed.head.size))
    return TlogProof(index, path, sealed.note).text()


def locate(ledger: Ledger, ids: Sequence[str]) -> list[Place]:
    """Every row that has one of these ids. Raises UsageError for an id that no row has."""
    files = {
        str(ledger.local_path(file)): file
        for file in ledger.state.files.values()
        if parse_event_path(file.path) is not None
    }
    found: list[Place] = []
    for wanted in ids:
        rows = _rows_with(ledger, list(files), wanted) if files else []
        if not rows:
            raise UsageError(
                f"No sealed event has the id {wanted!r}.", "Give its event_id, or <source>#<event_id>."
            )
        found += [_place(files[row["filename"]], row["file_row_number"]) for row in rows]
    if len(found) > MAX_EVENTS:
        raise UsageError(f"A bundle holds at most {MAX_EVENTS} events.", "Export fewer at a time.")
    return found


def segment_rows(ledger: Ledger, segment: str) -> pa.Table:
    """All rows of an original segment, in its order, from wherever they lie now."""
    parts: list[tuple[int, pa.Table]] = []
    for path in ledger.state.where.get(segment, []):
        file, edge = ledger.state.files[path], 0
        for hold in file.holds:
            rows = hold.to - hold.from_
            if hold.segment == segment:
                parts.append((hold.from_, read_event_rows(ledger.local_path(file), edge, edge + rows)))
            edge += rows
    return pa.concat_tables([part for _, part in sorted(parts, key=lambda pair: pair[0])])


def verify_bundle(data: bytes, vkey: str) -> Proved:
    """Check a bundle against a key known from elsewhere. Raises DamageError for whatever does not hold."""
    key = VerifierKey.from_text(vkey)
    if len(data) > MAX_BUNDLE_BYTES:
        raise UsageError(f"The file has more than {MAX_BUNDLE_BYTES} bytes, too many for a bundle.")
    try:
        bundle = orjson.loads(data)
        if bundle["format"] != FORMAT:
            raise UsageError(f"The file is of format {bundle['format']!r}, not {FORMAT!r}.")
        if bundle["vkey"] != key.text or bundle["origin"] != key.name:
            raise DamageError(
                f"The bundle is by {bundle['vkey']!r}, not by the key {key.text!r}.",
                "Ask the ledger's operator which key is theirs, over another way.",
            )
        entries = [_checked_entry(entry, key) for entry in bundle["entries"]]
        events = [_checked_event(event, entries) for event in bundle["events"]]
    except orjson.JSONDecodeError:
        raise UsageError("The file is not JSON, so it is no evidence bundle.") from None
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise DamageError(
            f"The bundle is malformed: {type(error).__name__} at {error}.", "Ask for it again."
        ) from None
    if not events:
        raise DamageError("The bundle holds no event, so it proves nothing.", "Ask for it again.")
    return Proved(key.name, events, [checkpoint for _, checkpoint in entries])


def _checked_entry(entry: dict[str, Any], key: VerifierKey) -> tuple[Append, Checkpoint]:
    manifest = entry["manifest"].encode()
    checkpoint = verify_proof(entry["tlog_proof"].encode(), manifest, key)
    parsed = parse_entry(manifest)
    if not isinstance(parsed, Append):
        raise InvalidEntry(f"Entry {parsed.index} is a {parsed.kind} and seals no events.")
    return parsed, checkpoint


def _checked_event(event: dict[str, Any], entries: list[tuple[Append, Checkpoint]]) -> dict[str, Any]:
    text, index, at = event["event"].encode(), event["index"], event["entry"]
    if type(index) is not int or type(at) is not int or at < 0:
        raise ValueError("index and entry are whole numbers")
    refs: dict[str, SegmentRef] = {ref.path: ref for ref in entries[at][0].segments}
    ref = refs.get(event["segment"])
    if ref is None:
        raise DamageError(f"Entry {entries[at][0].index} does not name the segment {event['segment']!r}.")
    value: dict[str, Any] = orjson.loads(text)
    if rfc8785.dumps(value) != text:
        raise DamageError(f"The event at row {index} of {ref.path} is not in its canonical form.")
    path = [bytes.fromhex(digest) for digest in event["proof"]]
    if not verify_inclusion(leaf_hash(text), index, ref.rows, path, bytes.fromhex(ref.root)):
        raise DamageError(
            f"The event is not row {index} of {ref.path} as it was sealed.",
            "It was changed, or the proof belongs to another event.",
        )
    return value


def _rows_with(ledger: Ledger, paths: list[str], wanted: str) -> list[dict[str, Any]]:
    # Equality on event_id itself is what lets bloom filters skip files; the rest narrows it down.
    candidates = [wanted, *(wanted[at + 1 :] for at, letter in enumerate(wanted) if letter == "#")]
    rows: list[dict[str, Any]] = []
    for candidate in dict.fromkeys(candidates):
        rows += (
            ledger.query()
            .trusted(
                "SELECT filename, file_row_number FROM read_parquet(?, filename=true, file_row_number=true, "
                "hive_partitioning=false) WHERE event_id = ? "
                "AND (event_id = ? OR source || '#' || event_id = ?) LIMIT ?",
                [paths, candidate, wanted, wanted, MAX_EVENTS + 1],
            )
            .to_pylist()
        )
    return rows


def _place(file: LiveFile, row: int) -> Place:
    edge = 0
    for hold in file.holds:
        end = edge + hold.to - hold.from_
        if row < end:
            return Place(hold.segment, hold.from_ + row - edge)
        edge = end
    raise DamageError(f"{file.path} has more rows than its entry says.")
