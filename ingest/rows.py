"""One parsed event to one valid row, or the reason and the field that it is refused for.

The exact judge: whatever a vectorised path does must come out as it does here. Null means absent;
fields that are not a sender's to set, and unknown ones, go into `attributes`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pyarrow as pa
import rfc8785

from ingest.decoded import Limits
from ingest.strictjson import Real, Unreadable, canonical, pointer_token, refuse_text, text_fault
from ledger.errors import UsageError
from ledger.events import (
    ARROW_SCHEMA,
    COORDINATES,
    DEFAULT_CLASS,
    FIELDS,
    HEX_LENGTHS,
    ID_FIELDS,
    INT_MAX,
    RETENTION_PATTERN,
    RFC3339_TIME,
    VOCABULARIES,
    EventField,
)

NOT_FOR_SENDERS: Final = frozenset({*COORDINATES, "raw", "conflict", "masked", "nonce"})
"""Set by ingest alone; a sender's words under these names are kept as unknown fields."""
SENDER_FIELDS: Final = tuple(f for f in FIELDS if f.name not in NOT_FOR_SENDERS)
BOUNDED_TEXTS: Final = frozenset(
    {*ID_FIELDS, "actor", "delegated_actor", "workload", "resource", "target", "source", "instance",
     "decision_ref", "alert_key"}
)  # fmt: skip
"""Ids and `type:id` strings."""
NEVER_EMPTY: Final = frozenset({"event_id", "source"})
"""An empty one would make one event of all that have none."""
BOUNDED_LISTS: Final = frozenset({"delegation", "evidence"})
MAX_SESSION_RISK: Final = 100
NUMBER_SUFFIX: Final = "#number"
_TIME: Final = re.compile(RFC3339_TIME, re.ASCII)
_ANY_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII)
_RETENTION: Final = re.compile(RETENTION_PATTERN)
_HEX: Final = re.compile(r"[0-9a-fA-F]+", re.ASCII)

Row = dict[str, Any]


class Refused(UsageError):
    """An event that cannot be sealed: why, and which field."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


def parse_time(value: Any, name: str = "time") -> datetime:
    """RFC 3339 with an offset (section 5.6), in UTC; digits beyond microseconds are cut.

    Raises:
        Refused: no text, no offset, another format, or no such time.
    """
    if not isinstance(value, str):
        raise Refused("wrong type: RFC 3339 text expected", name)
    match = _TIME.fullmatch(value)
    if match is None:
        known = _ANY_TIME.fullmatch(value) is not None
        raise Refused("time without an offset" if known else "not an RFC 3339 time", name)
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    fraction = int((match[7] or "")[:6].ljust(6, "0"))
    zone = UTC
    try:
        if match[8] is None:
            if int(match[10]) > 23 or int(match[11]) > 59:
                raise Refused("impossible time", name)
            shift = timedelta(hours=int(match[10]), minutes=int(match[11]))
            zone = timezone(-shift if match[9] == "-" else shift)
        return datetime(year, month, day, hour, minute, second, fraction, zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Refused("impossible time", name) from None


def _text(value: Any, field: EventField, limits: Limits) -> str:
    name = field.name
    if not isinstance(value, str):
        raise Refused("wrong type: text expected", name)
    fault = text_fault(value)
    if fault is not None:
        raise Refused(fault, name)
    if name in BOUNDED_TEXTS and len(value) > limits.id_chars:
        raise Refused(f"longer than {limits.id_chars} characters", name)
    if name in NEVER_EMPTY and not value:
        raise Refused("empty", name)
    if name in VOCABULARIES and value not in VOCABULARIES[name]:
        raise Refused("not one of the known words", name)
    if name in HEX_LENGTHS:
        digits = HEX_LENGTHS[name]
        if len(value) != digits or _HEX.fullmatch(value) is None or not value.strip("0"):
            raise Refused(f"not {digits} hex digits, or all zero", name)
        return value.lower()
    if name == "retention" and (_RETENTION.match(value) is None or value.endswith("\n")):
        raise Refused("not a retention class name", name)
    return value


def _list(value: Any, field: EventField, limits: Limits) -> list[str]:
    name = field.name
    if not isinstance(value, list):
        raise Refused("wrong type: list of text expected", name)
    for item in value:
        if item is None:
            raise Refused("null in a list", name)
        if not isinstance(item, str):
            raise Refused("wrong type: list of text expected", name)
        fault = text_fault(item)
        if fault is not None:
            raise Refused(fault, name)
        if name in BOUNDED_LISTS and len(item) > limits.id_chars:
            raise Refused(f"longer than {limits.id_chars} characters", name)
    return value


def _int(value: Any, field: EventField, limits: Limits) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused("wrong type: integer expected", field.name)
    if abs(value) > INT_MAX:
        raise Refused("integer beyond 2^53 - 1", field.name)
    if field.name == "session_risk" and not 0 <= value <= MAX_SESSION_RISK:
        raise Refused(f"not within 0 and {MAX_SESSION_RISK}", field.name)
    return value


def _bool(value: Any, field: EventField, limits: Limits) -> bool:
    if not isinstance(value, bool):
        raise Refused("wrong type: true or false expected", field.name)
    return value


def _time(value: Any, field: EventField, limits: Limits) -> datetime:
    return parse_time(value, field.name)


_READERS: Final[dict[str, Callable[[Any, EventField, Limits], Any]]] = {
    "text": _text, "list": _list, "int": _int, "bool": _bool, "time": _time,
}  # fmt: skip
_KNOWN: Final = {f.name: (f, _READERS[f.type]) for f in SENDER_FIELDS if f.name != "attributes"}
_REQUIRED: Final = tuple(f.name for f in SENDER_FIELDS if f.required and f.name != "retention")


def exact_numbers(value: Any, place: str, places: list[str]) -> Any:
    """`value` with integers beyond ±(2^53 − 1) as decimal strings, their places noted in `places`.

    Floats that RFC 8785 writes as such integers are integers to every reader, so they count too.
    """
    if isinstance(value, dict):
        return {
            key: exact_numbers(child, f"{place}/{pointer_token(key)}", places) for key, child in value.items()
        }
    if isinstance(value, list):
        return [exact_numbers(child, f"{place}/{index}", places) for index, child in enumerate(value)]
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) > INT_MAX:
        places.append(place + NUMBER_SUFFIX)
        return str(value)
    if isinstance(value, float) and INT_MAX < abs(value) < 1e21:
        places.append(place + NUMBER_SUFFIX)
        return str(int(value))
    return Real(value) if isinstance(value, float) else value


def canonical_attributes(value: dict[str, Any], places: list[str], limits: Limits) -> str:
    """RFC 8785 text of the attributes of one event.

    Raises:
        Refused: it is longer than the limit, or holds what JSON cannot state.
    """
    try:
        refuse_text(value)
        text = canonical(exact_numbers(value, "/attributes", places))
    except Unreadable as error:
        raise Refused(error.reason, "attributes") from None
    except (rfc8785.CanonicalizationError, ValueError):
        raise Refused("not JSON", "attributes") from None
    if len(text) > limits.attributes_bytes:
        raise Refused(f"longer than {limits.attributes_bytes} bytes", "attributes")
    return text.decode()


def keep_unknown(attributes: dict[str, Any], name: str, value: Any) -> str:
    """Puts `value` under its own name, or `unknown.<name>` where that is taken; returns the name."""
    while name in attributes:
        name = f"unknown.{name}"
    attributes[name] = value
    return name


def _bounded_raw(raw: str, limits: Limits) -> str:
    if len(raw.encode()) > limits.raw_bytes:
        raise Refused(f"longer than {limits.raw_bytes} bytes", "raw")
    return raw


def _place_of(place: str, moved: dict[str, str]) -> str:
    """Where a masked value stands after its top-level field went into the attributes."""
    head, separator, rest = place[1:].partition("/")
    return f"/attributes/{moved[head]}{separator}{rest}" if head in moved else place


def normalise(
    event: dict[str, Any],
    limits: Limits,
    now: datetime,
    *,
    places: Iterable[str] = (),
    raw: str | None = None,
    part: int = 0,
) -> Row:
    """The row of one parsed and masked event: absent columns are left out.

    `places` are the JSON pointers of what was masked in `event`. Times are aware, in UTC.

    Raises:
        Refused: with the reason and the field.
    """
    row: Row = {}
    attributes = event.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        raise Refused("wrong type: object expected", "attributes")
    unknown: list[str] = []
    for name, value in event.items():
        known = _KNOWN.get(name)
        if value is None:
            continue
        if known is not None:
            row[name] = known[1](value, known[0], limits)
        elif name != "attributes":
            unknown.append(name)
    for name in _REQUIRED:
        if name not in row:
            raise Refused("missing", name)
    if row["time"] > now + timedelta(hours=limits.ahead_hours):
        raise Refused(f"more than {limits.ahead_hours} h ahead of the clock", "time")
    row.setdefault("retention", DEFAULT_CLASS)
    masked = list(places)
    if unknown:
        attributes = dict(attributes or {})
        # Sorted, so that a copy with its keys in another order is the same event.
        kept = {name: keep_unknown(attributes, name, event[name]) for name in sorted(unknown)}
        moved = {pointer_token(name): pointer_token(under) for name, under in kept.items()}
        masked = [_place_of(place, moved) for place in masked]
    if attributes is not None:
        row["attributes"] = canonical_attributes(attributes, masked, limits)
    if masked:
        # Sorted, as above.
        row["masked"] = sorted(set(masked))
    if raw is not None:
        row["raw"] = _bounded_raw(raw, limits)
    row["part"] = part
    return row


def places_of_part(places: Iterable[str], part: int, attributes: str | None) -> list[str]:
    """The places of one event of a message, as its sealed row has them.

    `places` are JSON pointers into the message (an event, or an array of them) as it came; `attributes` is
    the text of the sealed column, where top-level fields that are none of ours have gone.
    """
    kept: dict[str, Any] = json.loads(attributes) if attributes else {}
    found = []
    for place in places:
        head, separator, rest = place[1:].partition("/")
        if head.isdecimal():
            if int(head) != part:
                continue
            head, separator, rest = rest.partition("/")
        name = head.replace("~1", "/").replace("~0", "~")
        if name not in _KNOWN and name != "attributes":
            while f"unknown.{name}" in kept:
                name = f"unknown.{name}"
            head = f"attributes/{pointer_token(name)}"
        found.append(f"/{head}{separator}{rest}")
    return found


def as_table(rows: Sequence[Row]) -> pa.Table:
    """Rows as a table of `ARROW_SCHEMA`."""
    used = {name for row in rows for name in row}
    columns = [
        pa.array([row.get(field.name) for row in rows], field.type)
        if field.name in used
        else pa.nulls(len(rows), field.type)
        for field in ARROW_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=ARROW_SCHEMA)
