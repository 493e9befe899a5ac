"""Ledgers that look odd and are whole: each must verify, whatever is found beside it.

Left-overs of writers that died, files within their grace, heads not signed yet, caches, moved copies, kept
heads of every age, older copies, witnesses that are behind, samples and parts.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from ledger.errors import OutsideError
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import Note, dead_letter_path, event_path
from ledger.format.note import SignedNote, SignerKey
from ledger.storage.local_store import LocalStore
from ledger.verify.heads import WITNESSED
from ledger.verify.verification import verify
from ledger.writer import Writer
from tests.faults.ledger_maker import Clock, signing_key
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import Lived, Lives
from tests.simulated_store import Crash, Fault, How, When

EACH = 20
"""Cases on one ledger."""


@dataclass
class Variant:
    """A copy of a ledger, what was done to it, and how it is looked at."""

    lived: Lived
    store: Any
    chance: random.Random
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)

    def writer(self, *faults: Fault) -> Writer:
        """Another process with the key that signs now; it dies or fails as `faults` say."""
        name = f"again-{self.chance.getrandbits(64):x}.key"
        signer = self.lived.writer.log.key.signer
        assert isinstance(signer, SignerKey)
        key = signing_key(self.folder, signer.seed, name)
        clock = Clock(self.lived.clock.now)
        return Writer(self.store.another(faults), key, name="again", clock=clock, remember=False)


def as_it_is(variant: Variant) -> None:
    """Nothing was done."""


def left_overs(variant: Variant) -> None:
    """What writers leave that died between a file and its entry."""
    chance = variant.chance
    name = f"{chance.getrandbits(128):032x}"
    day = variant.lived.clock.now.date().isoformat()
    data = chance.choice(sorted(variant.store.objects.values(), key=len))
    for path in chance.sample(
        [event_path("standard", day, name), dead_letter_path(day, name), f"config/{name * 2}",
         f"events/{name}.tmp", f"{name}.tmp", f"tile/entries/{name}.tmp", "checkpoint.lock"],
        chance.randint(1, 5),
    ):  # fmt: skip
        variant.store.tamper(path, data[: chance.randrange(len(data) + 1)])


def died(variant: Variant) -> None:
    """A writer that died at one of its durable steps, before or after it took effect."""
    when = variant.chance.choice(list(When))
    try:
        writer = variant.writer(Fault(nth=variant.chance.randrange(9), when=when, how=How.CRASH))
        for number in range(3):
            writer.put(Note, {"text": f"note {number}"})
    except Crash:
        return


def failed(variant: Variant) -> None:
    """A writer whose writes failed, or may have, and who went on."""
    how = variant.chance.choice((How.OUTSIDE, How.UNKNOWN))
    nths = variant.chance.sample(range(12), 3)
    faults = [Fault(nth=nth, when=variant.chance.choice(list(When)), how=how) for nth in nths]
    try:
        writer = variant.writer(*faults)
    except OutsideError:
        return
    for number in range(4):
        try:
            writer.put(Note, {"text": f"note {number}"})
        except OutsideError:
            continue


def cached(variant: Variant) -> None:
    """Derived files, whole or not: nobody relies on them."""
    for name in ("cache/catalogue", "cache/lag/worker", "cache/days/x.parquet"):
        variant.store.tamper(name, variant.chance.randbytes(variant.chance.randrange(200)))


def swept(variant: Variant) -> None:
    """Removed files that went within their grace already, some of them."""
    live = variant.lived.writer.state.files
    gone = [
        path for path in variant.store.objects if path.startswith(("events/", "dead")) and path not in live
    ]
    for path in variant.chance.sample(gone, variant.chance.randint(0, len(gone))):
        variant.store.tamper(path, None)


def moved(variant: Variant) -> None:
    """In a folder on a disk."""
    folder = variant.folder / f"moved-{variant.chance.getrandbits(64):x}"
    for path, data in variant.store.objects.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    variant.store = LocalStore(folder)


def kept_heads(variant: Variant) -> None:
    """Heads of every age that somebody kept, also one that was signed and never published."""
    heads = variant.chance.sample(variant.lived.heads, min(3, len(variant.lived.heads)))
    variant.options["kept"] = [Checkpoint.parse(SignedNote.parse(note).text) for note in heads]


def since(variant: Variant) -> None:
    """Only what came after a kept head."""
    variant.options["since"] = variant.chance.choice(variant.lived.heads)


def sampled(variant: Variant) -> None:
    """The rows of a few files."""
    variant.options |= {"sample": variant.chance.randint(1, 5), "seed": variant.chance.getrandbits(32)}


def beside_a_copy(variant: Variant) -> None:
    """An older copy, and this one: either may be the one that is looked at."""
    if not variant.lived.copies:
        return
    copy = variant.chance.choice(variant.lived.copies).store.fork()
    if variant.chance.random() < 0.5:
        copy, variant.store = variant.store, copy
    variant.options["against"] = copy


def as_it_was(variant: Variant) -> None:
    """A copy from earlier: a ledger at one of its heads."""
    if variant.lived.copies:
        variant.store = variant.chance.choice(variant.lived.copies).store.fork()


def not_signed(variant: Variant) -> None:
    """The last entry is there, and no checkpoint covers it yet; or the witnessed head is an older one."""
    writer = variant.writer()
    note = variant.store.objects["checkpoint"]
    if variant.chance.random() < 0.5 and writer.state.size % 256 < 250:
        writer.put(Note, {"text": "not covered"})
        variant.store.tamper("checkpoint", note)
    else:
        variant.store.tamper(WITNESSED, None)


def later(variant: Variant) -> None:
    """Long after its last entry: nobody wrote, and nothing is overdue by that."""
    writer = variant.writer()
    writer.clock = Clock(variant.lived.clock.now + timedelta(seconds=variant.chance.randrange(600)))
    writer.sweep()


WAYS: dict[str, Callable[[Variant], None]] = {
    "as it is": as_it_is, "left-overs": left_overs, "a writer died": died, "writes failed": failed,
    "caches": cached, "swept early": swept, "moved to a folder": moved, "kept heads": kept_heads,
    "since a head": since, "sampled": sampled, "beside a copy": beside_a_copy, "an older copy": as_it_was,
    "not signed yet": not_signed, "opened later": later,
}  # fmt: skip
LOOKS = frozenset(
    {"kept heads", "since a head", "sampled", "beside a copy", "an older copy", "moved to a folder"}
)
"""Ways of looking, which come after what is done to the files."""


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    lives = Lives(EACH)
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            life = lives.of(number, Path(place))
            tally.counts.update(f"ledger {word}" for word in life.did)
            chance = random.Random(f"sound {number}")
            variant = Variant(life, life.store.fork(), chance, Path(place))
            done = chance.sample(sorted(set(WAYS) - LOOKS), chance.randint(1, 3))
            done.append(chance.choice(sorted(LOOKS)))
            for name in done:
                WAYS[name](variant)
                tally.counts[name] += 1
            report = verify(variant.store, vkey=life.vkey, workers=1, **variant.options)
        if not report.ok:
            words = "; ".join(f"{one.kind} {one.where}: {one.message}" for one in report.damaged[:4])
            tally.fail("false alarms", f"case {number}, {done}: {words}")
        tally.seconds = time.monotonic() - begun
        yield tally


CAMPAIGN = Campaign(
    "soundness", "Odd ledgers that are whole (compacted, expired, held, erased, rotated, witnessed, moved, "
    "left by a dead writer) raise no alarm.", 2_100, 12, ("false alarms",), run,
)  # fmt: skip
