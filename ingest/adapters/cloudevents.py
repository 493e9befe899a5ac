"""CloudEvents 1.0 around messages of another format: structured, in batches, or binary with their headers.

What the event itself does not say, its envelope does: id, time, source and kind of a native event, and its
trace from the extension `traceparent`. A message of a foreign format names itself.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ingest import rows, strictjson
from ingest.adapters import adapter
from ingest.adapters.envelopes import Opened, unpacked
from ingest.adapters.json_values import as_text, traceparent
from ingest.adapters.mapping import read_options
from ingest.adapters.native import read_message
from ingest.decoded import Adapter, Decoded, Headers, Limits, Verdict
from ingest.defaults import FORMATS
from ledger.events import KINDS

FIELD_MAP: Final = (
    ("/id", "event_id"),
    ("/time", "time"),
    ("/source", "source"),
    ("/type", "kind"),
    ("/traceparent", "trace_id"),
    ("/traceparent", "parent_span_id"),
    ("/type", "attributes"),
    ("/subject", "attributes"),
    ("/data", "attributes"),
)
"""What the envelope says where the event in `data` does not; the format inside has a map of its own."""
GRADE: Final = 4
"""The context grade that it can reach: that of the format inside."""
_NAME: Final = "cloudevents"
_REQUIRED: Final = ("id", "source", "type")
_BINARY: Final = ("ce_", "ce-")
"""Before the names of attributes in headers: over Kafka, and over HTTP."""
_PLAIN: Final = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype", "dataschema",
                           "data", "data_base64", "traceparent", "tracestate", "partitionkey"})  # fmt: skip


class CloudEventsOptions(BaseModel):
    """Options of format `cloudevents`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: str = "native"
    """The format of what is in `data`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of that format."""

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in FORMATS or value == _NAME:
            raise ValueError(f"one of {', '.join(name for name in FORMATS if name != _NAME)} is expected")
        return value


class CloudEventsAdapter:
    """Keeps `ingest.decoded.HeaderAdapter`."""

    name = _NAME
    headers = ("content-type", *(f"{prefix}*" for prefix in _BINARY))

    def __init__(self, inner: Adapter) -> None:
        self._inner = inner

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """As `decode_with`, of messages without headers."""
        return self.decode_with(values, [{}] * len(values), limits, now)

    def decode_with(
        self, values: pa.LargeBinaryArray, headers: Sequence[Headers], limits: Limits, now: datetime
    ) -> Decoded:
        """Events of `values`; see `HeaderAdapter.decode_with`."""
        opened = Opened()
        for position, (message, told) in enumerate(zip(values.to_pylist(), headers, strict=True)):
            try:
                inner = [self._inside(*one) for one in _envelopes(message, told, limits)]
            except rows.Refused as error:
                opened.refused.append(Verdict(position, error.reason, None, error.field))
                continue
            if inner:
                opened.add(position, inner)
            else:
                opened.empty.append(Verdict(position, "no events"))
        decoded = self._inner.decode(pa.array(opened.inner, pa.large_binary()), limits, now)
        return unpacked(opened, decoded, limits)

    def _inside(self, envelope: Mapping[str, Any], data: Any) -> bytes:
        """The message in an envelope; a native event takes from it what it lacks."""
        for name in _REQUIRED:
            if as_text(envelope.get(name)) is None:
                raise rows.Refused("missing", name)
        if isinstance(data, bytes) and self._inner.name == "native":
            try:
                data = strictjson.loads(data) if data.strip() else None
            except strictjson.Unreadable as error:
                raise rows.Refused(error.reason, error.field) from None
        if isinstance(data, bytes):
            return data
        if self._inner.name == "native" and (data is None or isinstance(data, dict)):
            data = _filled(data or {}, envelope)
        if data is None:
            raise rows.Refused("missing", "data")
        return json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode()


def _envelopes(message: bytes, headers: Headers, limits: Limits) -> list[tuple[dict[str, Any], Any]]:
    """(attributes, data) of each event of a message; data are bytes where they came as such."""
    binary = _of_headers(headers)
    if "specversion" in binary:
        if len(message) > limits.message_bytes:
            raise rows.Refused(f"longer than {limits.message_bytes} bytes")
        _check_version(binary)
        return [(binary, message)]
    sent, _ = read_message(message, limits)
    return [_structured(one) for one in sent]


def _of_headers(headers: Headers) -> dict[str, Any]:
    """Attributes that stand in headers; over HTTP they are percent-encoded (HTTP binding, 3.1.3.2)."""
    found: dict[str, Any] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower.startswith(_BINARY):
            found[lower[3:]] = unquote(value) if lower[2] == "-" else value
        elif lower == "content-type":
            found.setdefault("datacontenttype", value)
    return found


def _check_version(envelope: Mapping[str, Any]) -> None:
    version = as_text(envelope.get("specversion"))
    if version is None or not version.startswith("1."):
        raise rows.Refused("missing" if version is None else "a version other than 1", "specversion")


def _structured(sent: Any) -> tuple[dict[str, Any], Any]:
    if not isinstance(sent, dict):
        raise rows.Refused("wrong type: object expected")
    _check_version(sent)
    coded, data = sent.get("data_base64"), sent.get("data")
    if coded is not None:
        try:
            return sent, base64.b64decode(coded, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise rows.Refused("no base64", "data_base64") from None
    media = (as_text(sent.get("datacontenttype")) or "application/json").partition(";")[0].strip().lower()
    if isinstance(data, str) and not media.endswith(("/json", "+json")):
        try:
            return sent, data.encode()
        except UnicodeEncodeError:
            raise rows.Refused("unpaired surrogate", "data") from None
    return sent, data


def _filled(event: dict[str, Any], envelope: Mapping[str, Any]) -> dict[str, Any]:
    trace, span = traceparent(envelope.get("traceparent")) or (None, None)
    kind = (as_text(envelope.get("type")) or "").rpartition(".")[2]
    given = {
        "event_id": envelope.get("id"),
        "time": envelope.get("time"),
        "source": envelope.get("source"),
        "kind": kind if kind in KINDS else None,
        "trace_id": trace,
        "parent_span_id": span if event.get("trace_id") in (None, trace) else None,
    }
    told = {name: value for name, value in envelope.items() if name not in _PLAIN}
    told["type"] = envelope.get("type")
    missing = {name: value for name, value in given.items() if value is not None and event.get(name) is None}
    return {**event, **missing, **({} if "cloudevent" in event else {"cloudevent": told})}


def from_options(options: Mapping[str, Any]) -> CloudEventsAdapter:
    """The adapter. Raises UsageError for an option that is unknown or unusable."""
    known = read_options(CloudEventsOptions, _NAME, options)
    return CloudEventsAdapter(adapter(known.format, known.options))
