"""The power goes at every point of a writer's work, and what was not synced is lost in some combination.

Afterwards the ledger verifies, holds everything that the writer's caller was told was sealed, and goes on:
the same messages are sent again from where the ledger says it stands, and none is lost or doubled.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ledger.config_cli import seal_config
from ledger.errors import LedgerError, UsageError
from ledger.format.manifest import Note, OffsetKey
from ledger.format.state import class_of
from ledger.log.signing import SigningKey, create_key, next_key_path, put_in_place
from ledger.reader import Ledger
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.erasure import erase
from ledger.upkeep.retention import apply
from ledger.verify.verification import verify
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import ORIGIN, Clock, event, stretch
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import CLASSES
from tests.reliability.recorded_disk import RecordedDisk

ORDERS = OffsetKey("orders", 0, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1")
SHARES = (0.0, 0.5, 1.0)
"""How much of what was not synced is there after all: nothing, each piece by chance, everything."""
STEPS = 8
FILLED = 250
"""Entries before the recording, in every third work: it goes over the end of a bundle."""
PARTS = 40
"""Cases that share the points of one work."""


@dataclass
class Work:
    """A writer at work on a recorded disk; `told` is what its caller knew after so many calls."""

    folder: Path
    chance: random.Random
    told: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    """After how many calls: the log's size, its root, the next offset."""

    def __post_init__(self) -> None:
        self.clock = Clock()
        create_key(self.folder / "ledger.key", ORIGIN)
        self.key = SigningKey(self.folder / "ledger.key")
        create_ledger(self.store, self.key, retention=CLASSES, clock=self.clock)
        self.writer = self.opened()
        self.next = 0

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "ledger")

    def opened(self) -> Writer:
        return Writer(self.store, self.key, name="test", clock=self.clock)

    def commit(self) -> None:
        self.writer.commit([_stretch(self.next, self.clock)])
        self.next += 3

    def step(self) -> None:
        """One thing that a writer does."""
        ways = [self.commit, self.commit, self.merge, self.expire, self.erase, self.rotate, self.settle]
        self.chance.choice(ways)()

    def merge(self) -> None:
        Compaction(self.writer, grace=0).run(fan_in=2, most=1)
        self.writer.sweep()

    def expire(self) -> None:
        self.clock.now += timedelta(days=3)
        self.writer.tick()
        list(apply(self.writer, by="user:ann", grace=0))
        self.writer.sweep()

    def erase(self) -> None:
        for path, one in self.writer.state.originals.items():
            if not one.expired and not one.erased and CLASSES[class_of(path)].erasable:
                list(erase(self.writer, {path: [0]}, by="user:dpo", reason="request", grace=0))
                self.writer.sweep()
                return

    def rotate(self) -> None:
        path = next_key_path(self.key.path)
        create_key(path, ORIGIN)
        new = SigningKey(path)
        self.writer.rotate(new)
        put_in_place(self.key.path, self.key)
        self.key = SigningKey(self.folder / "ledger.key")
        self.writer = self.opened()

    def settle(self) -> None:
        seal_config(self.writer, "tiers", f'{{"tier":{self.chance.randrange(9)}}}'.encode())

    def tell(self, disk: RecordedDisk) -> None:
        state = self.writer.state
        self.told.append((len(disk.calls), state.size, self.writer.log.commits.tree.root(), self.next))


def recovered(folder: Path, work: Work, cut: int) -> str | None:
    """What is wrong with a ledger after the power came back, or None."""
    store = LocalStore(folder / "ledger")
    known = [one for one in work.told if one[0] <= cut]
    report = verify(store, workers=1)
    if not report.ok:
        return f"damaged: {[f'{one.kind} {one.where}' for one in report.damaged[:4]]}"
    clock = Clock(work.clock.now)
    writer = _reopened(folder, clock)
    if known:
        _, size, root, offset = known[-1]
        if writer.state.size < size or writer.log.commits.tree.root(size) != root:
            return f"told of {size} entries, {writer.state.size} are there"
        position = writer.position(ORDERS)
        if offset and (position is None or position.to < offset):
            return f"told of offset {offset}, sealed to {position}"
    position = writer.position(ORDERS)
    start = 0 if position is None else position.to
    end = work.next + 6
    while start < end:
        writer.commit(
            [stretch(ORDERS, start, [[_event(number, clock)] for number in range(start, start + 3)])]
        )
        start += 3
    report = verify(store, workers=1)
    if not report.ok:
        return f"damaged after it went on: {[f'{one.kind} {one.where}' for one in report.damaged[:4]]}"
    with Ledger.open(str(folder / "ledger"), remember=False) as ledger:
        table = ledger.sql("SELECT event_id FROM events WHERE event_id IS NOT NULL")
        found = table.column(0).to_pylist()
    if len(found) != len(set(found)):
        return "an event is there twice"
    sealed = sum(one.ref.rows for one in writer.state.originals.values())
    return None if sealed == start else f"{start} messages, {sealed} rows sealed"


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`. A case is every PARTS-th point of one writer's work, each in three ways."""
    known: tuple[int, Work, RecordedDisk] | None = None
    with tempfile.TemporaryDirectory(dir=folder) as place:
        for number in cases:
            begun = time.monotonic()
            which, part = divmod(number, PARTS)
            if known is None or known[0] != which:
                known = (which, *_recorded(which, Path(place) / f"made-{which}"))
            _, work, disk = known
            tally = Tally(cases=1)
            chance = random.Random(f"lost {number}")
            for cut in range(part, len(disk.calls) + 1, PARTS):
                for share in SHARES:
                    disk.after(cut, chance, share).put(Path(place) / "after")
                    _recover(tally, disk, work, cut, share, Path(place) / "after")
            tally.seconds = time.monotonic() - begun
            yield tally


def _recorded(which: int, folder: Path) -> tuple[Work, RecordedDisk]:
    """A writer's work, and the calls that it was."""
    folder.mkdir()
    work = Work(folder, random.Random(f"power {which}"))
    while which % 3 == 2 and work.writer.state.size < FILLED:
        work.writer.put(Note, {"text": "note"})
    disk = RecordedDisk(folder)
    with disk.recording():
        for _ in range(STEPS):
            work.step()
            work.tell(disk)
    return work, disk


def _recover(tally: Tally, disk: RecordedDisk, work: Work, cut: int, share: float, after: Path) -> None:
    tally.counts["disks recovered"] += 1
    tally.counts[f"{share:.0%} of the rest kept"] += 1
    try:
        why = recovered(after, work, cut)
    except LedgerError as error:
        why = f"{type(error).__name__}: {error}"
    if why is not None:
        last = [f"{call.op} {'/'.join(call.place)}" for call in disk.calls[max(0, cut - 3) : cut]]
        tally.fail("not recovered", f"{work.folder.name}, {share}, after {cut} calls, {last}: {why}")
    shutil.rmtree(after)


def _reopened(folder: Path, clock: Clock) -> Writer:
    store = LocalStore(folder / "ledger")
    path = folder / "ledger.key"
    try:
        return Writer(store, SigningKey(path), name="again", clock=clock)
    except UsageError:
        # A rotation that was cut short: `key rotate` goes on with the next key, and so do we.
        return Writer(store, SigningKey(next_key_path(path)), name="again", clock=clock)


def _stretch(start: int, clock: Clock) -> Any:
    """Three messages from an offset on."""
    return stretch(ORDERS, start, [[_event(number, clock)] for number in range(start, start + 3)])


def _event(number: int, clock: Clock) -> dict[str, Any]:
    name = ("standard", "brief", "personal")[number // 3 % 3]
    nonce = f"{number:032x}" if CLASSES[name].erasable else None
    return event(number, retention=name, nonce=nonce, time=clock.now.replace(microsecond=0))


CAMPAIGN = Campaign(
    "power-loss",
    "The power goes after every call of a writer's work; what was not synced is lost, whole or in part.",
    4 * PARTS, 1, ("not recovered",), run,
    lambda: None if Path("/proc/self/fd").exists() else "there is no /proc here",
)  # fmt: skip
