"""Every comparison of `make bench` in miniature: both sides do their work. Nothing here asserts on time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.__main__ import figure, main
from tests.benchmarks.comparisons.comparison import Comparison, Result, compare, standing
from tests.benchmarks.comparisons.every import COMPARISONS
from tests.unit.conftest import Lend


@pytest.mark.parametrize("one", COMPARISONS, ids=lambda one: one.name)
def test_both_sides_do_their_work(one: Comparison, tmp_path: Path, lend_broker: Lend) -> None:
    if (why := one.needs()) is not None:
        pytest.skip(why)
    lend_broker(one.needs)
    found = compare(one, one.small, 1, tmp_path)
    assert found.ours > 0
    assert found.peers > 0


class Counted:
    def __init__(self) -> None:
        self.said: list[str] = []

    def ours(self) -> float:
        self.said.append("ours")
        return float(len(self.said))

    def peers(self) -> float:
        self.said.append("peers")
        return 2.0


@pytest.mark.parametrize(("less", "ratios"), [(False, [0.5, 2.0, 2.5]), (True, [2.0, 0.5, 0.4])])
def test_who_begins_alternates_and_ratios_are_of_one_round(
    tmp_path: Path, less: bool, ratios: list[float]
) -> None:
    sides = Counted()
    one = Comparison(
        "x", "x", "events/s", "nobody", 1.0, 1, 1, lambda _size, _folder: standing(sides), less_is_better=less
    )
    found = compare(one, 1, 3, tmp_path)
    assert sides.said == ["ours", "peers", "peers", "ours", "ours", "peers"]
    assert found.ratios == ratios
    kept = figure(one, Result(found.ours, found.peers, found.ratios))
    assert (kept["peer"], kept["target"], kept["rounds"]) == ("nobody", 1.0, 3)


def test_an_unknown_figure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "files_vs_duckdb" in capsys.readouterr().err
