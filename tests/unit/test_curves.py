"""The curves and the profile of `make bench` in miniature. Nothing here asserts on time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import zstandard

from tests.benchmarks import more_events, stages, workload
from tests.benchmarks.curves.curve import Curve, Point, complete, kept
from tests.benchmarks.curves.every import CURVES
from tests.unit.conftest import Lend


@pytest.mark.parametrize("curve", CURVES, ids=lambda one: one.name)
def test_every_size_has_every_quantity(curve: Curve, tmp_path: Path, lend_broker: Lend) -> None:
    if (why := curve.needs()) is not None:
        pytest.skip(why)
    lend_broker(curve.needs)
    points = list(curve.measure(curve.small, tmp_path))
    by_size = [{one.what for one in points if one.at == size} for size in curve.small]
    assert by_size[0]
    assert all(one == by_size[0] for one in by_size)
    assert len(points) == len(curve.small) * len(by_size[0])
    assert all(one.value > 0 for one in points if "memory" not in one.what)


def _points(*sizes: int) -> list[Point]:
    return [
        Point(at, what, float(at), "s", 0.3 if at > 1 else None) for at in sizes for what in ("open", "trace")
    ]


CURVE = Curve("growing", "What grows", "events", (1, 10), (1,), lambda _sizes, _folder: iter(()))


def test_a_curve_is_kept_by_quantity() -> None:
    assert kept(CURVE, _points(1, 10), "abc") == {
        "says": "What grows", "along": "events", "sizes": [1, 10], "commit": "abc",
        "lines": {
            name: {"unit": "s", "targets": {"10": 0.3}, "rising": False, "points": [[1, 1.0], [10, 10.0]]}
            for name in ("open", "trace")
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("held", "whole"),
    [
        (None, False),
        (kept(CURVE, _points(1), "abc"), False),
        (kept(CURVE, _points(1, 10), "older"), False),
        (kept(CURVE, _points(1, 10), "abc"), True),
    ],
)
def test_a_curve_is_taken_again_unless_it_is_whole(held: dict[str, Any] | None, whole: bool) -> None:
    assert complete(held, "abc") is whole


def test_days_of_events_share_their_shape_and_no_id(tmp_path: Path) -> None:
    first, second = (
        [
            orjson.loads(line)
            for line in zstandard.ZstdDecompressor().decompress(path.read_bytes()).splitlines()
        ]
        for path in more_events.write_days(b"\n".join(workload.json_lines(300, 7)), 0, 2, tmp_path)
    )
    assert first == workload.events(300, 7)
    for name in workload.RANDOM_IDS:
        ours, theirs = [one[name] for one in first], [one[name] for one in second]
        assert not set(ours) & set(theirs)
        assert [ours.index(one) for one in ours] == [theirs.index(one) for one in theirs]
    assert {one["time"][:10] for one in second} == {"2026-11-22"}
    ids = {*workload.RANDOM_IDS, "time", "session_expires_at"}
    for one, other in zip(first, second, strict=True):
        assert {k: v for k, v in one.items() if k not in ids} == {
            k: v for k, v in other.items() if k not in ids
        }


def test_every_stage_has_its_cost(tmp_path: Path) -> None:
    found = stages.profile(600, 200, tmp_path)
    assert [one.name for one in found] == [
        stages.JSON, stages.CHECKS, stages.AUTHORITY, stages.LEAVES, stages.CARRIED, stages.DUPLICATES,
        stages.TREE, stages.PARQUET, stages.WRITTEN,
    ]  # fmt: skip
    assert {one.limit for one in found if one.least is not None} == {
        stages.BY_PYARROW, stages.BY_SHA256, stages.BY_PARQUET,
    }  # fmt: skip
    assert all(one.cost >= 0 for one in found)
