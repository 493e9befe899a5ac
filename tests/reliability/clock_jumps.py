"""Clocks of one writer or two jump by days, both ways: nothing is lost, doubled or expired."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from ledger.log.signing import SigningKey
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.retention import apply
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import SEED, Clock, signing_key
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import CLASSES
from tests.reliability.sending import Partition, check, copied, finish
from tests.simulated_store import SimulatedStore

MOST_DAYS = 60
"""How far a clock jumps at most: beyond the memory for duplicates, which is seven days."""
EVENTS = 30


class JumpingClock:
    """Goes on by milliseconds, and jumps now and then."""

    def __init__(self, start: datetime, chance: random.Random, tally: Tally) -> None:
        self.now = start
        self._chance, self._tally = chance, tally

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        if self._chance.random() < 0.03:
            days = self._chance.uniform(-MOST_DAYS, MOST_DAYS)
            self.now += timedelta(days=days)
            self._tally.counts["jumps ahead" if days > 0 else "jumps back"] += 1
        return self.now


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        chance = random.Random(f"clock {number}")
        with tempfile.TemporaryDirectory(dir=folder) as place:
            store, steady = SimulatedStore(), Clock()
            key = signing_key(Path(place), SEED)
            create_ledger(store, key, retention=CLASSES, clock=steady)
            partitions = [Partition.of(n, EVENTS, steady.now, chance) for n in range(2)]
            writers = [
                Writer(store.another(), SigningKey(key.path), name=f"w{n}", clock=clock)
                for n, clock in enumerate(
                    (JumpingClock(steady.now, chance, tally),
                     JumpingClock(steady.now, chance, tally) if number % 2 else steady)
                )
            ]  # fmt: skip
            for _ in range(24):
                which = chance.randrange(2)
                match chance.randrange(6):
                    case 0:
                        Compaction(writers[which], grace=chance.choice((0, 60))).run(fan_in=2, most=1)
                    case 1:
                        writers[which].tick()
                    case 2:
                        # A machine whose clock is right must not let go what another's jump made look old.
                        gone = list(
                            apply(Writer(store.another(), key, name="sound", clock=steady), by="user:ann")
                        )
                        if gone:
                            tally.fail("expired early", f"case {number}: {gone[0].paths[:2]}")
                    case _:
                        partitions[which].send(writers[which], chance.randint(1, 5))
            finish(partitions, writers[0])
            check(tally, f"case {number}", store.another(), key.verifier, partitions,
                  copied(store.objects, Path(place) / "copy"))  # fmt: skip
        tally.seconds = time.monotonic() - begun
        yield tally


CAMPAIGN = Campaign(
    "clock-jumps", f"Clocks of writers jump by up to {MOST_DAYS} days, both ways.",
    200, 4, ("lost", "doubled", "forks", "damaged", "expired early"), run,
)  # fmt: skip
