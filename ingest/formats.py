"""What messages look like that the asked format could not read: which other format would take them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa

from ingest.adapters import adapter
from ingest.decoded import Adapter, Decoded, HeaderAdapter, Headers, Limits, headers_of, in_words
from ingest.defaults import FORMATS

SAMPLE_MESSAGES: Final = 16
SAMPLE_MESSAGE_BYTES: Final = 262_144
"""A longer message is left out of the sample."""


class SampledAdapter:
    """An adapter that keeps the first few messages that it refused, and why the first was."""

    def __init__(self, inner: Adapter) -> None:
        self.name = inner.name
        self.headers = headers_of(inner)
        self.refused: list[bytes] = []
        self.first_reason: str | None = None
        self.first: tuple[bytes, dict[str, Any]] | None = None
        """The first message that gave an event, and that event."""
        self._inner = inner

    def decode(self, values: pa.LargeBinaryArray, limits: Limits, now: datetime) -> Decoded:
        """As the inner adapter does."""
        return self._sampled(self._inner.decode(values, limits, now), values)

    def decode_with(
        self, values: pa.LargeBinaryArray, headers: Sequence[Headers], limits: Limits, now: datetime
    ) -> Decoded:
        """As the inner adapter does, which reads headers."""
        assert isinstance(self._inner, HeaderAdapter)
        return self._sampled(self._inner.decode_with(values, headers, limits, now), values)

    def _sampled(self, decoded: Decoded, values: pa.LargeBinaryArray) -> Decoded:
        if self.first is None and len(decoded.events):
            row = decoded.events.slice(0, 1).to_pylist()[0]
            self.first = values[int(decoded.message[0])].as_py(), row
        for verdict in decoded.rejected:
            if len(self.refused) == SAMPLE_MESSAGES:
                break
            message = values[verdict.message].as_buffer()
            if 0 < message.size <= SAMPLE_MESSAGE_BYTES:
                self.first_reason = self.first_reason or in_words(verdict.reason, verdict.field)
                self.refused.append(message.to_pybytes())
        return decoded

    def looks_like(self, limits: Limits, now: datetime) -> list[str]:
        """Other formats that could read most of the messages that were refused, the best first."""
        values = pa.array(self.refused, pa.large_binary())
        usable = {
            name: len(set(adapter(name).decode(values, limits, now).message.tolist()))
            for name in FORMATS
            if name != self.name
        }
        return sorted(
            (name for name, count in usable.items() if count * 2 > len(self.refused)),
            key=lambda name: -usable[name],
        )
