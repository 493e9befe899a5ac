"""Every comparison, in the order in which they run."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.comparisons import files, freshness, reading, topics

COMPARISONS: Final = (*files.COMPARISONS, *topics.COMPARISONS, *reading.COMPARISONS, *freshness.COMPARISONS)
