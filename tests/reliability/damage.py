"""Random damage behind the writers' backs, over ledgers of many pasts: each must be found, where it is.

What is done to a file (flipped bits, cuts, bytes behind it, another file's content, its removal, another
table of rows) must be told at that file's path, and no whole file may be blamed. What is done to the ledger
as a whole (an older copy in its place, another history under the same key) must be told as that.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ledger.events import ARROW_SCHEMA, DEAD_LETTER_SCHEMA
from ledger.format.checkpoint import Checkpoint
from ledger.format.manifest import Note, parse_dead_letter_path
from ledger.format.note import SignedNote
from ledger.format.tiles import BUNDLE_WIDTH, parse_tile_path
from ledger.log.witness_policy import policy_in_force
from ledger.sealing.segment import parquet_bytes, read_dead_letters, read_events
from ledger.verify.findings import Finding, Report
from ledger.verify.heads import WITNESSED
from ledger.verify.verification import verify
from ledger.writer import Writer
from tests.faults.ledger_maker import Clock, signing_key
from tests.reliability.campaign import Campaign, Tally
from tests.reliability.lived_ledgers import Lived, Lives
from tests.simulated_store import SimulatedStore

EACH = 20
"""Cases on one ledger."""
CHECKPOINT = "checkpoint"


@dataclass
class Case:
    """One copy of a ledger, what was done to it, and what must be told."""

    lived: Lived
    store: SimulatedStore
    chance: random.Random
    folder: Path
    options: dict[str, Any] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    """Each must be named, and nothing else."""
    kinds: set[str] = field(default_factory=set)
    """One of these must be among the findings; any where it is empty."""
    whole: bool = True
    """Whether other paths may not be named: False where an entry is lost for good, with what it says."""

    def groups(self) -> dict[str, list[str]]:
        """The files that a reader relies on, by what they are."""
        state = self.lived.writer.state
        found: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self.store.objects):
            if path in state.files:
                found["letters" if parse_dead_letter_path(path) is not None else "segments"].append(path)
            elif path.startswith("tile/entries/"):
                found["entries"].append(path)
            elif path.startswith("tile/"):
                found["tiles"].append(path)
            elif path.startswith("config/"):
                found["config"].append(path)
            elif path in (CHECKPOINT, WITNESSED, "ledger.json"):
                found[path].append(path)
        return dict(found)

    def file(self) -> str:
        """One of them; each group as often as the others."""
        groups = self.groups()
        return self.chance.choice(groups[self.chance.choice(sorted(groups))])

    def put(self, path: str, data: bytes | None) -> None:
        """Put something else in the place of a file."""
        assert self.store.objects.get(path) != data
        self.paths.add(path)
        self.store.tamper(path, data)
        if path.startswith("tile/entries/"):
            self.whole = self.whole and self._copied(path)

    def _copied(self, path: str) -> bool:
        """Whether a whole copy of each entry of this bundle is left."""
        tile = parse_tile_path(path)
        assert tile is not None
        others = [
            other
            for one in self.store.objects
            if one not in self.paths and one.startswith("tile/entries/")
            and (other := parse_tile_path(one)) is not None and other.index == tile.index
        ]  # fmt: skip
        full = BUNDLE_WIDTH
        return any((other.width or full) >= (tile.width or full) for other in others)


def flip(case: Case) -> None:
    path = case.file()
    data = bytearray(case.store.objects[path])
    if not data:
        data = bytearray(b"x")
    for at in case.chance.sample(range(len(data)), min(len(data), case.chance.choice((1, 1, 1, 2, 3)))):
        data[at] ^= 1 << case.chance.randrange(8)
    case.put(path, bytes(data))


def cut(case: Case) -> None:
    path = case.file()
    data = case.store.objects[path]
    case.put(path, data[: case.chance.randrange(len(data))])


def lengthen(case: Case) -> None:
    path = case.file()
    more = case.chance.choice((b"\0", b"\n", b"x", case.chance.randbytes(40), case.store.objects[path]))
    case.put(path, case.store.objects[path] + more)


def blank(case: Case) -> None:
    """A run of zeros, as a disk leaves it that lost a block."""
    path = case.file()
    data = bytearray(case.store.objects[path])
    at = case.chance.randrange(len(data))
    end = min(len(data), at + case.chance.choice((4, 64, 512)))
    if not any(data[at:end]):
        data[at] = 1
    else:
        data[at:end] = bytes(end - at)
    case.put(path, bytes(data))


def remove(case: Case) -> None:
    """A file that is gone. Without `ledger.json` a ledger is whole: it is a copy, and may be made again."""
    path = case.file()
    while path in (WITNESSED, "ledger.json"):
        path = case.file()
    case.put(path, None)


def swap(case: Case) -> None:
    """Two files of one kind, each in the other's place."""
    groups = [
        paths for paths in case.groups().values() if len({case.store.objects[one] for one in paths}) > 1
    ]
    paths = case.chance.choice(groups)
    first = case.chance.choice(paths)
    second = case.chance.choice(
        [one for one in paths if case.store.objects[one] != case.store.objects[first]]
    )
    one, other = case.store.objects[first], case.store.objects[second]
    case.put(first, other)
    case.put(second, one)


def rows(case: Case) -> None:
    """Another table in a file's place, as well made as the first: rows changed, gone, twice, or moved."""
    groups = case.groups()
    path = case.chance.choice(groups[case.chance.choice([n for n in ("segments", "letters") if n in groups])])
    letters = parse_dead_letter_path(path) is not None
    read, schema = (read_dead_letters, DEAD_LETTER_SCHEMA) if letters else (read_events, ARROW_SCHEMA)
    table = read(case.store.objects[path]).to_pylist()
    before = [dict(one) for one in table]
    at = case.chance.randrange(len(table))
    match case.chance.randrange(4):
        case 0:
            column = case.chance.choice(["reason", "digest"] if letters else ["actor", "decision", "reason"])
            table[at][column] = "user:eve" if table[at][column] is None else None
        case 1:
            table.pop(at)
        case 2:
            table.insert(case.chance.randrange(len(table) + 1), dict(table[at]))
        case _:
            table.insert(case.chance.randrange(len(table)), table.pop(at))
    if table == before:
        table.pop(at)
    case.put(path, parquet_bytes(pa.Table.from_pylist(table, schema)))
    case.kinds = {"root", "rows", "row"}
    # The offsets that an entry says it sealed do not add up any more, which is told at the entry.
    case.whole = False


def extra(case: Case) -> None:
    """A file where the format has none."""
    name = case.chance.choice(
        ("tile/9/000", "tile/0/x999/999", "tile/entries/x001/000", "tile/0/000.p/255.bak", "notes.txt",
         "tile/data/000", "checkpoint.old")
    )  # fmt: skip
    case.put(name, case.chance.randbytes(64))
    case.kinds = {"extra", "changed", "checkpoint", "entry"}


def stale_checkpoint(case: Case) -> None:
    """The checkpoint of an older head over the newer log."""
    older = [note for note in case.lived.heads if _size(note) < case.lived.writer.state.size - 1]
    if not older:
        return flip(case)
    note = case.chance.choice(older)
    # Partial bundles go once a checkpoint covers the full one: by an older one's word they must be there.
    case.whole = _size(note) // BUNDLE_WIDTH == case.lived.writer.state.size // BUNDLE_WIDTH
    return case.put(CHECKPOINT, note)


def roll_back(case: Case) -> None:
    """An older copy of all of it, for a reader who saw a newer head."""
    size = case.lived.writer.state.size
    older = [one for one in case.lived.copies if one.size < size]
    if not older:
        return flip(case)
    case.store.restore(case.chance.choice(older).store.objects)
    case.options["kept"] = [Checkpoint.parse(SignedNote.parse(case.lived.heads[-1]).text)]
    case.paths, case.kinds = {CHECKPOINT}, {"rollback"}
    return None


def fork(case: Case) -> None:
    """Another history under the same key: told to who kept a head, and beside a copy, with the entry."""
    size = case.lived.writer.state.size
    older = [one for one in case.lived.copies if one.size < size]
    if not older:
        return flip(case)
    copy = case.chance.choice(older)
    twin = copy.store.fork()
    key = signing_key(case.folder, copy.seed, f"twin-{case.chance.getrandbits(64):x}.key")
    writer = Writer(twin, key, name="twin", clock=Clock(case.lived.clock.now), remember=False)
    for _ in range(size - copy.size + case.chance.randint(0, 2)):
        writer.put(Note, {"text": "another history"})
    case.store.restore(twin.objects)
    if case.chance.random() < 0.5:
        case.options["kept"] = [Checkpoint.parse(SignedNote.parse(case.lived.heads[-1]).text)]
        case.paths = {CHECKPOINT}
    else:
        case.options["against"] = case.lived.store.fork()
        case.options["at"] = copy.size
        case.whole = False
    case.kinds = {"fork"}
    return None


WAYS: dict[str, tuple[Callable[[Case], None], int]] = {
    "bits flipped": (flip, 5), "cut short": (cut, 2), "bytes appended": (lengthen, 2),
    "a run of zeros": (blank, 1), "file removed": (remove, 2), "files swapped": (swap, 2),
    "rows rewritten": (rows, 2), "file added": (extra, 1), "older checkpoint": (stale_checkpoint, 1),
    "rolled back": (roll_back, 1), "forked": (fork, 1),
}  # fmt: skip


def judge(case: Case, report: Report) -> str | None:
    """What `verify` missed or blamed wrongly, or None."""
    # Rows that a file has no more are missed at the entry that says it sealed them, besides.
    found = [one for one in report.damaged if one.kind != "offsets"] or report.damaged
    if not found:
        return "nothing was found"
    named = {finding.path for finding in found}
    if missed := case.paths - named:
        return f"not named: {sorted(missed)}; named: {_told(found)}"
    if case.kinds and not case.kinds & {finding.kind for finding in found}:
        return f"none of {sorted(case.kinds)}: {_told(found)}"
    if case.whole and (blamed := named - case.paths):
        return f"whole, and named: {sorted(blamed)}; damaged: {sorted(case.paths)}: {_told(found)}"
    at = case.options.get("at")
    if at is not None and at not in {finding.index for finding in found if finding.kind == "fork"}:
        return f"forked at entry {at}: {_told(found)}"
    return None


def run(cases: range, folder: Path) -> Iterator[Tally]:
    """See `Campaign.run`."""
    lives = Lives(EACH)
    for number in cases:
        begun = time.monotonic()
        tally = Tally(cases=1)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            life = lives.of(number, Path(place))
            chance = random.Random(f"damage {number}")
            case = Case(life, life.store.fork(), chance, Path(place))
            name = chance.choices(list(WAYS), [weight for _, weight in WAYS.values()])[0]
            WAYS[name][0](case)
            options = {key: value for key, value in case.options.items() if key != "at"}
            report = verify(case.store, vkey=case.lived.vkey, workers=1, **options)
        tally.counts[name] += 1
        if report.ok and _is_surplus(case):
            tally.counts["a cosignature beyond the quorum spoiled, the rest good"] += 1
            yield tally
            continue
        why = judge(case, report)
        if why is not None:
            tally.fail("missed" if report.ok else "misnamed", f"case {number}, {name}: {why}")
        tally.seconds = time.monotonic() - begun
        yield tally


def _is_surplus(case: Case) -> bool:
    """Whether only a cosignature more than the quorum was spoiled: one of an unknown key is nobody's."""
    if case.paths != {WITNESSED}:
        return False
    before, after = (SignedNote.parse(one.objects[WITNESSED]) for one in (case.lived.store, case.store))
    policy = policy_in_force(case.lived.writer.state, case.lived.store)
    return before.text == after.text and len(policy.signers(case.store.objects[WITNESSED])) >= policy.quorum


def _size(note: bytes) -> int:
    return Checkpoint.parse(SignedNote.parse(note).text).size


def _told(found: list[Finding]) -> str:
    return "; ".join(f"{one.kind} {one.where}: {one.message}" for one in found[:4])


CAMPAIGN = Campaign(
    "damage", "Random damage to ledgers with a past is found, and named where it is.", 2_100, 12,
    ("missed", "misnamed"), run,
)  # fmt: skip
