"""What every curve is: some quantities, measured at each of a few sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity at one size. `target` is of the value; at most that, or at least where `rising`."""

    at: int
    what: str
    value: float
    unit: str
    target: float | None = None
    rising: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """`sizes` are what `make bench` measures at, `small` what the tests do; both ascend."""

    name: str
    says: str
    along: str
    sizes: tuple[int, ...]
    small: tuple[int, ...]
    measure: Callable[[Sequence[int], Path], Iterator[Point]]
    needs: Callable[[], str | None] = lambda: None
    """Why it cannot run on this machine, or None."""


def kept(curve: Curve, points: Sequence[Point], commit: str) -> dict[str, Any]:
    """A curve as docs/performance.json has it: one line per quantity."""
    lines: dict[str, Any] = {}
    for one in points:
        line = lines.setdefault(
            one.what, {"unit": one.unit, "targets": {}, "rising": one.rising, "points": []}
        )
        line["points"].append([one.at, round(one.value, 4)])
        if one.target is not None:
            line["targets"][str(one.at)] = one.target
    return {
        "says": curve.says,
        "along": curve.along,
        "sizes": list(curve.sizes),
        "lines": lines,
        "commit": commit,
    }


def complete(held: dict[str, Any] | None, commit: str) -> bool:
    """Whether every size was measured at this commit."""
    if held is None or held["commit"] != commit:
        return False
    measured = {at for line in held["lines"].values() for at, _ in line["points"]}
    return measured >= set(held["sizes"])
