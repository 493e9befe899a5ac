"""Every interleaving within the bounds, on the real protocol; and on spoiled ones, which must be caught."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from ledger.errors import DamageError
from ledger.format.tiles import HashTile, hash_tile_path, tile_bytes
from ledger.log.protocol import Answer, CommitLog, Create, Read, Step, Steps, Sync
from tests.faults.commit_model import Bounds, Journal, Model, Violation, explore

USUAL = {
    "one key, crash": Bounds((2, 1), tiles=False, shared_key=True),
    "lost answer": Bounds((2, 1), tiles=False, crashes=0, unknowns=1),
    "three writers": Bounds((1, 1, 0), tiles=False, crashes=0),
    "reader": Bounds((2, 1), tiles=False, crashes=0, readers=1),
    "hash tiles, crash": Bounds((1, 1), width=2, tile_bits=1),
    "hash tiles cleaned": Bounds((1, 1), width=2, tile_bits=1, start=2, crashes=0),
    "hash tiles, lost answer": Bounds((1, 1), width=2, tile_bits=1, crashes=0, unknowns=1),
    "power loss": Bounds((2, 1), tiles=False, crashes=0, power_losses=1),
    "hash tiles, power loss": Bounds((1, 1), width=2, tile_bits=1, crashes=0, power_losses=1),
}
LONG = {
    "two keys, two crashes": Bounds((2, 2), tiles=False, crashes=2),
    "one key, two crashes": Bounds((2, 2), tiles=False, crashes=2, shared_key=True),
    "lost answer and crash": Bounds((2, 1), tiles=False, unknowns=1),
    "two lost answers": Bounds((2, 1), tiles=False, crashes=0, unknowns=2),
    "three writers": Bounds((1, 1, 1), tiles=False, crashes=0),
    "three writers, crash": Bounds((1, 1, 0), tiles=False),
    "reader and crash": Bounds((2, 1), tiles=False, readers=1),
    "hash tiles, lost answer and crash": Bounds((1, 1), width=2, tile_bits=1, unknowns=1),
    "power loss and crash": Bounds((2, 1), tiles=False, power_losses=1),
}


def _explored(bounds: Bounds) -> int:
    model = Model(bounds)
    states = explore(model)
    print(f"{states:,} states, {len(model.places):,} places of a process: {bounds}")
    return states


@pytest.mark.parametrize("bounds", USUAL.values(), ids=USUAL.keys())
def test_no_interleaving_breaks_a_promise(bounds: Bounds) -> None:
    assert _explored(bounds) > 5_000


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("bounds", LONG.values(), ids=LONG.keys())
def test_no_interleaving_breaks_a_promise_in_wider_bounds(bounds: Bounds) -> None:
    assert _explored(bounds) > 50_000


def _spoiled(
    steps: Generator[Step, Answer, Any], spoil: Callable[[Step, list[Step]], Any]
) -> Generator[Step, Answer, Any]:
    """`steps`, where `spoil` answers some of them itself; ... leaves a step as it is."""
    past: list[Step] = []
    try:
        step = next(steps)
        while True:
            answer = spoil(step, past)
            if answer is ...:
                answer = yield step
            past.append(step)
            step = steps.send(answer)
    except StopIteration as done:
        return done.value


class DoesNotLookAgain(CommitLog):
    """Believes that it won because its path was free."""

    def append(self, entry: bytes) -> Generator[Step, Answer, bool]:
        won: bool = yield from _spoiled(
            super().append(entry),
            lambda step, past: None if isinstance(step, Read) and isinstance(past[-1], Create) else ...,
        )
        return won


class TrustsPartials(CommitLog):
    """Does not look for the full bundle once it has found a partial one."""

    def refresh(self, hint: int = 0) -> Steps:
        found: list[bool] = [False]
        steps = super().refresh(hint)
        try:
            step = next(steps)
            while True:
                if isinstance(step, Read) and ".p/" not in step.path and found[0]:
                    step = steps.send(None)
                    found[0] = False
                    continue
                answer = yield step
                found[0] = isinstance(step, Read) and ".p/" in step.path and isinstance(answer, bytes)
                step = steps.send(answer)
        except StopIteration:
            return


class CleansEarly(CommitLog):
    """Removes partials before the checkpoint that makes them redundant."""

    def publish(self) -> Generator[Step, Answer, int]:
        yield from self._clean(self.published, self.size)
        return (yield from super().publish())


class TakesSilenceForSuccess(CommitLog):
    """Takes a lost answer for a yes."""

    def append(self, entry: bytes) -> Generator[Step, Answer, bool]:
        steps = super().append(entry)
        try:
            step = next(steps)
            while True:
                answer = yield step
                step = steps.send(True if isinstance(step, Create) and answer is None else answer)
        except StopIteration as done:
            won: bool = done.value
            return won


class NeverSyncs(CommitLog):
    """Builds on entries that a power loss may still take."""

    def append(self, entry: bytes) -> Generator[Step, Answer, bool]:
        won: bool = yield from _spoiled(super().append(entry), _without_sync)
        return won

    def publish(self) -> Generator[Step, Answer, int]:
        published: int = yield from _spoiled(super().publish(), _without_sync)
        return published


def _without_sync(step: Step, _: list[Step]) -> Any:
    return None if isinstance(step, Sync) else ...


class TrustsVisibleTiles(CommitLog):
    """Covers a hash tile that another writer has made visible and not yet durable."""

    def _complete(self, tile: HashTile) -> Steps:
        yield from _spoiled(super()._complete(tile), _without_sync)


class TakesGoneTilesForDamage(CommitLog):
    """Looks once: a partial tile that was cleaned meanwhile, or not written, counts as changed."""

    def _complete(self, tile: HashTile) -> Steps:
        path = hash_tile_path(tile.level, tile.index, None if tile.width >> self.tile_bits else tile.width)
        data = tile_bytes(self.tree, tile.level, tile.index, tile.width, self.tile_bits)
        if not (yield Create(path, data)) and (yield Read(path)) != data:
            raise DamageError(f"{path} does not hold the hashes of the log's entries.")


class PublishesBeforeTiles(CommitLog):
    """Leaves out the tiles that the checkpoint needs."""

    def _complete(self, tile: HashTile) -> Steps:
        yield from ()


SPOILED: dict[type[CommitLog], tuple[Bounds, str]] = {
    DoesNotLookAgain: (Bounds((2, 1), tiles=False, crashes=0), "believes"),
    TrustsPartials: (Bounds((2, 1), tiles=False), "believes|refuses a sound log"),
    CleansEarly: (Bounds((2, 1), tiles=False, crashes=0), "stands without"),
    TakesSilenceForSuccess: (Bounds((1, 1), tiles=False, crashes=0, unknowns=1), "believes"),
    NeverSyncs: (
        Bounds((1, 1), tiles=False, crashes=0, power_losses=1),
        "another history|power loss took|checkpoint",
    ),
    TrustsVisibleTiles: (Bounds((1, 1), width=2, tile_bits=1, crashes=0, power_losses=1), "stands without"),
    TakesGoneTilesForDamage: (
        Bounds((1, 1), width=2, tile_bits=1, start=2, crashes=0),
        "refuses a sound log",
    ),
    PublishesBeforeTiles: (Bounds((1, 0), crashes=0), "stands without"),
}


@pytest.mark.parametrize("kind", SPOILED, ids=lambda kind: kind.__name__)
def test_a_spoiled_protocol_is_caught(kind: type[CommitLog]) -> None:
    bounds, broken = SPOILED[kind]

    def spoiled(journal: Journal, bounds: Bounds) -> CommitLog:
        return kind(journal, width=bounds.width, tile_bits=bounds.tile_bits)

    with pytest.raises(Violation, match=broken) as caught:
        explore(Model(bounds, spoiled))
    print(caught.value)
