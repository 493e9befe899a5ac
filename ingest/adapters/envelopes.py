"""Messages that hold messages of another format: what the inner adapter made, told of the outer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingest.decoded import Decoded, Limits, Verdict
from ledger.events import ARROW_SCHEMA


@dataclass(slots=True)
class Opened:
    """Inner messages in the order of the outer ones; `owner[i]` is the outer message of `inner[i]`.

    `refused` and `empty` are outer messages without any.
    """

    inner: list[bytes] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)
    refused: list[Verdict] = field(default_factory=list)
    empty: list[Verdict] = field(default_factory=list)

    def add(self, message: int, inner: Sequence[bytes]) -> None:
        """The inner messages of one outer message."""
        self.inner += inner
        self.owner += [message] * len(inner)


def unpacked(opened: Opened, decoded: Decoded, limits: Limits) -> Decoded:
    """What became of the outer messages: each is accepted whole, or refused whole by its first bad part."""
    owner = np.array(opened.owner, np.int64)
    many = set(owner[1:][np.diff(owner) == 0].tolist())
    first = np.searchsorted(owner, owner) if len(owner) else owner
    rejected = {verdict.message: verdict for verdict in opened.refused}
    for verdict in decoded.rejected:
        outer = int(owner[verdict.message])
        nth = verdict.message - int(first[verdict.message])
        rejected.setdefault(
            outer, Verdict(outer, verdict.reason, nth if outer in many else verdict.part, verdict.field)
        )
    message = owner[decoded.message] if len(decoded.message) else decoded.message
    outers, counts = np.unique(message, return_counts=True)
    for outer in outers[counts > limits.events_per_message].tolist():
        reason = f"more than {limits.events_per_message} events in one message"
        rejected.setdefault(outer, Verdict(outer, reason))
    keep = ~np.isin(message, np.fromiter(rejected, np.int64, len(rejected)))
    message = message[keep]
    part = np.arange(len(message)) - np.searchsorted(message, message)
    at = ARROW_SCHEMA.get_field_index("part")
    events = decoded.events.filter(pa.array(keep)).set_column(
        at, ARROW_SCHEMA.field(at), pa.array(part, pa.int64())
    )
    settled = {*rejected, *message.tolist()}
    ignored = {verdict.message: verdict for verdict in opened.empty}
    for verdict in decoded.ignored:
        outer = int(owner[verdict.message])
        if outer not in settled:
            ignored.setdefault(outer, Verdict(outer, verdict.reason))
    return Decoded(
        events,
        message,
        [rejected[one] for one in sorted(rejected)],
        [ignored[one] for one in sorted(ignored)],
    )
