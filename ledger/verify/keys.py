"""Which keys may have signed a log, before any of them is believed, and what they did sign."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from ledger.errors import DamageError, LedgerError
from ledger.format.manifest import check_signature, parse_entry
from ledger.format.note import SignedNote, VerifierKey
from ledger.verify.copies import Bundle
from ledger.verify.lenient_state import REFUSALS


def known_keys(bundles: Iterable[Bundle], *more: VerifierKey | None) -> list[VerifierKey]:
    """Every key that entries name or that is given as well, the newest first: none is believed by this."""
    texts: dict[str, None] = {}
    for bundle in bundles:
        firsts = [copy.entries[0] for copy in bundle.copies if copy.entries] if bundle.number == 0 else []
        for entry in (*bundle.entries, *firsts):
            if entry is not None and (b'"kind":"key"' in entry or b'"kind":"init"' in entry):
                texts.update(dict.fromkeys(_vkeys(entry)))
    keys = [key for text in reversed(texts) if (key := read_key(text)) is not None]
    return [*keys, *(key for key in more if key is not None and key not in keys)]


def key_of(entry: bytes | None) -> VerifierKey | None:
    """The key that an `init` or `key` entry names."""
    texts = _vkeys(entry) if entry is not None else []
    return read_key(texts[0]) if texts else None


def read_key(text: str) -> VerifierKey | None:
    """A verifier key, or None for text that is none."""
    try:
        return VerifierKey.from_text(text)
    except LedgerError:
        return None


def bears_name_of(note: bytes, key: VerifierKey) -> bool:
    """Whether the note is malformed, or has a signature line with this key's name and id."""
    try:
        lines = SignedNote.parse(note).signatures
    except DamageError:
        return True
    return any((line.name, line.key_id) == (key.name, key.key_id) for line in lines)


def prefer_signed(bundle: Bundle, keys: Sequence[VerifierKey]) -> None:
    """Where copies disagree on an entry, take one that a key of the ledger signed."""
    for place, present in enumerate(bundle.entries):
        candidates = dict.fromkeys(copy.entries[place] for copy in bundle.copies if place < len(copy.entries))
        if present is not None and len(candidates) > 1:
            signed = (entry for entry in candidates if is_signed(entry, bundle.first + place, keys))
            bundle.entries[place] = next(signed, present)


def is_signed(data: bytes, index: int, keys: Sequence[VerifierKey]) -> bool:
    """Whether one of `keys` signed this entry for this place in the log."""
    try:
        entry = parse_entry(data)
    except REFUSALS:
        return False
    if entry.index != index:
        return False
    for key in keys:
        try:
            check_signature(entry, data, key.name, key)
        except REFUSALS:
            continue
        return True
    return False


def _vkeys(entry: bytes) -> list[str]:
    try:
        value = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return []
    text = value.get("vkey") if isinstance(value, dict) else None
    return [text] if isinstance(text, str) else []
