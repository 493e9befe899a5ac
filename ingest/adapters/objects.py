"""Formats whose message is a JSON object, or an array of them: each object gives events, or says why none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from ingest import masking, rows
from ingest.adapters.json_values import canonical_text, fitting
from ingest.adapters.mapping import read_options
from ingest.adapters.native import Collected, merged, read_message
from ingest.decoded import Decoded, Headers, Limits, Verdict
from ingest.secret_scan import suspects

_Options = TypeVar("_Options", bound=BaseModel)


class Unneeded(Exception):
    """An object that holds nothing for the ledger; the text says why."""


@dataclass(slots=True)
class ForeignObject:
    """One object as it was sent, before masking; makes the rows of its events and numbers them.

    `line` is the message, where this is the only object in it. What is not `suspect` holds no secret.
    """

    sent: dict[str, Any]
    limits: Limits
    now: datetime
    next_part: int
    line: bytes | None = None
    suspect: bool = True

    def masked(self, value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """A part of what was sent without its secrets, and JSON pointers to where they stood."""
        if not self.suspect:
            return value, []
        clean: dict[str, Any]
        clean, places = masking.mask_value(value)
        return clean, places

    def digest(self) -> str:
        """Hex SHA-256 of the message as it was received, of one among several of its RFC 8785 text."""
        received = canonical_text(self.sent).encode() if self.line is None else self.line
        return hashlib.sha256(received).hexdigest()

    def row(
        self, event: dict[str, Any], attributes: dict[str, Any], clean: dict[str, Any], places: list[str]
    ) -> rows.Row:
        """The row of the next event, with as many attributes as fit.

        `clean` is what `raw` keeps of the object after masking, `places` what was masked in it.

        Raises:
            rows.Refused: it cannot be sealed; why, and the field.
        """
        event["attributes"] = fitting(attributes, self.limits)
        made = rows.normalise(
            event, self.limits, self.now, places=places, raw=canonical_text(clean), part=self.next_part
        )
        self.next_part += 1
        return made


RowsOf = Callable[[ForeignObject, _Options], Iterator[rows.Row]]
"""Raises `rows.Refused` for what cannot be sealed and `Unneeded` for what holds no event."""


@dataclass(frozen=True, slots=True)
class TellingHeader:
    """A header whose value says of some messages that they hold no event, whatever is in them."""

    name: str
    unneeded: Mapping[str, str]
    """By value of the header, why."""


def adapter_with(
    name: str, model: type[_Options], rows_of: RowsOf[_Options], header: TellingHeader | None = None
) -> Callable[[Mapping[str, Any]], ObjectAdapter]:
    """What makes a format's adapter from an intake's options.

    It raises UsageError for an option that is unknown or unusable.
    """

    def from_options(options: Mapping[str, Any]) -> ObjectAdapter:
        known = read_options(model, name, options)
        return ObjectAdapter(name, rows_of, known, header)

    return from_options


class ObjectAdapter:
    """Keeps `ingest.decoded.HeaderAdapter`."""

    def __init__(
        self,
        name: str,
        rows_of: RowsOf[Any],
        options: BaseModel,
        header: TellingHeader | None = None,
    ) -> None:
        self.name = name
        self.headers = () if header is None else (header.name,)
        self._rows_of = rows_of
        self._options = options
        self._header = header

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """Events of `values`; see `Adapter.decode`."""
        return self.decode_with(values, [{}] * len(values), limits, now)

    def decode_with(
        self, values: pa.LargeBinaryArray, headers: Sequence[Headers], limits: Limits, now: datetime
    ) -> Decoded:
        """Events of `values`; see `HeaderAdapter.decode_with`."""
        made = Collected()
        suspect = suspects(values) if len(values) else []
        for position, (message, told) in enumerate(zip(values.to_pylist(), headers, strict=True)):
            why = None
            if self._header is not None:
                why = self._header.unneeded.get(told.get(self._header.name, ""))
            if why is not None:
                made.ignored.append(Verdict(position, why))
            else:
                self._read_one(made, position, message, limits, now, suspect=suspect[position])
        return merged(None, np.zeros(0, np.int64), made)

    def _read_one(
        self, made: Collected, position: int, message: bytes, limits: Limits, now: datetime, *, suspect: bool
    ) -> None:
        try:
            objects, batch = read_message(message, limits)
        except rows.Refused as error:
            made.reject(position, error.reason, field=error.field)
            return
        events: list[rows.Row] = []
        why = "no events"
        for number, one in enumerate(objects):
            try:
                if not isinstance(one, dict):
                    raise rows.Refused("wrong type: object expected")
                line = None if batch else message
                found = ForeignObject(one, limits, now, len(events), line, suspect)
                for event in self._rows_of(found, self._options):
                    events.append(event)
                    if len(events) > limits.events_per_message:
                        raise rows.Refused(f"more than {limits.events_per_message} events in one message")
            except Unneeded as reason:
                why = str(reason)
            except rows.Refused as error:
                made.reject(position, error.reason, number if batch else None, error.field)
                return
        if events:
            made.take(position, events)
        else:
            made.ignored.append(Verdict(position, why))
