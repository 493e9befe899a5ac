"""Figures of `make bench`: printed, and kept with the commit and the machine that they are of."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import orjson
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/performance.json"

Record = Callable[[str, Sequence[float], str, float | None], None]


def _machine() -> dict[str, object]:
    cpu = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
         if line.startswith("model name")), platform.processor(),
    )  # fmt: skip
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "cpu": cpu,
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
    }


def _commit() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


@pytest.fixture(scope="session")
def record() -> Iterator[Record]:
    """Takes (figure, values of repeated runs, unit, target or None); the median counts."""
    held = orjson.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {"figures": {}}
    commit = _commit()

    def take(figure: str, values: Sequence[float], unit: str, target: float | None) -> None:
        held["figures"][figure] = {
            "value": round(median(values), 4), "unit": unit, "target": target, "commit": commit,
            "spread": [round(min(values), 4), round(max(values), 4)],
        }  # fmt: skip
        print(
            f"{figure}: {median(values):.4g} {unit} ({min(values):.4g} to {max(values):.4g}; target {target})"
        )

    yield take
    held["machine"] = _machine()
    RESULTS.write_bytes(orjson.dumps(held, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
