"""Each durable step of a commit fails, before or after it took effect; then everything must be as it should.

A row of the table is a step, how it fails, and who tries again: the same writer, or one that was
started anew. Once in the middle of a bundle, and once where the commit fills it.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import OutsideError
from ledger.format.manifest import OffsetKey, Tick
from ledger.format.state import LogState
from ledger.format.tiles import BUNDLE_WIDTH
from ledger.log.commit_log import open_log, replay
from ledger.log.signing import SigningKey, create_key
from ledger.sealing.batch import ACCEPTED, REJECTED, SetAside, Stretch
from ledger.sealing.segment import read_dead_letters, read_events
from ledger.writer import Outcome, Writer, create_ledger
from tests.c2sp_checker import check_log
from tests.making import ORIGIN, Clock, row, stretch
from tests.simulated_store import Crash, Fault, How, SimulatedStore, When

TOPIC = OffsetKey("decisions", 0, "q1Wl0r6pQ2mYx3b7Zt9KcA", "cluster")
KEPT_HEAD = "kept head"


@dataclass(frozen=True)
class At:
    """A step of a commit: `name` for the reader, the rest as in `Fault`."""

    name: str
    op: str
    path: str
    skip: int = 0


ALWAYS = (
    At("segment", "create", "events/*"),
    At("dead letters", "create", "deadletters/*"),
    At("sync of the head before", "sync", "tile/entries/*"),
    At("entry", "create", "tile/entries/*"),
    At("sync of the entry", "sync", "tile/entries/*", skip=1),
    At(KEPT_HEAD, "", ""),
    At("checkpoint", "replace", "checkpoint"),
)
IN_A_BUNDLE = (
    *ALWAYS,
    At("tile", "create", "tile/0/000.p/2"),
)
AT_ITS_END = (
    *ALWAYS,
    At("full tile", "create", "tile/0/000"),
    At("tile above", "create", "tile/1/000.p/1"),
    At("first partial bundle removed", "delete", "tile/entries/000.p/*"),
    At("some partial bundle removed", "delete", "tile/entries/000.p/*", skip=100),
    At("last partial bundle removed", "delete", "tile/entries/000.p/*", skip=BUNDLE_WIDTH - 2),
    At("first partial tile removed", "delete", "tile/0/000.p/*"),
    At("last partial tile removed", "delete", "tile/0/000.p/*", skip=BUNDLE_WIDTH - 2),
)
READS = (
    At("checkpoint read", "read", "checkpoint"),
    At("next entry looked for", "read", "tile/entries/*"),
)
LOOK_AGAIN = At("look again", "read", "tile/entries/000", skip=1)


@dataclass
class Base:
    """A ledger that stands one commit before what is tested, to be copied for each row of the table."""

    store: SimulatedStore
    folder: Path

    def key(self, place: Path) -> SigningKey:
        place.mkdir(exist_ok=True)
        for name in ("ledger.key", "ledger.key.head"):
            shutil.copy2(self.folder / name, place / name)
        return SigningKey(place / "ledger.key")


def _base(folder: Path, size: int) -> Base:
    create_key(folder / "ledger.key", ORIGIN)
    key, store, clock = SigningKey(folder / "ledger.key"), SimulatedStore(), Clock()
    create_ledger(store, key, clock=clock)
    writer = Writer(store, key, clock=clock)
    while writer.state.size < size:
        writer.put(Tick, {})
    return Base(store, folder)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Base]:
    sizes = {"in a bundle": 1, "at its end": BUNDLE_WIDTH - 1}
    return {name: _base(tmp_path_factory.mktemp("base"), size) for name, size in sizes.items()}


def batch() -> list[Stretch]:
    """Four messages: two events, one of them twice, and one that is rejected."""
    messages = [[row(0)], [row(1)], [], [row(1)]]
    status = [ACCEPTED, ACCEPTED, REJECTED, ACCEPTED]
    aside = {2: SetAside("not JSON", payload=b"{")}
    return [stretch([], 100, TOPIC, messages=messages, status=status, aside=aside)]


@dataclass
class FailingHead:
    """The store beside the key, whose `replace` fails once."""

    inner: Any
    when: When
    how: How
    left: int = 1

    def read(self, path: str) -> bytes | None:
        data: bytes | None = self.inner.read(path)
        return data

    def replace(self, path: str, decide: Callable[[bytes | None], bytes | None]) -> bool:
        self.left -= 1
        if self.left < 0:
            return bool(self.inner.replace(path, decide))
        if self.when is When.AFTER:
            self.inner.replace(path, decide)
        raise self.how.value("Simulated fault beside the key.")


def _rows() -> Iterator[Any]:
    for where, table in (("in a bundle", IN_A_BUNDLE), ("at its end", AT_ITS_END)):
        writers = ("same writer", "new writer") if where == "in a bundle" else ("new writer",)
        for at, when, how, again in product(table, When, How, writers):
            if how is How.CRASH and again == "same writer":
                continue
            name = f"{where}: {at.name}, {how.name.lower()} {when.value} the effect, {again}"
            yield pytest.param(where, at, when, how, again, id=name)
        reads = (*READS, LOOK_AGAIN) if where == "in a bundle" else READS
        for at, again in product(reads, ("same writer", "new writer")):
            yield pytest.param(
                where, at, When.BEFORE, How.OUTSIDE, again, id=f"{where}: {at.name} fails, {again}"
            )


@pytest.mark.parametrize(("where", "at", "when", "how", "again"), list(_rows()))
def test_after_a_fault_nothing_is_lost_and_nothing_doubled(
    bases: dict[str, Base], tmp_path: Path, where: str, at: At, when: When, how: How, again: str
) -> None:
    base = bases[where]
    key, clock = base.key(tmp_path / "key"), Clock()
    # Reads are counted from the writer's start, so the fault is armed once the writer stands.
    store = base.store.fork()
    writer = Writer(store, key, clock=clock)
    if at.name == KEPT_HEAD:
        key._store = FailingHead(key._store, when, how)  # type: ignore[assignment]  # a stand-in with two methods
    else:
        fault = Fault(when=when, how=how, op=at.op, path=at.path, skip=at.skip)
        armed = store.another([fault])
        writer.store = writer.log.store = armed
    first = _attempt(writer)

    retry = writer if again == "same writer" else Writer(store.another(), SigningKey(key.path), clock=clock)
    second = retry.commit(batch())
    _check_sealed_once(first, second)
    retry.store = retry.log.store = store.another()
    _check_known(retry)
    _check_ledger(store, key, tmp_path / "exported")


def test_the_table_names_every_durable_step_of_a_commit(bases: dict[str, Base], tmp_path: Path) -> None:
    for where, table in (("in a bundle", IN_A_BUNDLE), ("at its end", AT_ITS_END)):
        store = bases[where].store.fork()
        writer = Writer(store, bases[where].key(tmp_path / where), clock=Clock())
        assert not store.steps
        writer.commit(batch())
        for at in table:
            found = [step for step in store.steps if step.op == at.op and fnmatchcase(step.path, at.path)]
            assert len(found) > at.skip or at.name == KEPT_HEAD, at
        for step in store.steps:
            assert any(step.op == at.op and fnmatchcase(step.path, at.path) for at in table), step


def _attempt(writer: Writer) -> Outcome | None:
    try:
        return writer.commit(batch())
    except (OutsideError, Crash):
        return None


def _check_sealed_once(first: Outcome | None, second: Outcome) -> None:
    sealed = len(second.entries) + (len(first.entries) if first else 0)
    # Sealed by the attempt that failed: the second is told so, and by nobody else.
    assert (sealed, second.fenced) in ((1, []), (1, [TOPIC]), (0, [TOPIC]))
    assert second.entries or second.fenced == [TOPIC]
    assert first is None or not second.entries


def _check_known(writer: Writer) -> None:
    """The same events from elsewhere are duplicates: the memory of what is sealed has no hole."""
    (entry,) = writer.commit([stretch([row(0), row(1)], key=OffsetKey("file:other"))]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (0, 2)


def _check_ledger(store: SimulatedStore, key: SigningKey, folder: Path) -> None:
    objects = store.objects
    for path, data in objects.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    entries = check_log(folder, key.verifier.text)
    state, _ = replay(entries, pinned=key.verifier)
    assert list(open_log(store.another(), pinned=key.verifier).entries) == entries
    position = state.position(TOPIC)
    assert position is not None
    assert position.to == 104
    _check_files(state, objects)


def _check_files(state: LogState, objects: Any) -> None:
    assert state.files.keys() <= objects.keys()
    events: Counter[str] = Counter()
    letters: Counter[tuple[str, str]] = Counter()
    for path in state.files:
        if path.startswith("events/"):
            events.update(read_events(objects[path]).column("event_id").to_pylist())
        else:
            table = read_dead_letters(objects[path])
            letters.update(zip(table["topic"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert events == {"e0": 1, "e1": 1}
    assert letters == {
        ("decisions", "rejected"): 1,
        ("decisions", "duplicate"): 1,
        ("file:other", "duplicate"): 2,
    }


def test_a_segment_that_cannot_be_read_now_is_remembered_at_the_next_look(
    bases: dict[str, Base], tmp_path: Path
) -> None:
    base = bases["in a bundle"]
    key, store = base.key(tmp_path / "key"), base.store.fork()
    reading = store.another([Fault(op="read", path="events/*")])
    stalled = Writer(reading, key, clock=Clock())
    Writer(store.another(), SigningKey(key.path), clock=Clock()).commit(batch())
    other = partial(stretch, [row(0), row(1)], key=OffsetKey("file:other"))
    with pytest.raises(OutsideError):
        stalled.commit([other()])
    (entry,) = stalled.commit([other()]).entries
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (0, 2)
