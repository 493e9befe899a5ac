"""`python -m tests.benchmarks.comparisons [NAME…]`: run comparisons to their full size, and keep the figures.

A figure that was taken at this commit is not taken again unless it is named. Exit code 2 for an unknown name.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.benchmarks.comparisons.comparison import Comparison, Result, compare
from tests.benchmarks.comparisons.every import COMPARISONS
from tests.benchmarks.figures import commit, held, keep

ROUNDS = 3


def main(names: list[str]) -> int:
    """Run these, or all that this commit has no figure of."""
    known = {one.name: one for one in COMPARISONS}
    if unknown := [name for name in names if name not in known]:
        print(f"No figure is called {unknown[0]}. There are: {', '.join(known)}.", file=sys.stderr)
        return 2
    done = {name for name, figure in held()["figures"].items() if figure["commit"] == commit()}
    for name in names or [name for name in known if name not in done]:
        _run(known[name])
    return 0


def _run(one: Comparison) -> None:
    if (why := one.needs()) is not None:
        print(f"{one.name}: not run here: {why}")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = compare(one, one.size, ROUNDS, Path(folder))
    keep(one.name, figure(one, found))
    print(
        f"{one.name}: {found.ours:,.4g} {one.unit}, {one.peer} {found.peers:,.4g}; ratio {found.ratio:.2f} "
        f"({min(found.ratios):.2f} to {max(found.ratios):.2f}; target {one.target})",
        flush=True,
    )


def figure(one: Comparison, found: Result) -> dict[str, object]:
    """A result as it is kept; the spread is that of the ratio."""
    return {
        "says": one.says, "value": round(found.ours, 4), "unit": one.unit, "peer": one.peer,
        "peer_value": round(found.peers, 4), "ratio": round(found.ratio, 4), "target": one.target,
        "spread": [round(min(found.ratios), 4), round(max(found.ratios), 4)], "size": one.size,
        "rounds": len(found.ratios), "commit": commit(),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
