"""Every curve, in the order in which they are measured."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.curves import commits, events, workers

CURVES: Final = (commits.CURVE, workers.CURVE, events.CURVE)
