"""Forged entries, forks, rollbacks and sleepers, against the real log and the real writer."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger.errors import DamageError, LedgerError
from ledger.format.manifest import (
    Append,
    Compact,
    CompactedFile,
    Expire,
    Gc,
    HeldRows,
    InvalidEntry,
    Key,
    Note,
    OffsetKey,
    Release,
    Tick,
    endorse_key,
    entry_bytes,
    event_path,
    instant,
    sign_entry,
)
from ledger.format.merkle import Tree, leaf_hash
from ledger.format.note import SignerKey
from ledger.format.tiles import decode_bundle, encode_bundle, entries_path
from ledger.log.commit_log import Log, open_log
from ledger.log.protocol import CHECKPOINT, drive
from ledger.log.signing import SigningKey, create_key
from ledger.sealing.segment import read_events
from ledger.writer import SOFTWARE, Writer, create_ledger
from tests.making import NOON, ORIGIN, Clock, row, stretch
from tests.simulated_store import SimulatedStore, Step


@dataclass
class Scene:
    """A ledger in memory with its key on disk."""

    place: Path
    store: SimulatedStore
    key: SigningKey
    clock: Clock = field(default_factory=Clock)

    def writer(self, store: SimulatedStore | None = None, **options: Any) -> Writer:
        return Writer(store or self.store.another(), SigningKey(self.key.path), clock=self.clock, **options)

    def entries(self) -> list[bytes]:
        return list(open_log(self.store.another()).entries)

    def remembered(self) -> tuple[bytes | None, bytes | None]:
        """What must not change when something is refused: the kept head and the checkpoint."""
        return self.key.kept_note(), self.store.objects.get(CHECKPOINT)

    def next_entry(self, kind: type[Any] = Tick, signer: SignerKey | None = None, **values: Any) -> bytes:
        """A rightly signed next entry, but for what `values` spoil."""
        tree = Tree(map(leaf_hash, self.entries()))
        given = {
            "index": tree.size,
            "prev": tree.root().hex(),
            "time": instant(self.clock()),
            "writer": "forger",
            "software": SOFTWARE,
            **values,
        }
        return entry_bytes(sign_entry(kind(**given), ORIGIN, signer or self.key.signer))

    def plant(self, entry: bytes) -> None:
        entries = [*self.entries(), entry]
        self.store.tamper(entries_path(0, len(entries)), encode_bundle(entries))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    create_key(tmp_path / "ledger.key", ORIGIN)
    key, store = SigningKey(tmp_path / "ledger.key"), SimulatedStore()
    scene = Scene(tmp_path, store, key)
    create_ledger(store, key, clock=scene.clock)
    scene.writer().commit([stretch([row(0), row(1)])])
    return scene


STRANGER = SignerKey.generate(ORIGIN)

FORGERIES: dict[str, Callable[[Scene], bytes]] = {
    "signed by a stranger": lambda s: s.next_entry(signer=STRANGER),
    "not signed": lambda s: s.next_entry().replace(b'"sig":"', b'"sig":"AA'),
    "another spelling of the signature": lambda s: _respelled(s.next_entry()),
    "another prev": lambda s: s.next_entry(prev="0" * 64),
    "an index before": lambda s: s.next_entry(index=1),
    "an index after": lambda s: s.next_entry(index=3),
    "a space more": lambda s: s.next_entry().replace(b'{"index":', b'{ "index":'),
    "bytes after it": lambda s: s.next_entry() + b"\n",
    "a field more": lambda s: s.next_entry().replace(b'{"index":', b'{"also":1,"index":'),
    "no JSON": lambda s: b"entry",
    "a file named twice": lambda s: s.next_entry(Gc, paths=[_segment(s)]),
    "a hold released that is none": lambda s: s.next_entry(Release, id="h", by="a", reason="r"),
    "a second init": lambda s: s.entries()[0],
    "an expiry before its time": lambda s: s.next_entry(
        Expire, paths=[_segment(s)], class_="standard", cutoff="2030-01-01", by="a", reason="r", grace=0
    ),
}


def _segment(scene: Scene) -> str:
    (path,) = open_log(scene.store.another()).state.files
    return path


def _respelled(entry: bytes) -> bytes:
    """The same 64 bytes of signature with other stray bits in the last character before the padding."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    at = entry.index(b'=="') - 1
    return entry[:at] + bytes([alphabet[alphabet.index(entry[at : at + 1]) + 1]]) + entry[at + 1 :]


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_nobody_builds_on_a_forged_entry(scene: Scene, forge: Callable[[Scene], bytes]) -> None:
    running = scene.writer()
    before = scene.remembered()
    scene.plant(forge(scene))
    objects = dict(scene.store.objects)
    for write in (
        lambda: running.put(Tick, {}),
        scene.writer,
        lambda: running.commit([stretch([row(5)], 2)]),
    ):
        with pytest.raises(DamageError):
            write()
    assert scene.remembered() == before
    assert dict(scene.store.objects) == objects
    assert len(scene.entries()) == 2


def test_a_planted_entry_that_is_right_is_rolled_forward(scene: Scene) -> None:
    """The control of the table above: only what is spoiled is refused."""
    scene.plant(scene.next_entry())
    assert scene.writer().state.size == 3
    assert len(scene.entries()) == 3


def test_an_old_key_signs_nothing_after_its_rotation(scene: Scene, tmp_path: Path) -> None:
    create_key(tmp_path / "new.key", ORIGIN)
    new = SigningKey(tmp_path / "new.key")
    old_log = Log(scene.store.another(), scene.key)
    old_log.refresh()
    rotation = Key(
        index=2, prev=old_log.commits.tree.root().hex(), time=instant(NOON), writer="w", software=SOFTWARE,
        vkey=new.signer.vkey,
    )  # fmt: skip
    rotation = sign_entry(endorse_key(rotation, ORIGIN, new.signer), ORIGIN, scene.key.signer)
    # Committed, and left for the new key to cover: its first checkpoint is its own.
    assert drive(old_log.commits.append(entry_bytes(rotation)), old_log._perform)
    writer = Writer(scene.store.another(), new, clock=scene.clock)
    assert writer.state.key == new.verifier
    assert open_log(scene.store.another()).head.size == 3

    with pytest.raises(LedgerError, match="this ledger's key is"):
        scene.writer()
    scene.plant(scene.next_entry(signer=scene.key.own))
    before = new.kept_note(), scene.store.objects[CHECKPOINT]
    with pytest.raises(InvalidEntry, match="not signed by"):
        writer.refresh()
    assert (new.kept_note(), scene.store.objects[CHECKPOINT]) == before


def test_a_winner_that_slept_past_its_bundle_has_lost(scene: Scene) -> None:
    """Its path was free again: the bundle had filled up and its partials had been cleaned away."""
    mine: list[str] = []

    def others_fill_the_bundle(step: Step) -> None:
        if step.op == "create" and step.path == entries_path(0, 3):
            mine.append(step.path)
            other = scene.writer(name="other")
            while other.state.size < 256:
                other.put(Tick, {})

    sleeper = scene.writer(scene.store.another(on_step=others_fill_the_bundle), name="sleeper")
    (entry,) = sleeper.commit([stretch([row(7)], 2)]).entries
    assert mine == [entries_path(0, 3)]
    assert entry.index == 256
    assert entries_path(0, 3) not in scene.store.objects
    assert len(scene.entries()) == 257


def test_a_sleeper_never_commits_files_that_gc_has_taken(scene: Scene) -> None:
    taken: list[str] = []

    def gc_takes_them(step: Step) -> None:
        if step.op == "create" and step.path.startswith("tile/entries/") and not taken:
            state = open_log(scene.store.another()).state
            taken.extend(
                path for path in scene.store.objects if path.startswith("events/") and not state.named(path)
            )
            scene.writer(name="gc").put(Gc, {"paths": taken})
            for path in taken:
                scene.store.tamper(path, None)

    sleeper = scene.writer(scene.store.another(on_step=gc_takes_them), name="sleeper")
    (entry,) = sleeper.commit([stretch([row(7)], 2)]).entries
    assert len(taken) == 1
    (ref,) = entry.segments
    assert ref.path not in taken
    assert read_events(scene.store.objects[ref.path]).column("event_id").to_pylist() == ["e7"]


def test_gc_that_comes_after_a_commit_spares_its_files(scene: Scene) -> None:
    with pytest.raises(InvalidEntry, match="live"):
        scene.writer().put(Gc, {"paths": [_segment(scene)]})
    assert len(scene.entries()) == 2


def test_a_merge_planned_before_an_expiry_does_not_bring_rows_back(scene: Scene) -> None:
    old = NOON - timedelta(days=500)
    writer = scene.writer()
    (entry,) = writer.commit([stretch([row(5, time=old)], 2)]).entries
    (more,) = writer.commit([stretch([row(6, time=old)], 3)]).entries
    refs = [entry.segments[0], more.segments[0]]
    merged = CompactedFile(
        path=event_path("standard", refs[0].date, "merged"), sha256="0" * 64, bytes=1, rows=2,
        holds=[HeldRows(segment=ref.path, from_=at, to=at + 1) for at, ref in enumerate(refs)],
    )  # fmt: skip

    def expire_first(step: Step) -> None:
        if step.op == "create" and not expired:
            expired.append(step.path)
            gone = {"class_": "standard", "cutoff": "2025-12-31", "by": "a", "reason": "due", "grace": 60}
            scene.writer(name="expiry").put(Expire, {"paths": [refs[0].path], **gone})

    expired: list[str] = []
    merger = scene.writer(scene.store.another(on_step=expire_first), name="merger")
    with pytest.raises(InvalidEntry):
        merger.put(Compact, {"files": [merged], "removed": [ref.path for ref in refs], "grace": 60})
    state = open_log(scene.store.another()).state
    assert refs[0].path in state.removed
    assert refs[1].path in state.files
    assert merged.path not in state.files


def test_a_ledger_that_was_rolled_back_is_refused(scene: Scene) -> None:
    past = scene.store.fork()
    scene.writer().put(Tick, {})
    before = scene.key.kept_note()
    objects = dict(past.objects)
    with pytest.raises(DamageError, match="rolled back"):
        scene.writer(past)
    assert scene.key.kept_note() == before
    assert dict(past.objects) == objects


def test_a_ledger_rolled_back_under_a_running_writer_is_refused(scene: Scene) -> None:
    past = dict(scene.store.objects)
    writer = scene.writer()
    writer.put(Tick, {})
    for path in list(scene.store.objects):
        scene.store.tamper(path, past.get(path))
    before = scene.key.kept_note()
    with pytest.raises(DamageError, match="rolled back"):
        writer.put(Tick, {})
    assert scene.key.kept_note() == before
    assert dict(scene.store.objects) == past


@pytest.mark.parametrize("more", [0, 1, 2])
def test_another_valid_history_of_the_same_key_is_refused(scene: Scene, tmp_path: Path, more: int) -> None:
    """A fork that is as long as what the key last signed, and longer ones."""
    (tmp_path / "other").mkdir()
    other_key = tmp_path / "other" / "ledger.key"
    other_key.write_bytes(scene.key.path.read_bytes())
    fork = scene.store.fork()
    forger = Writer(fork, SigningKey(other_key), clock=scene.clock)
    for number in range(1 + more):
        forger.put(Note, {"text": f"another history {number}"})
    scene.writer().put(Tick, {})
    before, objects = scene.key.kept_note(), dict(fork.objects)
    with pytest.raises(DamageError, match="not an extension"):
        scene.writer(fork)
    assert scene.key.kept_note() == before
    assert dict(fork.objects) == objects


def test_a_changed_past_is_refused_by_a_running_writer(scene: Scene) -> None:
    writer = scene.writer()
    path = entries_path(0, 3)
    first, *rest = decode_bundle(scene.store.objects[entries_path(0, 2)])
    scene.store.tamper(path, encode_bundle([first.replace(b"w", b"v", 1), *rest, scene.next_entry()]))
    with pytest.raises(DamageError, match="changed below"):
        writer.refresh()


def test_a_checkpoint_over_missing_entries_is_damage(scene: Scene) -> None:
    scene.store.tamper(entries_path(0, 2), None)
    with pytest.raises(DamageError):
        scene.writer()


def test_a_wrong_key_says_so_plainly(scene: Scene, tmp_path: Path) -> None:
    create_key(tmp_path / "wrong.key", ORIGIN)
    objects = dict(scene.store.objects)
    with pytest.raises(LedgerError, match="this ledger's key is") as caught:
        Writer(scene.store.another(), SigningKey(tmp_path / "wrong.key"), clock=scene.clock)
    assert "--key" in caught.value.remedy
    assert dict(scene.store.objects) == objects


def test_events_that_two_writers_seal_at_once_are_sealed_once(scene: Scene) -> None:
    """The second commits its own between the first one's look at the log and its try."""
    rows = [row(n) for n in range(10, 15)]
    sealed: list[Append] = []

    def overtake(step: Step) -> None:
        if step.op == "create" and step.path.startswith("tile/entries/") and not sealed:
            batch = stretch(rows[:3], key=OffsetKey("file:b"))
            sealed.extend(scene.writer(name="fast").commit([batch]).entries)

    slow = scene.writer(scene.store.another(on_step=overtake), name="slow")
    (entry,) = slow.commit([stretch(rows, key=OffsetKey("file:a"))]).entries
    assert (sealed[0].offsets[0].accepted, sealed[0].offsets[0].duplicate) == (3, 0)
    assert (entry.offsets[0].accepted, entry.offsets[0].duplicate) == (2, 3)


def test_writers_in_threads_seal_every_event_once(scene: Scene) -> None:
    writers, rounds = 3, 5
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            writer = scene.writer(name=f"w{number}")
            for n in range(rounds):
                shared = [row(100 + n), row(1_000 + number * 100 + n)]
                writer.commit([stretch(shared, 2 * n, OffsetKey(f"file:{number}"))])
        except BaseException as error:  # noqa: BLE001  # a thread hands its failure over
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    ids = list(_events(scene))
    assert sorted(ids) == sorted({*ids})
    assert len(ids) == 2 + rounds + writers * rounds
    accepted = [o.accepted or 0 for o in _offsets(scene)]
    assert sum(accepted) == len(ids)


def _events(scene: Scene) -> Iterator[str]:
    for path in open_log(scene.store.another()).state.files:
        if path.startswith("events/"):
            yield from read_events(scene.store.objects[path]).column("event_id").to_pylist()


def _offsets(scene: Scene) -> Iterator[Any]:
    writer = Log(scene.store.another(), scene.key)
    for entry in writer.refresh():
        if isinstance(entry, Append):
            yield from entry.offsets


def test_a_batch_over_too_many_days_goes_into_entries_that_follow_each_other(scene: Scene) -> None:
    rows = [row(100 + n, time=NOON - timedelta(days=n)) for n in range(200)]
    outcome = scene.writer().commit([stretch(rows, 2)])
    assert all(len(entry.segments) <= 64 for entry in outcome.entries)
    assert all(len(entry_bytes(entry)) <= 65_535 for entry in outcome.entries)
    edges = [(o.from_, o.to) for entry in outcome.entries for o in entry.offsets]
    assert (edges[0][0], edges[-1][1]) == (2, 202)
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(edges))
    assert len(list(_events(scene))) == 202


def test_a_message_over_too_many_days_is_a_rejected_dead_letter(scene: Scene) -> None:
    many = [row(100 + n, time=NOON - timedelta(days=n)) for n in range(65)]
    outcome = scene.writer().commit([stretch([], 2, messages=[[row(7)], many, [row(8)]])])
    offsets = [o for entry in outcome.entries for o in entry.offsets]
    assert (offsets[0].from_, offsets[-1].to) == (2, 5)
    assert (sum(o.accepted or 0 for o in offsets), sum(o.rejected or 0 for o in offsets)) == (2, 1)
    assert set(_events(scene)) == {"e0", "e1", "e7", "e8"}


def test_the_key_is_its_owners_alone_and_outside_the_ledger(scene: Scene) -> None:
    assert scene.key.path.stat().st_mode & 0o777 == 0o600
    private = scene.key.path.read_bytes().strip().split(b"+", 4)[-1]
    assert not any(private in data for data in scene.store.objects.values())
