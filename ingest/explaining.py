"""Where the fields of an event came from, told on one message; and what a sample of messages gives."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from ingest import strictjson
from ingest.adapters import field_map
from ingest.adapters.json_values import MISSING, at
from ingest.adapters.mapping import FieldRule
from ledger.events import COORDINATES, FIELDS

CONFIGURED: Final = "the intake's file"
FORMAT: Final = "the format"
_UNTOLD: Final = frozenset({*COORDINATES, "raw", "part", "masked", "retention"})
MAX_SHOWN: Final = 60
"""Letters of a value that are shown."""


def explained(
    format_: str, options: Mapping[str, Any], event: Mapping[str, Any], message: bytes
) -> list[dict[str, str]]:
    """For each field of a sealed-to-be event: its value, shortened, and the pointer or the rule it came from.

    Pointers lead into `raw` where the event has one (of a fan-out: its own part), else into the message.
    """
    said = _object(event, message)
    inner = options.get("options", {}) if format_ == "cloudevents" else options
    told = []
    for field in FIELDS:
        value = event.get(field.name)
        if value is None or field.name in _UNTOLD:
            continue
        origin = _configured(inner, field.name, said) or _read(format_, options, field.name, value, said)
        told.append({"field": field.name, "value": _short(value), "from": origin})
    return told


def _object(event: Mapping[str, Any], message: bytes) -> Any:
    if event.get("raw") is not None:
        return json.loads(event["raw"])
    try:
        found = strictjson.loads(message)
    except strictjson.Unreadable:
        return {}
    return found[event.get("part") or 0] if isinstance(found, list) else found


def _configured(options: Mapping[str, Any], field: str, said: Any) -> str | None:
    rule = options.get("fields", {}).get(field)
    if rule is None:
        return None
    value, pointer = FieldRule.model_validate(rule).value(said)
    if value is None:
        return None
    return f"{CONFIGURED}: {pointer or 'a word'}"


def _read(format_: str, options: Mapping[str, Any], field: str, value: Any, said: Any) -> str:
    pointers = [pointer for pointer, name in _whole_map(format_, options) if name == field]
    there = [(place, found) for pointer in pointers for place, found in _places(said, pointer)]
    fitting = (place for place, found in there if _fits(found, value))
    return next(fitting, there[0][0] if there else FORMAT)


def _whole_map(format_: str, options: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """The map of a format; around another format, that one's beneath `data` first."""
    if format_ != "cloudevents":
        return field_map(format_)
    inner = field_map(str(options.get("format", "native")))
    beneath = [(f"/data{pointer}", name) for pointer, name in inner]
    return [*beneath, *inner, *field_map(format_)]


def _places(said: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    """Where a pointer leads; `*` stands for every member or element."""
    head, star, rest = pointer.partition("/*")
    found = at(said, head)
    if found is MISSING or found in (None, "", [], {}):
        return
    if not star:
        yield pointer, found
        return
    members: Any = found.items() if isinstance(found, dict) else enumerate(found)
    for name, _ in members if isinstance(found, dict | list) else ():
        yield from _places(said, f"{head}/{strictjson.pointer_token(str(name))}{rest}")


def _fits(found: Any, value: Any) -> bool:
    """Whether a field's value can have been made of what stands there."""
    if isinstance(value, datetime):
        return isinstance(found, int | float) or str(found)[:10] == value.date().isoformat()
    if isinstance(value, list):
        return isinstance(found, list) and all(one in value for one in found)
    if isinstance(value, str) and isinstance(found, str):
        return found in value or value in found
    return bool(found == value)


def _short(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def grade_of(event: Mapping[str, Any]) -> int:
    """The context grade of a decision: how much of it is there to be understood later (event model)."""
    grades = (("action", "resource", "decision"), ("policy_version",), ("attributes",), ("policy_digest",))
    for grade, names in enumerate(grades):
        if any(event.get(name) is None for name in names):
            return grade
    return len(grades)


def sample_of(events: pa.Table) -> dict[str, Any]:
    """What a sample holds: filled fields, kinds, decisions, results that nobody mapped, grades."""
    rows = events.to_pylist()
    decisions = [row for row in rows if row["kind"] == "decision"]
    filled = {field.name: len(rows) - events.column(field.name).null_count for field in FIELDS}
    return {
        "fields": {name: count for name, count in filled.items() if count},
        "empty": [name for name, count in filled.items() if not count],
        "kinds": dict(sorted(Counter(row["kind"] for row in rows).items())),
        "decisions": dict(sorted(Counter(row["decision"] or "none" for row in decisions).items())),
        "unmapped": sum(row["reason"] == "unmapped" for row in decisions),
        "grades": dict(sorted(Counter(map(grade_of, decisions)).items())),
    }
