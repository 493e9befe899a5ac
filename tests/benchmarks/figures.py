"""Figures, curves and the profile in docs/performance.json: each with its commit, and the machine of all."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Literal

import orjson

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/performance.json"
OF_THE_RECORD = ("docs", "README.md", "CHANGELOG.md")
"""What may differ from the commit that figures are told for."""
Shelf = Literal["figures", "curves", "profiles"]


def machine() -> dict[str, object]:
    """Cores, processor, memory and Python."""
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


def commit() -> str:
    """The commit of the checkout, marked where the sources differ from it."""
    kept = [f":(exclude){path}" for path in OF_THE_RECORD]
    return _git("rev-parse", "--short", "HEAD") + (
        "+" if _git("status", "--porcelain", "--", ".", *kept) else ""
    )


def held() -> dict[str, Any]:
    """All that is kept."""
    found: dict[str, Any] = orjson.loads(RESULTS.read_bytes()) if RESULTS.is_file() else {}
    return {"figures": {}, "curves": {}, "profiles": {}, **found}


def keep(shelf: Shelf, name: str, taken: dict[str, Any]) -> None:
    """Keep one of them, at once: a run may be cut short."""
    found = held()
    found[shelf][name] = taken
    found["machine"] = machine()
    made = RESULTS.with_suffix(".tmp")
    made.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
    made.rename(RESULTS)


def _git(*arguments: str) -> str:
    told = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return told.stdout.strip()
