"""Figures of single parts, measured by pytest: printed, and kept with those of `make bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import pytest

from tests.benchmarks.figures import commit, keep

Record = Callable[[str, Sequence[float], str, float | None], None]


@pytest.fixture(scope="session")
def record() -> Record:
    """Takes (figure, values of repeated runs, unit, target or None); the median counts."""

    def take(figure: str, values: Sequence[float], unit: str, target: float | None) -> None:
        keep(
            "figures",
            figure,
            {
                "value": round(median(values), 4), "unit": unit, "target": target, "commit": commit(),
                "spread": [round(min(values), 4), round(max(values), 4)],
            },
        )  # fmt: skip
        print(
            f"{figure}: {median(values):.4g} {unit} ({min(values):.4g} to {max(values):.4g}; target {target})"
        )

    return take
