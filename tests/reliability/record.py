"""What campaigns gave, kept in docs/reliability.json: each with the commit, the machine and its counts."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

from tests.reliability.campaign import Campaign, Tally

CHECKOUT = Path(__file__).resolve().parents[2]
RECORD = CHECKOUT / "docs" / "reliability.json"
OF_THE_RECORD = ("docs", "tests/reliability/record.py", "README.md", "CHANGELOG.md")
"""What may differ from the commit that figures are told for."""


def commit() -> str:
    """The commit of the checkout, marked where the sources differ from it."""
    told = _git("rev-parse", "--short=12", "HEAD")
    kept = [f":(exclude){path}" for path in OF_THE_RECORD]
    return f"{told}+" if _git("status", "--porcelain", "--", ".", *kept) else told


def machine() -> str:
    """Cores, memory, processor and system, in a line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    return f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.release()}"


def read() -> dict[str, dict[str, Any]]:
    """All that is kept, by the campaign's name."""
    found: dict[str, dict[str, Any]] = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    return found


def tally_of(name: str, at: str) -> Tally:
    """What a campaign gave so far at this commit; an empty one where it is of another."""
    found = read().get(name, {})
    if found.get("commit") != at:
        return Tally()
    counts, wrong = Counter(found["counts"]), Counter(found["wrong"])
    return Tally(found["cases"], found["seconds"], counts, wrong, found["failures"])


def keep(campaign: Campaign, at: str, tally: Tally) -> None:
    """Keep what a campaign gave so far; others may be at it too."""
    folder = os.open(RECORD.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        kept = read()
        kept[campaign.name] = {
            "shows": campaign.shows, "commit": at, "machine": machine(), "cases": tally.cases,
            "seconds": round(tally.seconds, 1), "counts": dict(sorted(tally.counts.items())),
            "wrong": {word: tally.wrong[word] for word in sorted({*campaign.never, *tally.wrong})},
            "failures": tally.failures,
        }  # fmt: skip
        made = RECORD.with_suffix(".tmp")
        made.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
        made.rename(RECORD)
    finally:
        os.close(folder)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
