"""Messages through a format's adapter, as the tests of formats need it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from ingest.adapters import adapter
from ingest.decoded import Decoded, Limits

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def decoded(format_: str, *messages: Any, limits: Limits | None = None, **options: Any) -> Decoded:
    """What a format makes of messages: bytes as they are, everything else as JSON."""
    values = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
    return adapter(format_, options).decode(pa.array(values, pa.large_binary()), limits or Limits(), NOW)


def events(format_: str, *messages: Any, **options: Any) -> list[dict[str, Any]]:
    """The events of messages of which none may be refused, with what is absent left out."""
    found = decoded(format_, *messages, **options)
    assert not found.rejected
    return [
        {name: value for name, value in one.items() if value is not None} for one in found.events.to_pylist()
    ]


def attributes(event: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an event."""
    read: dict[str, Any] = json.loads(event["attributes"])
    return read
