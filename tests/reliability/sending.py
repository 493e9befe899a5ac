"""Sources that hand over each message until it is sealed, as a consumer does, and what is sealed at the end.

Every partition holds the same events in another order, so all but one copy of each is a duplicate: a ledger
that loses or doubles anything shows it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ledger.format.manifest import OffsetKey
from ledger.format.note import VerifierKey
from ledger.log.commit_log import open_log
from ledger.sealing.segment import read_events
from ledger.storage.store import Store
from ledger.verify.verification import verify
from ledger.writer import Writer
from tests.c2sp_checker import check_log
from tests.faults.ledger_maker import event, stretch
from tests.reliability.campaign import Tally


@dataclass
class Partition:
    """One partition of a topic, and the events that it holds by offset."""

    key: OffsetKey
    events: list[int]
    time: datetime

    @classmethod
    def of(cls, number: int, count: int, time: datetime, chance: random.Random) -> Partition:
        """The `number`th partition of `count` events in an order of its own."""
        events = list(range(count))
        chance.shuffle(events)
        return cls(OffsetKey("orders", number, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1"), events, time)

    def send(self, writer: Writer, most: int) -> bool:
        """Have at most `most` further messages sealed; False where all are. Raises what the writer raises."""
        writer.refresh()
        position = writer.position(self.key)
        start = 0 if position is None else position.to
        held = self.events[start : start + most]
        if held:
            messages = [[event(number, time=self.time)] for number in held]
            writer.commit([stretch(self.key, start, messages)])
        return bool(held)


def finish(partitions: list[Partition], writer: Writer) -> None:
    """Have everything sealed that is not yet."""
    for one in partitions:
        while one.send(writer, 50):
            pass


def check(
    tally: Tally, name: str, store: Store, vkey: VerifierKey, partitions: list[Partition],
    export: Path | None = None,
) -> None:  # fmt: skip
    """Count what a ledger lost, doubled or has wrong, now that all of it was sent.

    `export` is a folder in which a checker of others' looks at the log.
    """
    report = verify(store, vkey=vkey, workers=1)
    if not report.ok:
        told = [f"{one.kind} {one.where}: {one.message}" for one in report.damaged[:3]]
        tally.fail("damaged", f"{name}: {told}")
        return
    state = open_log(store, pinned=vkey).state
    found: Counter[str] = Counter()
    for path in state.files:
        if path.startswith("events/"):
            data = store.read(path)
            assert data is not None
            found.update(read_events(data).column("event_id").to_pylist())
    wanted = {f"event-{number:06}" for one in partitions for number in one.events}
    if lost := wanted - found.keys():
        tally.fail("lost", f"{name}: {len(lost)} of {len(wanted)}, such as {min(lost)}")
    if doubled := [one for one, times in found.items() if times > 1]:
        tally.fail("doubled", f"{name}: {len(doubled)}, such as {min(doubled)}")
    for one in partitions:
        position = state.position(one.key)
        if position is None or position.to != len(one.events):
            tally.fail("lost", f"{name}: {one.key.partition} stands at {position}")
    tally.counts["events sealed"] += len(wanted)
    tally.counts["duplicates kept apart"] += sum(len(one.events) for one in partitions) - len(wanted)
    if export is not None:
        try:
            check_log(export, state.key.text)
        except AssertionError as error:
            tally.fail("forks", f"{name}: {error}")


def copied(objects: dict[str, bytes] | Any, folder: Path) -> Path:
    """Objects as files, for a checker that reads a folder."""
    for path, data in objects.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder
