"""Two, four and eight writers at once on one ledger, and every step of theirs may fail, stall or be its last.

Right before any durable step of one writer another may run, down to all of them in one another. The store
keeps its contract strictly: of two conditional writes one wins.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ledger.errors import LedgerError
from ledger.log.signing import SigningKey
from ledger.upkeep.compaction import Compaction
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import SEED, Clock, signing_key
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import CLASSES
from tests.reliability.sending import Partition, check, copied, finish
from tests.simulated_store import Crash, Fault, How, SimulatedStore, Step, When

COUNTS = (2, 4, 8)
EVENTS = 24


class Crowd:
    """Writers over one store, each with its own handle, clock and partition."""

    def __init__(self, number: int, folder: Path, tally: Tally) -> None:
        self.chance = random.Random(f"writers {number}")
        self.tally = tally
        self.count = COUNTS[number % len(COUNTS)]
        self.clock = Clock()
        self.store = SimulatedStore()
        self.key = signing_key(folder, SEED)
        create_ledger(self.store, self.key, retention=CLASSES, clock=self.clock)
        self.partitions = [Partition.of(n, EVENTS, self.clock.now, self.chance) for n in range(self.count)]
        self.writers: list[Writer | None] = [None] * self.count
        self.busy: set[int] = set()
        tally.counts[f"{self.count} writers"] += 1

    def run(self) -> None:
        """Let them seal everything."""
        for _ in range(600):
            waiting = [one for one in range(self.count) if not self._done(one)]
            if not waiting:
                return
            self._act(self.chance.choice(waiting))

    def _done(self, one: int) -> bool:
        writer = self.writers[one]
        position = None if writer is None else writer.state.position(self.partitions[one].key)
        return position is not None and position.to == EVENTS

    def _act(self, one: int) -> None:
        self.busy.add(one)
        try:
            writer = self.writers[one] = self.writers[one] or self._opened(one)
            if self.chance.random() < 0.1:
                Compaction(writer, grace=0).run(fan_in=2, most=1)
                self.tally.counts["merges"] += 1
            else:
                self.partitions[one].send(writer, self.chance.randint(1, 6))
        except Crash:
            self.writers[one] = None
            self.tally.counts["crashes"] += 1
        except LedgerError as error:
            self.tally.counts[f"told: {type(error).__name__}"] += 1
            if self.chance.random() < 0.3:
                self.writers[one] = None
        finally:
            self.busy.discard(one)

    def _opened(self, one: int) -> Writer:
        faults = [
            Fault(
                op=self.chance.choice(("create", "replace", "sync", "delete", "read")),
                path=self.chance.choice(("*", "tile/*", "checkpoint", "events/*", "tile/entries/*")),
                skip=self.chance.randrange(30), when=self.chance.choice(list(When)),
                how=self.chance.choice(list(How)),
            )
            for _ in range(self.chance.randrange(5))
        ]  # fmt: skip
        store = self.store.another(faults, on_step=lambda step: self._interrupted(one, step))
        # Writers with one key share what it remembers, as workers on one machine do.
        return Writer(store, SigningKey(self.key.path), name=f"w{one}", clock=self.clock)

    def _interrupted(self, one: int, step: Step) -> None:
        if step.op == "read" or len(self.busy) >= self.count or self.chance.random() > 0.15:
            return
        others = [other for other in range(self.count) if other not in self.busy and not self._done(other)]
        if others:
            self.tally.counts["interruptions"] += 1
            self._act(self.chance.choice(others))


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            crowd = Crowd(number, Path(place), tally)
            crowd.run()
            last = Writer(crowd.store.another(), crowd.key, name="last", clock=crowd.clock)
            finish(crowd.partitions, last)
            vkey = crowd.key.verifier
            check(tally, f"case {number}", crowd.store.another(), vkey, crowd.partitions,
                  copied(crowd.store.objects, Path(place) / "copy"))  # fmt: skip
        tally.seconds = time.monotonic() - begun
        yield tally


CAMPAIGN = Campaign(
    "writers", "Two, four and eight writers in one another's way, failing and dying, seal every event once.",
    300, 4, ("lost", "doubled", "forks", "damaged"), run,
)  # fmt: skip
