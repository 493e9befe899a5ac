"""`python -m tests.benchmarks [NAME…]`: measure to full size, and keep it in docs/performance.json.

What was taken at this commit is not taken again unless it is named. Exit code 2 for an unknown name.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.benchmarks import stages
from tests.benchmarks.comparisons.comparison import Comparison, Result, compare
from tests.benchmarks.comparisons.every import COMPARISONS
from tests.benchmarks.curves.curve import Curve, Point, complete, kept
from tests.benchmarks.curves.every import CURVES
from tests.benchmarks.figures import commit, held, keep

ROUNDS: Final = 3
PROFILE: Final = "stages"


def main(names: list[str]) -> int:
    """Run these, or all that this commit has no figure of."""
    works: dict[str, Callable[[], None]] = {PROFILE: _profiled}
    works.update({one.name: partial(_compared, one) for one in COMPARISONS})
    works.update({one.name: partial(_drawn, one) for one in CURVES})
    if unknown := [name for name in names if name not in works]:
        print(f"No figure is called {unknown[0]}. There are: {', '.join(works)}.", file=sys.stderr)
        return 2
    done = _done()
    for name in names or [name for name in works if name not in done]:
        works[name]()
    return 0


def _done() -> set[str]:
    now, all_of_it = commit(), held()
    done = {name for shelf in ("figures", "profiles") for name, one in all_of_it[shelf].items()
            if one["commit"] == now}  # fmt: skip
    return done | {one.name for one in CURVES if complete(all_of_it["curves"].get(one.name), now)}


def _compared(one: Comparison) -> None:
    if (why := one.needs()) is not None:
        print(f"{one.name}: not run here: {why}")
        return
    with tempfile.TemporaryDirectory() as folder:
        found = compare(one, one.size, ROUNDS, Path(folder))
    keep("figures", one.name, figure(one, found))
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
        "value_target": one.value_target,
        "spread": [round(min(found.ratios), 4), round(max(found.ratios), 4)], "size": one.size,
        "rounds": len(found.ratios), "commit": commit(),
    }  # fmt: skip


def _drawn(curve: Curve) -> None:
    """Points are kept as they come; a curve that was cut short is begun anew."""
    if (why := curve.needs()) is not None:
        print(f"{curve.name}: not run here: {why}")
        return
    points: list[Point] = []
    with tempfile.TemporaryDirectory() as folder:
        for point in curve.measure(curve.sizes, Path(folder)):
            points.append(point)
            keep("curves", curve.name, kept(curve, points, commit()))
            print(
                f"{curve.name}: {point.at:,} {curve.along}: {point.what}: {point.value:,.4g} {point.unit}",
                flush=True,
            )


def _profiled() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = stages.profile(stages.BATCH, stages.CHUNK, Path(folder))
    keep("profiles", PROFILE, stages.kept(found, stages.BATCH, commit()))
    for one in found:
        least = "" if one.least is None else f"; {one.limit}: {one.least:.2f}"
        print(f"{PROFILE}: {one.name}: {one.cost:.2f} CPU µs an event{least}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
