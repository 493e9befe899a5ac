"""What each day's rows mean under the settings that are sealed in the ledger."""

from __future__ import annotations

from detections.metrics.by_day import Answers
from detections.metrics.figures import settings_of
from detections.metrics.kept_days import KeptDays
from detections.sealed_log import SealedLog
from ledger.reader import Ledger


def answers_of(ledger: Ledger, at: int | None, kept: KeptDays | None = None) -> Answers:
    """What statements say of the first `at` entries; `kept` holds what was worked out of days before."""
    timeline = SealedLog.of(ledger).timeline(at or ledger.size)
    return Answers(ledger, at, settings_of(timeline), kept=kept)
