"""Ledgers with a past: a seed decides what happened to one, by the product's own writer and upkeep.

Events of several classes and days, duplicates, dead letters, lost ranges; merges, holds, erasures, expiries,
rotated keys, witnesses, settings, idle days. Everything is in memory; only the keys lie in a folder.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from ledger.config_cli import seal_config
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import HoldMatch, HoldPlaced, Note, OffsetKey, Release, RetentionClass
from ledger.format.note import SignedNote, SignerKey, VerifierKey
from ledger.format.state import class_of
from ledger.log.protocol import CHECKPOINT
from ledger.log.witness_policy import WITNESSES, Asked, Policy, policy_in_force
from ledger.sealing.batch import SetAside
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.erasure import erase
from ledger.upkeep.retention import apply
from ledger.witnessing.asking import Cosigned, keep
from ledger.witnessing.cosigning import Request, cosign, cosigner_key
from ledger.writer import Writer, create_ledger
from tests.faults.ledger_maker import SEED, Clock, event, signing_key, stretch
from tests.simulated_store import SimulatedStore

CLASSES = {
    "standard": RetentionClass(days=400, erasable=False),
    "personal": RetentionClass(days=90, erasable=True),
    "brief": RetentionClass(days=2, erasable=True),
    "legal": RetentionClass(days=None, erasable=False),
}
TRACES = tuple(f"{n:032x}" for n in range(1, 6))
STEPS = (4, 30)
"""How many things happen to a ledger, at least and at most."""


@dataclass(frozen=True)
class Copy:
    """The ledger as it stood once: how many entries it had, and the seed of the key that signed then."""

    store: SimulatedStore
    size: int
    seed: bytes


@dataclass
class Lived:
    """A ledger and what was kept of it on the way."""

    store: SimulatedStore
    writer: Writer
    clock: Clock
    vkey: VerifierKey
    heads: list[bytes] = field(default_factory=list)
    """The checkpoints as they stood, one after another."""
    copies: list[Copy] = field(default_factory=list)
    """Whole copies of the ledger, each at one of its heads."""
    did: set[str] = field(default_factory=set)


class Life:
    """What may happen to a ledger, drawn from one stream of chance."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        store, clock = SimulatedStore(), Clock()
        key = signing_key(folder, SEED)
        create_ledger(store, key, retention=CLASSES, clock=clock)
        writer = Writer(store, key, name="test", clock=clock)
        self.lived = Lived(store, writer, clock, key.verifier)
        self._next: dict[OffsetKey, int] = {}
        self._seed = SEED
        self._number = self._holds = self._keys = 0
        self._open: list[str] = []
        self._witnesses: list[SignerKey] = []
        self._sent: list[dict[str, Any]] = []

    def commit(self) -> None:
        keys = [OffsetKey("orders", n, "q1Wl0r6pQ2mYx3b7Zt9KcA", "lkc-1") for n in range(2)]
        keys.append(OffsetKey("file:notes"))
        chosen = self.chance.sample(keys, self.chance.randint(1, len(keys)))
        outcome = self.lived.writer.commit([self._stretch(key) for key in chosen])
        assert not outcome.fenced
        self.lived.did.add("sealed")

    def _stretch(self, key: OffsetKey) -> Any:
        start = self._next.get(key, 0)
        messages = [self._message() for _ in range(self.chance.randint(1, 12))]
        lost = []
        if key.topic_id and self.chance.random() < 0.1:
            # Compacted away, or gone before it was read: right behind the first message.
            lost = [(start + 1, start + 1 + self.chance.randint(1, 4))]
            self.lived.did.add("lost")
        made = stretch(key, start, messages, lost=lost)
        self._next[key] = made.end
        return made

    def _message(self) -> list[dict[str, Any]] | SetAside:
        drawn = self.chance.random()
        if drawn < 0.06:
            return SetAside("not JSON", payload=b"{")
        if drawn < 0.1:
            return SetAside("access")
        if drawn < 0.2 and self._sent:
            self.lived.did.add("repeated")
            return [self.chance.choice(self._sent[-20:])]
        return [self._event() for _ in range(self.chance.choice((1, 1, 1, 2, 3)))]

    def _event(self) -> dict[str, Any]:
        self._number += 1
        name = self.chance.choices(list(CLASSES), (6, 4, 3, 1))[0]
        back = timedelta(seconds=self.chance.randrange(2 * 86_400))
        made = event(
            self._number, time=self.lived.clock.now - back, retention=name,
            actor=f"user:{self.chance.randrange(9)}",
            trace_id=self.chance.choice((None, *TRACES)),
            nonce=f"{self.chance.getrandbits(128):032x}" if CLASSES[name].erasable else None,
            reason=self.chance.choice((None, "π ≈ 3", 'a "quoted" word', "x" * 200)),
        )  # fmt: skip
        self._sent.append(made)
        return made

    def merge(self) -> None:
        grace = self.chance.choice((0, 60))
        if Compaction(self.lived.writer, grace=grace).run(fan_in=2, most=self.chance.randint(1, 3)):
            self.lived.did.add("compacted")

    def hold(self) -> None:
        if self._open and self.chance.random() < 0.5:
            name = self._open.pop(self.chance.randrange(len(self._open)))
            self.lived.writer.put(Release, {"id": name, "by": "user:ann", "reason": "closed"})
            self.lived.did.add("released")
            return
        self._holds += 1
        name = f"h{self._holds}"
        match = self.chance.choice(
            (HoldMatch(trace_id=self.chance.choice(TRACES)), HoldMatch(class_="brief"),
             HoldMatch(actor=f"user:{self.chance.randrange(9)}"))
        )  # fmt: skip
        self.lived.writer.put(HoldPlaced, {"id": name, "match": match, "by": "user:ann", "reason": "case"})
        self._open.append(name)
        self.lived.did.add("held")

    def erase(self) -> None:
        state = self.lived.writer.state
        able = [
            path for path, one in state.originals.items()
            if not one.expired and path.startswith("events/") and CLASSES[class_of(path)].erasable
            and not list(state.holds_on(path))
        ]  # fmt: skip
        if not able:
            return
        path = self.chance.choice(able)
        one = state.originals[path]
        left = [row for row in range(one.ref.rows) if row not in one.erased]
        if not left:
            return
        rows = self.chance.sample(left, self.chance.randint(1, min(3, len(left))))
        grace = self.chance.choice((0, 60))
        assert list(erase(self.lived.writer, {path: rows}, by="user:dpo", reason="request 17", grace=grace))
        self.lived.did.add("erased")

    def expire(self) -> None:
        self.idle()
        grace = self.chance.choice((0, 60))
        if list(apply(self.lived.writer, by="user:ann", grace=grace)):
            self.lived.did.add("expired")

    def rotate(self) -> None:
        self._keys += 1
        seed = bytes([self._keys]) * 32
        new = signing_key(self.folder, seed, f"ledger-{self._keys}.key")
        self.lived.writer.rotate(new)
        self._seed = seed
        self.lived.did.add("rotated")

    def witness(self) -> None:
        writer = self.lived.writer
        if not self._witnesses:
            self._witnesses = [SignerKey(f"witness{n}.example", bytes([200 + n]) * 32) for n in range(3)]
            asked = tuple(Asked(cosigner_key(one), f"https://{one.name}") for one in self._witnesses)
            seal_config(writer, WITNESSES, Policy(2, asked).json())
        self.lived.did.add("witnessed")
        note = self.lived.store.objects[CHECKPOINT]
        found = Cosigned(Checkpoint.parse(SignedNote.parse(note).text), note)
        for one in self.chance.sample(self._witnesses, self.chance.randint(1, 3)):
            request = Request(0, (), note, found.checkpoint)
            found.note += cosign(request, one, int(self.lived.clock.now.timestamp())).encode()
            found.names.append(one.name)
        keep(self.lived.store, found, policy_in_force(writer.state, self.lived.store))

    def settle(self) -> None:
        data = f'{{"tier":{self.chance.randrange(99)}}}'.encode()
        seal_config(self.lived.writer, "tiers", data)

    def idle(self) -> None:
        days = self.chance.choice((0, 0, 1, 3))
        self.lived.clock.now += timedelta(days=days, seconds=self.chance.choice((61, 400)))
        self.lived.writer.tick()
        self.lived.writer.sweep()

    def fill(self) -> None:
        """Past the end of a bundle, now and then."""
        if self.chance.random() < 0.25:
            while self.lived.writer.state.size % 256 > 4:
                self.lived.writer.put(Note, {"text": f"entry {self.lived.writer.state.size}"})
            self.lived.did.add("bundled")

    def lead(self) -> Lived:
        """Live it."""
        ways: list[tuple[Callable[[], None], int]] = [
            (self.commit, 10), (self.merge, 3), (self.hold, 2), (self.erase, 3), (self.expire, 3),
            (self.rotate, 1), (self.witness, 2), (self.settle, 1), (self.idle, 2), (self.fill, 1),
        ]  # fmt: skip
        self.commit()
        for _ in range(self.chance.randint(*STEPS)):
            (way,) = self.chance.choices([one for one, _ in ways], [weight for _, weight in ways])
            way()
            note = self.lived.store.objects[CHECKPOINT]
            if not self.lived.heads or self.lived.heads[-1] != note:
                self.lived.heads.append(note)
                if self.chance.random() < 0.3:
                    self.lived.copies.append(
                        Copy(self.lived.store.fork(), self.lived.writer.state.size, self._seed)
                    )
        return self.lived


def lived(seed: int, folder: Path) -> Lived:
    """The ledger of a seed; its keys are made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with drawn_from(random.Random(f"names {seed}")):
        return Life(seed, folder).lead()


class Lives:
    """Ledgers by the number of a case: `each` cases in a row share one."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._known: tuple[int, Lived] | None = None

    def of(self, case: int, folder: Path) -> Lived:
        """The ledger of a case; its keys are made in `folder` where it is the first of its ledger."""
        seed = case // self._each
        if self._known is None or self._known[0] != seed:
            self._known = seed, lived(seed, folder)
        return self._known[1]


@contextmanager
def drawn_from(chance: random.Random) -> Iterator[None]:
    """What is random on purpose (names of files, nonces) comes from a seed: a case can be run again."""
    with (
        mock.patch("secrets.token_hex", lambda count: chance.randbytes(count).hex()),
        mock.patch("secrets.token_bytes", chance.randbytes),
        mock.patch("secrets.randbits", chance.getrandbits),
    ):
        yield
