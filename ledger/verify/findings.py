"""What a verification found: every finding with its place, and the report that holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from ledger.format.checkpoint import Checkpoint
from ledger.format.plain_text import plain

Severity = Literal["damage", "listed"]
DamageKind = Literal[
    "missing",  # a file that must exist does not
    "changed",  # a file holds other bytes than were sealed, or none that make sense
    "extra",  # a file that nothing in the format names
    "unreadable",  # storage refuses to hand a file over, or it is as sealed and yet no table of ours
    "entry",  # an entry is invalid or wrongly signed, though the log holds it
    "wrong-key",  # signed, but not by the key that it must be
    "checkpoint",  # the checkpoint does not fit the entries
    "rollback",  # the log is shorter than it is known to have been
    "fork",  # the log's history is another one than is known
    "rows",  # a file holds more or fewer rows than were sealed
    "root",  # rows were changed, added, removed or reordered: their root is another one
    "row",  # a row that cannot be where it stands
    "summary",  # kinds or times are not what the entry says
    "offsets",  # a message without a row, or a row without a message
    "past-grace",  # a removed file that should be gone by now
]
ListedKind = Literal[
    "unsealed",  # a file that no entry names
    "temporary",  # what a writer left when it died
    "uncovered",  # the valid next entry, which no checkpoint covers yet
    "lost-race",  # a partial bundle of a writer that died before it saw that it had lost
    "pending",  # a removed file within its grace
    "repeated",  # an event that was sealed before and should have been seen as such
    "lost",  # messages that the broker removed before they were read
    "object-rewritten",  # an object that was sealed before and has other content now
]
MAX_ROW_FINDINGS: Final = 10_000
"""Findings of one kind that name single rows of one file, or single entries of one bundle; a last
one counts the rest."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `index` is an entry's place in the log, `row` a row of the file, both from 0."""

    severity: Severity
    kind: DamageKind | ListedKind
    path: str
    message: str
    index: int | None = None
    row: int | None = None

    @property
    def where(self) -> str:
        """The path with the entry or row."""
        parts = [self.path]
        if self.index is not None:
            parts.append(f"entry {self.index}")
        if self.row is not None:
            parts.append(f"row {self.row}")
        return ", ".join(parts)

    @property
    def order(self) -> tuple[bool, str, int, int, str]:
        """Damage first, then by place."""
        index = -1 if self.index is None else self.index
        row = -1 if self.row is None else self.row
        return (self.severity == "listed", self.path, index, row, self.kind)


def damage(
    kind: DamageKind, path: str, message: str, *, index: int | None = None, row: int | None = None
) -> Finding:
    """A finding that makes the verification answer no."""
    return Finding("damage", kind, path, message, index, row)


def listed(
    kind: ListedKind, path: str, message: str, *, index: int | None = None, row: int | None = None
) -> Finding:
    """A finding to know about that is no damage."""
    return Finding("listed", kind, path, message, index, row)


def row_findings(path: str, rows: Iterable[int], message: str) -> list[Finding]:
    """The same damage in each of these rows, MAX_ROW_FINDINGS of them one by one."""
    numbers = list(rows)
    found = [damage("row", path, message, row=row) for row in numbers[:MAX_ROW_FINDINGS]]
    if len(numbers) > MAX_ROW_FINDINGS:
        rest = len(numbers) - MAX_ROW_FINDINGS
        found.append(damage("row", path, f"{message} So do {rest} more rows.", row=numbers[MAX_ROW_FINDINGS]))
    return found


MAX_LISTED: Final = 10
"""Lines that one kind of what is no damage gets."""
_MODES: Final = {"sample": "sampled", "since": "since the kept head"}


@dataclass(slots=True)
class Report:
    """The answer of one verification. Counts say what was read and checked, not what the log claims."""

    mode: str
    findings: list[Finding] = field(default_factory=list)
    head: Checkpoint | None = None
    head_note: bytes | None = None
    """The checkpoint as it stands, where its signature and root check: what `--save-head` keeps."""
    pinned: bool = True
    """False where no key was given: then only the ledger itself says whose it is."""
    key: str | None = None
    seed: int | None = None
    """Of a sampled verification: which files it chose."""
    of_files: int | None = None
    """Of a sampled verification: how many files it chose from."""
    entries: int = 0
    files: int = 0
    bytes: int = 0
    events: int = 0
    deadletters: int = 0

    @property
    def ok(self) -> bool:
        """True where nothing is damaged; what is merely listed does not count."""
        return not self.damaged

    @property
    def damaged(self) -> list[Finding]:
        """The findings that are damage."""
        return [finding for finding in self.findings if finding.severity == "damage"]

    @property
    def listed(self) -> list[Finding]:
        """The findings that are no damage."""
        return [finding for finding in self.findings if finding.severity == "listed"]

    def to_json(self) -> dict[str, Any]:
        """JSON values only; findings with `path`, and `index` or `row` where they have one."""
        return {
            "ok": self.ok,
            "mode": self.mode,
            "head": None
            if self.head is None
            else {"origin": self.head.origin, "size": self.head.size, "root": self.head.root.hex()},
            "pinned": self.pinned,
            "key": self.key,
            "seed": self.seed,
            "of_files": self.of_files,
            "entries": self.entries,
            "files": self.files,
            "bytes": self.bytes,
            "events": self.events,
            "deadletters": self.deadletters,
            "findings": [
                {name: value for name, value in asdict(finding).items() if value is not None}
                for finding in self.findings
            ],
        }

    def _told(self) -> Iterator[Finding]:
        """All damage, and of each kind of what is merely listed the first few."""
        seen: Counter[str] = Counter()
        for one in self.findings:
            seen[one.kind] += one.severity == "listed"
            if one.severity != "listed" or seen[one.kind] <= MAX_LISTED:
                yield one

    def text(self) -> str:
        """One line per finding, then the answer."""
        lines = [plain(f"{f.severity:7} {f.kind:10} {f.where}: {f.message}") for f in self._told()]
        for kind, count in Counter(one.kind for one in self.listed).items():
            if count > MAX_LISTED:
                lines.append(f"listed  {kind:10} {count - MAX_LISTED:,} more; --json names all.")
        if not self.pinned:
            lines.append("not pinned: no key was given; this only shows that the ledger agrees with itself.")
        head = "no valid checkpoint" if self.head is None else f"{self.head.origin}, {self.head.size} entries"
        read = (
            f"{self.entries} entries, {self.files} files, {self.events} events and {self.deadletters} dead "
            f"letters read ({_MODES.get(self.mode, self.mode)})"
        )
        if self.of_files is not None:
            lines.append(f"sampled: {self.files} of {self.of_files} files; nothing is said about the others.")
        answer = "verified" if self.ok else f"DAMAGED, {_findings(len(self.damaged))}"
        lines.append(f"{answer}: {head}; {read}.")
        return "\n".join(lines) + "\n"


def _findings(count: int) -> str:
    return "1 finding" if count == 1 else f"{count} findings"
