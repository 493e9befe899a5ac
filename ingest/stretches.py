"""A chunk and what its adapter made of it, joined into what the writer seals."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest import rows
from ingest.chunk import Chunk
from ingest.decoded import Adapter, Decoded, HeaderAdapter, Headers, Limits, Verdict
from ingest.masking import mask_payload, mask_value
from ledger.events import ARROW_SCHEMA
from ledger.sealing.batch import ACCEPTED, IGNORED, REJECTED, SetAside, Stretch

BLANK = "blank"
HELD_NO_EVENT = "holds no event"


@dataclass(slots=True)
class Fate:
    """What became of the messages of a chunk; but for `refused` as `Stretch` has it.

    `refused` are the first few that the format itself could not read.
    """

    status: npt.NDArray[np.uint8]
    events: pa.Table
    message: npt.NDArray[np.int64]
    aside: dict[int, SetAside]
    refused: list[Verdict] = field(default_factory=list)
    leaves: pa.FixedSizeBinaryArray | None = None


def stretch_of(chunk: Chunk, fate: Fate) -> Stretch:
    """A chunk and the fate of its messages as what the writer seals."""
    return Stretch(
        key=chunk.key,
        start=chunk.start,
        end=chunk.end,
        offsets=chunk.offsets,
        values=chunk.values,
        status=fate.status,
        events=fate.events,
        message=fate.message,
        aside=fate.aside,
        skipped=chunk.skipped,
        lost=chunk.lost,
        read_bytes=chunk.read_bytes,
        prefix=chunk.prefix,
        prefix_at=chunk.prefix_at,
        digests=chunk.digests,
        objects=chunk.objects,
        leaves=fate.leaves,
    )


def fate_of(chunk: Chunk, decoded: Decoded, limits: Limits) -> Fate:
    """Set the coordinates of every event and the fate of every message of a chunk."""
    status = np.full(len(chunk.offsets), IGNORED, np.uint8)
    status[decoded.message] = ACCEPTED
    aside: dict[int, SetAside] = {}
    for verdict in decoded.ignored:
        aside[verdict.message] = SetAside(verdict.reason, verdict.part, verdict.field)
    for verdict in decoded.rejected:
        if (
            verdict.message not in chunk.truncated
            and not bytes(chunk.values[verdict.message].as_py()).strip()
        ):
            aside[verdict.message] = SetAside(BLANK)
            continue
        status[verdict.message] = REJECTED
        payload = _payload(chunk, verdict.message, limits)
        reason = verdict.reason
        if verdict.message in chunk.truncated:
            reason = too_long(chunk.truncated[verdict.message], limits)
        aside[verdict.message] = SetAside(reason, verdict.part, verdict.field, payload)
    for position in np.flatnonzero(status == IGNORED).tolist():
        aside.setdefault(position, SetAside(HELD_NO_EVENT))
    return Fate(status, _placed(decoded, chunk), decoded.message, aside)


def decoded_chunk(adapter: Adapter, chunk: Chunk, limits: Limits, now: datetime) -> Decoded:
    """What an adapter makes of a chunk; one that reads headers gets them too."""
    decoded = _decoded(adapter, chunk, limits, now)
    if not chunk.faults:
        return decoded
    sound = ~np.isin(decoded.message, list(chunk.faults))
    return Decoded(
        decoded.events.filter(pa.array(sound)),
        decoded.message[sound],
        [one for one in decoded.rejected if one.message not in chunk.faults]
        + [Verdict(at, reason) for at, reason in chunk.faults.items()],
        [one for one in decoded.ignored if one.message not in chunk.faults],
    )


def _decoded(adapter: Adapter, chunk: Chunk, limits: Limits, now: datetime) -> Decoded:
    if chunk.headers is not None and isinstance(adapter, HeaderAdapter) and adapter.headers:
        return adapter.decode_with(chunk.values, chunk.headers, limits, now)
    return adapter.decode(chunk.values, limits, now)


def _payload(chunk: Chunk, message: int, limits: Limits) -> bytes | None:
    """What a dead letter keeps of a message: masked, and with its headers where they are part of it."""
    value: bytes = chunk.values[message].as_py()
    clean = mask_payload(value[: limits.message_bytes])
    if clean is None or chunk.headers is None:
        return clean
    return with_headers(clean, mask_value(dict(chunk.headers[message]))[0])


def with_headers(value: bytes, headers: Headers) -> bytes:
    """A message and its headers as one text; `split_headers` takes them apart."""
    try:
        kept = {"headers": headers, "value": value.decode()}
    except UnicodeDecodeError:
        kept = {"headers": headers, "value_base64": base64.b64encode(value).decode()}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def split_headers(payload: bytes) -> tuple[bytes, Headers]:
    """The message and headers that `with_headers` joined; anything else is a message without headers."""
    try:
        kept = json.loads(payload)
    except ValueError:
        return payload, {}
    if not isinstance(kept, dict) or len(kept) != 2 or not isinstance(kept.get("headers"), dict):
        return payload, {}
    if isinstance(kept.get("value"), str):
        return kept["value"].encode(), kept["headers"]
    if isinstance(kept.get("value_base64"), str):
        return base64.b64decode(kept["value_base64"]), kept["headers"]
    return payload, {}


def _placed(decoded: Decoded, chunk: Chunk) -> pa.Table:
    events, rows = decoded.events, len(decoded.events)
    key = chunk.key
    columns = {
        "topic": pa.repeat(pa.scalar(key.topic, pa.string()), rows),
        "topic_id": pa.repeat(pa.scalar(key.topic_id, pa.string()), rows),
        "partition": pa.repeat(pa.scalar(key.partition, pa.int64()), rows),
        "record_offset": pa.array(chunk.offsets[decoded.message], pa.int64()),
    }
    for name, column in columns.items():
        at = ARROW_SCHEMA.get_field_index(name)
        events = events.set_column(at, ARROW_SCHEMA.field(at), column)
    return _with_masked(events, decoded, chunk) if chunk.masked else events


def _with_masked(events: pa.Table, decoded: Decoded, chunk: Chunk) -> pa.Table:
    """Set `masked` of events whose messages were masked before they came to rest."""
    at = ARROW_SCHEMA.get_field_index("masked")
    held: list[list[str] | None] = events.column(at).to_pylist()
    parts = events.column("part").to_pylist()
    attributes = events.column("attributes")
    for position, message in enumerate(decoded.message.tolist()):
        places = chunk.masked.get(message)
        if places is not None:
            text = attributes[position].as_py()
            own = rows.places_of_part(places, parts[position], text)
            held[position] = sorted({*(held[position] or ()), *own}) or None
    return events.set_column(at, ARROW_SCHEMA.field(at), pa.array(held, ARROW_SCHEMA.field(at).type))


def too_long(size: int, limits: Limits) -> str:
    """Why a message of so many bytes is refused."""
    # A source that gave up on a batch that expands without end does not know the size.
    seen = f"{size} bytes" if size >= 0 else "a size unknown"
    return f"too long: {seen}, where {limits.message_bytes} bytes are allowed"
