"""What has outlived its class and goes: planned from the log alone, and sealed before a file is deleted.

An `expire` entry names original segments. Their files are deleted once its grace is over; their roots stay in
the log, so what was proved of them before is proved still. What a hold covers stays (docs/ledger-format.md,
"Retention").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from ledger.defaults import GRACE_SECONDS
from ledger.format.manifest import Expire, RetentionClass
from ledger.format.state import LogState, class_of, day_of
from ledger.writer import Writer

MAX_PATHS: Final = 400
"""Segments that one entry names: it must stay below 65,535 bytes."""
REASON: Final = "older than its class is kept"


@dataclass(frozen=True, slots=True)
class Segment:
    """One original segment that is due. `bytes` are those it was sealed with; `holds` keep it."""

    path: str
    date: date
    rows: int
    bytes: int
    holds: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        held = {"holds": list(self.holds)} if self.holds else {}
        return {
            "path": self.path,
            "date": self.date.isoformat(),
            "rows": self.rows,
            "bytes": self.bytes,
            **held,
        }


@dataclass(slots=True)
class ClassPlan:
    """What of one class is due at the ledger's clock, and when more will be."""

    name: str
    rule: RetentionClass
    kept: int = 0
    """Segments that are not due."""
    due: list[Segment] = field(default_factory=list)
    held: list[Segment] = field(default_factory=list)
    next: date | None = None
    """The first day on which more is due."""

    @property
    def cutoff(self) -> date | None:
        """Segments of earlier days are due."""
        days = [one.date for one in (*self.due, *self.held)]
        return max(days) + timedelta(days=1) if days else None

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "class": self.name, "days": self.rule.days, "erasable": self.rule.erasable, "kept": self.kept,
            "due": [one.as_json() for one in self.due], "held": [one.as_json() for one in self.held],
            "next": None if self.next is None else self.next.isoformat(),
        }  # fmt: skip


class _NothingDue(Exception):
    """Holds, or another writer, took all of it meanwhile."""


def plan(
    state: LogState, classes: Mapping[str, RetentionClass], now: datetime | None = None
) -> list[ClassPlan]:
    """By class, what is due by the ledger's clock: its date lies more than the class's days back.

    `now` bounds that clock: one writer's that was years ahead must not let everything expire.
    """
    today = (state.clock if now is None else min(state.clock, now)).date()
    found = {name: ClassPlan(name, rule) for name, rule in sorted(classes.items())}
    for path, original in state.originals.items():
        if original.expired:
            continue
        one = found.get(class_of(path))
        if one is None or one.rule.days is None:
            if one is not None:
                one.kept += 1
            continue
        day = day_of(path)
        ref = original.ref
        if (today - day).days <= one.rule.days:
            one.kept += 1
            due = day + timedelta(days=one.rule.days + 1) if day.year < 9_000 else None
            if due is not None and (one.next is None or due < one.next):
                one.next = due
            continue
        holds = tuple(hold.id for hold in state.holds_on(path))
        segment = Segment(path, day, ref.rows, ref.bytes, holds)
        (one.held if holds else one.due).append(segment)
    for one in found.values():
        one.due.sort(key=lambda segment: (segment.date, segment.path))
        one.held.sort(key=lambda segment: (segment.date, segment.path))
    return list(found.values())


def apply(writer: Writer, *, by: str, reason: str = REASON, grace: int = GRACE_SECONDS) -> Iterator[Expire]:
    """Seal that what is due expires, MAX_PATHS segments an entry; a hold that comes in between counts.

    The files go with the first commit, or `sweep`, after the grace.
    """
    tried: set[str] = set()
    while True:
        for one in writer.look(lambda state: plan(state, writer.classes(), writer.clock())):
            paths = [segment.path for segment in one.due if segment.path not in tried][:MAX_PATHS]
            if paths:
                break
        else:
            return
        tried.update(paths)
        name = one.name

        def propose(
            paths: Sequence[str] = tuple(paths), name: str = name
        ) -> tuple[type[Any], dict[str, Any]]:
            due = {
                segment.path: segment.date
                for now in plan(writer.state, writer.classes(), writer.clock())
                if now.name == name
                for segment in now.due
            }
            still = [path for path in paths if path in due]
            days = [due[path] for path in still]
            if not days:
                raise _NothingDue
            cutoff = max(days) + timedelta(days=1)
            return Expire, {
                "paths": still, "class": name, "cutoff": cutoff.isoformat(), "by": by, "reason": reason,
                "grace": grace,
            }  # fmt: skip

        try:
            entry = writer.put_when(propose)
        except _NothingDue:
            continue
        assert isinstance(entry, Expire)
        yield entry


def totals(plans: Sequence[ClassPlan]) -> dict[str, int]:
    """Segments and bytes that are due, and that holds keep."""
    found: dict[str, int] = defaultdict(int)
    for one in plans:
        for name, segments in (("due", one.due), ("held", one.held)):
            found[f"{name}_segments"] += len(segments)
            found[f"{name}_bytes"] += sum(segment.bytes for segment in segments)
    return dict(found)
