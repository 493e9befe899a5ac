"""What a worker counts about itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from ingest.sources import Source
    from ledger.format.manifest import Append


class IngestMeters:
    """Throughput, commits, dead letters and lag of one run."""

    def __init__(self, source: Source) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("decision_ledger_ingest_events", "Events sealed.", registry=self.registry)
        self._messages = Counter(
            "decision_ledger_ingest_messages", "Messages by what became of them.", ["status"],
            registry=self.registry,
        )  # fmt: skip
        self._letters = Counter(
            "decision_ledger_ingest_dead_letters", "Messages that were set aside.", registry=self.registry
        )
        self._seconds = Histogram(
            "decision_ledger_ingest_commit_seconds", "From a batch in hand to its entry in the log.",
            registry=self.registry,
        )  # fmt: skip
        lag = Gauge(
            "decision_ledger_ingest_lag_messages", "Messages between what was handed over and the end.",
            registry=self.registry,
        )  # fmt: skip
        lag.set_function(_sum_of(source))

    def committed(self, entry: Append, seconds: float) -> None:
        """Count one sealed entry and how long its batch took."""
        self._events.inc(sum(ref.rows for ref in entry.segments))
        self._letters.inc(sum(ref.rows for ref in entry.deadletters))
        for row in entry.offsets:
            for status in ("accepted", "duplicate", "ignored", "rejected"):
                self._messages.labels(status).inc(getattr(row, status) or 0)
        self._seconds.observe(seconds)


def _sum_of(source: Source) -> Callable[[], float]:
    return lambda: float(sum(source.lag().values()))
