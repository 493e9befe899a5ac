"""Writes, syncs, links and renames that fail, one in so many, and disks that are full in the middle of work.

The errors are injected where the program calls the system, before or after the call took effect; the full
disk is a real file system of a few MiB, where the machine allows to mount one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ledger.errors import LedgerError
from ledger.log.signing import SigningKey, create_key
from ledger.storage.local_store import LocalStore
from ledger.upkeep.compaction import Compaction
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import ORIGIN, Clock
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import CLASSES
from tests.reliability.sending import Partition, check, finish

CALLS = ("write", "fsync", "link", "rename", "unlink", "mkdir")
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE)
EVENTS = 40
SMALL_DISK = "size=3m"
BALLAST_BYTES = 1 << 16


class FailingDisk:
    """Makes calls to the system fail by chance, while it is on."""

    def __init__(self, chance: random.Random, share: float, tally: Tally) -> None:
        self._chance, self._share, self._tally = chance, share, tally

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        """For as long as the block runs."""
        real = {name: getattr(os, name) for name in CALLS}
        for name, call in real.items():
            setattr(os, name, self._failing(name, call))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)

    def _failing(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._chance.random() > self._share:
                return real(*arguments, **options)
            number = self._chance.choice(ERRORS)
            self._tally.counts[f"{name} failed"] += 1
            if self._chance.random() < 0.5:
                real(*arguments, **options)
            raise OSError(number, os.strerror(number))

        return call


class Ledgered:
    """A ledger in a folder, two partitions, and a process that starts anew when it must."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance, self.clock = chance, Clock()
        # On a disk of its own: what a full or failing disk is tried on is the ledger.
        self.keys = folder / "keys"
        self.folder = folder / "disk" / "ledger"
        self.keys.mkdir()
        create_key(self.keys / "ledger.key", ORIGIN)
        create_ledger(LocalStore(self.folder), self._key(), retention=CLASSES, clock=self.clock)
        self.partitions = [Partition.of(n, EVENTS, self.clock.now, chance) for n in range(2)]
        self.writer: Writer | None = None

    def _key(self) -> SigningKey:
        return SigningKey(self.keys / "ledger.key")

    def opened(self) -> Writer:
        """Another process."""
        return Writer(LocalStore(self.folder), self._key(), name="w", clock=self.clock)

    def act(self) -> None:
        """One step of the work. Raises what it raises."""
        self.writer = self.writer or self.opened()
        if self.chance.random() < 0.15:
            Compaction(self.writer, grace=0).run(fan_in=2, most=1)
        else:
            self.chance.choice(self.partitions).send(self.writer, self.chance.randint(1, 5))

    def end(self, tally: Tally, name: str) -> None:
        """The disk is well again: everything is sealed, once."""
        finish(self.partitions, self.opened())
        check(tally, name, LocalStore(self.folder), self._key().verifier, self.partitions, self.folder)


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        chance = random.Random(f"disk {number}")
        with tempfile.TemporaryDirectory(dir=folder) as place:
            made = Ledgered(Path(place), chance)
            disk = FailingDisk(chance, chance.choice((0.01, 0.03, 0.1)), tally)
            for _ in range(30):
                try:
                    with disk.on():
                        made.act()
                except LedgerError:
                    tally.counts["told of an error"] += 1
                    if chance.random() < 0.4:
                        made.writer = None
            made.end(tally, f"case {number}")
        tally.seconds = time.monotonic() - begun
        yield tally


def run_full(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`. The disk is filled to another byte each time, and emptied again."""
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        chance = random.Random(f"full {number}")
        with tempfile.TemporaryDirectory(dir=folder) as place, _small_disk(Path(place) / "disk"):
            made = Ledgered(Path(place), chance)
            for _ in range(12):
                ballast = Path(place) / "disk" / "ballast"
                _fill(ballast, chance)
                try:
                    for _ in range(60):
                        made.act()
                except LedgerError as error:
                    tally.counts["full"] += 1
                    if "space" not in str(error) and "full" not in str(error):
                        tally.fail("not told that it is full", f"case {number}: {error}")
                    if chance.random() < 0.4:
                        made.writer = None
                ballast.unlink()
                if all(not one.send(made.opened(), 1) for one in made.partitions):
                    break
            made.end(tally, f"case {number}")
        tally.seconds = time.monotonic() - begun
        yield tally


def _fill(ballast: Path, chance: random.Random) -> None:
    """Take the room of the disk but for a little."""
    free = shutil.disk_usage(ballast.parent).free
    ballast.write_bytes(bytes(max(0, free - chance.randrange(4, BALLAST_BYTES))))


@contextlib.contextmanager
def _small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL_DISK, "tmpfs", str(place)], check=True, timeout=30)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=30)


def _may_mount() -> str | None:
    with tempfile.TemporaryDirectory() as place:
        try:
            with _small_disk(Path(place) / "disk"):
                return None
        except (OSError, subprocess.CalledProcessError):
            return "this user may not mount a file system"


CAMPAIGN = Campaign(
    "disk-errors", "Calls to the disk fail by chance (I/O error, no space, quota, read-only, too many "
    "files), before or after they took effect.", 300, 4, ("lost", "doubled", "forks", "damaged"), run,
)  # fmt: skip
FULL = Campaign(
    "disk-full", "A small disk is full at another byte each time, a dozen times a case.",
    60, 2, ("lost", "doubled", "forks", "damaged", "not told that it is full"), run_full, _may_mount,
)  # fmt: skip
