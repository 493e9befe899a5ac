"""Checking an evidence bundle: one JSON file that proves events to someone who has only it and the vkey.

Format: docs/ledger-format.md, "Evidence bundle". Needs neither a ledger nor a query engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson
import rfc8785

from ledger.errors import DamageError, UsageError
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import Append, InvalidEntry, SegmentRef, parse_entry
from ledger.format.merkle import leaf_hash, verify_inclusion
from ledger.format.note import VerifierKey
from ledger.format.proof import verify_proof

FORMAT: Final = "decision-ledger-evidence/1"
_REMEDY: Final = "Give a file that `decision-ledger evidence export` wrote."
MAX_BUNDLE_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Proved:
    """What a bundle proves: the events, and the checkpoint that vouches for each."""

    origin: str
    events: list[dict[str, Any]]
    checkpoints: list[Checkpoint]


def verify_bundle(data: bytes, vkey: str) -> Proved:
    """Check a bundle against a key known from elsewhere. Raises DamageError for whatever does not hold."""
    key = VerifierKey.from_text(vkey)
    if len(data) > MAX_BUNDLE_BYTES:
        raise UsageError(f"The file has more than {MAX_BUNDLE_BYTES} bytes, too many for a bundle.")
    try:
        bundle = orjson.loads(data)
        if not isinstance(bundle, dict) or bundle.get("format") != FORMAT:
            raise UsageError(f"The file is no evidence bundle: it does not say {FORMAT!r}.", _REMEDY)
        if bundle["vkey"] != key.text or bundle["origin"] != key.name:
            raise DamageError(
                f"The bundle is by {bundle['vkey']!r}, not by the key {key.text!r}.",
                "Ask the ledger's operator which key is theirs, over another way.",
            )
        entries = [_checked_entry(entry, key) for entry in bundle["entries"]]
        events = [_checked_event(event, entries) for event in bundle["events"]]
    except orjson.JSONDecodeError:
        raise UsageError("The file is not JSON, so it is no evidence bundle.", _REMEDY) from None
    except KeyError as error:
        raise DamageError(f"The bundle is malformed: {error} is missing.", "Ask for it again.") from None
    except (TypeError, IndexError, AttributeError, ValueError):
        raise DamageError(
            "The bundle is malformed: what it holds is not of the kind that belongs there.",
            "Ask for it again.",
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
