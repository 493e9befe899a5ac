"""What every comparison is: rounds in which we and a peer do the same work, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol


class Sides(Protocol):
    """Both sides of one comparison, set up once. Each call does the whole work once and gives its figure."""

    def ours(self) -> float:
        """Our figure, in the comparison's unit."""
        ...

    def peers(self) -> float:
        """The peer's, in the same unit."""
        ...


SetUp = Callable[[int, Path], Any]
"""(size, folder) -> a context manager that gives `Sides`."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure. The ratio is ours by the peer's, so that more is better, unless `less_is_better`.

    `size` is what `make bench` runs, `small` what the tests run. `target` is of the ratio.
    """

    name: str
    says: str
    unit: str
    peer: str
    target: float | None
    size: int
    small: int
    set_up: SetUp
    needs: Callable[[], str | None] = lambda: None
    """Why it cannot run on this machine, or None."""
    less_is_better: bool = False
    value_target: float | None = None
    """What our own figure should keep to, where a promise is made in its unit."""


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over the rounds; the ratios are of the sides of one round each."""

    ours: float
    peers: float
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """The middle one."""
        return median(self.ratios)


def compare(one: Comparison, size: int, rounds: int, folder: Path) -> Result:
    """Run the rounds of a comparison. Who begins alternates, so that neither always finds warm caches."""
    ours, peers = [], []
    with one.set_up(size, folder) as sides:
        for number in range(rounds):
            if number % 2:
                peers.append(sides.peers())
                ours.append(sides.ours())
            else:
                ours.append(sides.ours())
                peers.append(sides.peers())
    pairs = zip(ours, peers, strict=True)
    ratios = [(theirs / mine if one.less_is_better else mine / theirs) for mine, theirs in pairs]
    return Result(median(ours), median(peers), ratios)


@contextmanager
def standing(sides: Sides) -> Iterator[Sides]:
    """Sides that need no end."""
    yield sides
