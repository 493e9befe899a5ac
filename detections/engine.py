"""The engine: follows a ledger's log, judges what each entry brings, and seals the alerts that result.

Its progress and its alerts are one entry (topic `ledger:detections`): of several engines one wins
each stretch of the log, and the others go on from what it sealed. What it remembers is rebuilt at its start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Final

import structlog

from detections.alerting.own_events import own_stretch
from detections.configs.sealed import is_ours
from detections.configs.timeline import Timeline
from detections.recall.feed import is_derived
from detections.sealed_log import SealedLog, engine_position
from detections.watch import RuleTrouble, Watch
from ledger.format.manifest import Append, Config, Entry, Erase, Expire, OffsetKey, parse_instant
from ledger.format.state import ENGINE_TOPIC
from ledger.log.commit_log import SealedEntries
from ledger.sealing.batch import Stretch
from ledger.writer import Writer

KEY: Final = OffsetKey(ENGINE_TOPIC)
PROGRESS_EVERY: Final = timedelta(seconds=60)
"""Runs that find nothing seal their progress at most so often, by the ledger's clock."""
MAX_STEPS: Final = 20_000
"""Alert steps of one entry; more are sealed in several."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did: up to which entry, which steps were sealed, which rules could not be judged."""

    size: int
    steps: Sequence[Mapping[str, Any]]
    troubles: Mapping[str, RuleTrouble]


@dataclass
class Engine:
    """One engine over one ledger."""

    writer: Writer
    memory: dict[str, Any] = field(default_factory=dict)
    """Options of the memory: its limit in bytes, its threads."""

    def __post_init__(self) -> None:
        self._read = 0
        self._progress: datetime | None = None
        self._timeline = Timeline()
        self._start()

    @property
    def watch(self) -> Watch:
        """What the engine knows."""
        return self._watch

    def run(self) -> Run | None:
        """Judge what came since the last run; None where nothing did.

        A long backlog is judged step by step: call until it answers None.
        """
        self.writer.refresh()
        size = self.writer.state.size
        if size == self._read and not self._watch.waiting:
            return None
        source = self._log(size)
        entries = next(iter(source.steps(self._read, size)), [])
        ready = list(takewhile(lambda entry: not _rebuilds(entry), entries))
        if entries and not ready:
            self._restart(source, list(takewhile(_rebuilds, entries)))
            return Run(self._read, [], {})
        entries = ready
        end = self._read + len(entries)
        for _, steps in source.alert_steps(entries):
            self._watch.known.take_all(one for one in steps if not self._watch.known.has(one))
        self._watch.loader = source
        if not self._watch.waiting and all(is_derived(entry) for entry in entries):
            self._watch.recall(entries)
            self._read = end
            return Run(end, [], self._watch.troubles)
        steps = self._watch.advance(entries)
        self._read = end
        return self._seal(steps)

    def sealed_since(self, start: int) -> Iterator[tuple[Append, list[dict[str, Any]]]]:
        """The entries from `start` on that hold alert steps, with these: what routes are sent."""
        source = self._log(self.writer.state.size)
        return source.alert_steps(source.parsed(start, self.writer.state.size))

    def close(self) -> None:
        """Free the memory."""
        self._watch.close()

    def _start(self) -> None:
        self.writer.refresh()
        size = self.writer.state.size
        done = engine_position(self.writer.state)
        source = self._log(size)
        self._timeline = source.timeline(done)
        self._watch = Watch.over(self._timeline, source, **self.memory)
        for run in source.steps(0, done):
            for _, steps in source.alert_steps(run):
                self._watch.known.take_all(steps)
            self._watch.recall(run)
        self._read = done

    def _log(self, size: int) -> SealedLog:
        writer = self.writer
        return SealedLog(
            writer.store, writer.state, SealedEntries(writer.store, writer.log.commits.tree, size, [])
        )

    def _restart(self, source: SealedLog, entries: Sequence[Entry]) -> None:
        """Take in configurations, and judge anew all from the time at which they came into force."""
        fresh = [(parse_instant(entry.time), entry) for entry in entries if isinstance(entry, Config)]
        changed = self._timeline.take(self.writer.store, fresh)
        known = self._watch.known
        self._watch.close()
        self._watch = Watch.over(self._timeline, source, **self.memory)
        self._watch.known = known
        self._read += len(entries)
        for run in source.steps(0, self._read):
            self._watch.recall(run)
        if changed:
            self._watch.judge_from(min(changed))

    def _seal(self, steps: list[dict[str, Any]]) -> Run:
        now = self._watch.clocks.ledger
        due = self._progress is None or now - self._progress >= PROGRESS_EVERY
        if not steps and not due:
            return Run(self._read, [], self._watch.troubles)
        start = engine_position(self.writer.state)
        for at in range(0, max(1, len(steps)), MAX_STEPS):
            part = steps[at : at + MAX_STEPS]
            # Only the last of several moves on: after a crash between them all is judged again.
            end = self._read if at + MAX_STEPS >= len(steps) else start
            if self.writer.commit([derived(part, start, end)]).fenced:
                log.info("another engine was faster", entries=self._read)
                self._watch.superseded()
                return Run(self._read, [], self._watch.troubles)
            self._watch.sealed(part)
        self._progress = now
        return Run(self._read, steps, self._watch.troubles)


def derived(steps: Sequence[Mapping[str, Any]], start: int, end: int) -> Stretch:
    """Events of an engine that looked at entries [start, end)."""
    placed = [{**step, "record_offset": end - 1, "part": part} for part, step in enumerate(steps)]
    stretch = own_stretch(KEY, start, end, placed)
    stretch.derived = True
    return stretch


def _rebuilds(entry: Entry) -> bool:
    """Whether what is remembered is made anew: other rules, or rows that are gone (no alert is amended)."""
    return isinstance(entry, Erase | Expire) or (isinstance(entry, Config) and is_ours(entry.name))
