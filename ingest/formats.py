"""What messages look like that the asked format could not read: which other format would take them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ingest.adapters import adapter
from ingest.decoded import Limits, Verdict, in_words
from ingest.defaults import FORMATS

Ints = npt.NDArray[np.int64]
SAMPLE_MESSAGES: Final = 16
SAMPLE_MESSAGE_BYTES: Final = 262_144
"""A longer message is left out of the sample."""


class Sample:
    """The first few messages that a format could not read, why the first was, and the first that it could."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.refused: list[bytes] = []
        self.first_reason: str | None = None
        self.first: tuple[bytes, dict[str, Any]] | None = None
        """The first message that gave an event, and that event."""

    def take(
        self, values: pa.LargeBinaryArray, refused: Sequence[Verdict], message: Ints, events: pa.Table
    ) -> None:
        """Look at what a format made of `values`: `message` says of each event which one it came from."""
        if self.first is None and len(events):
            self.first = values[int(message[0])].as_py(), events.slice(0, 1).to_pylist()[0]
        for verdict in refused:
            if len(self.refused) == SAMPLE_MESSAGES:
                break
            held = values[verdict.message].as_buffer()
            if 0 < held.size <= SAMPLE_MESSAGE_BYTES:
                self.first_reason = self.first_reason or in_words(verdict.reason, verdict.field)
                self.refused.append(held.to_pybytes())

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
