"""Whether messages and rows add up: every offset that an entry seals is a row, a dead letter, or in a range.

Works on the coordinates that `ledger.verify.rows` read, entry by entry, and holds those of an entry
only until all its files have been seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ledger.format.manifest import Append, OffsetsRow
from ledger.format.state import ENGINE_TOPIC
from ledger.verify.facts import Coordinates, Key
from ledger.verify.findings import Finding, damage, row_findings
from ledger.verify.spans import judge_shared_name, judge_span


@dataclass(slots=True)
class SealedRows:
    """Rows of one original as they were found: where they lie now, and their coordinates by key.

    `shift` is what to add to a row of that file to get the row of the original.
    """

    path: str
    shift: int
    keys: dict[Key, Coordinates]


@dataclass(slots=True)
class _Account:
    """What one entry is still waiting for, and what it has."""

    entry: Append
    waiting: set[str]
    events: list[SealedRows] = field(default_factory=list)
    letters: list[SealedRows] = field(default_factory=list)
    complete: bool = True


class OffsetsCheck:
    """Fed the rows of each original, in any order; the findings of an entry come with its last one."""

    def __init__(self, appends: Mapping[int, Append], paths: Mapping[int, str]) -> None:
        self._paths = paths
        self._accounts = {
            index: _Account(entry, {s.path for s in entry.segments} | {d.path for d in entry.deadletters})
            for index, entry in appends.items()
        }
        self._wanted = {replay.path for entry in appends.values() for replay in entry.replays}
        self._replayable: dict[tuple[str, int], tuple[Key, int]] = {}
        self._seen_letters: set[str] = set()

    def entries_without_files(self) -> list[Finding]:
        """The findings of entries that have no file to wait for."""
        empty = [index for index, account in self._accounts.items() if not account.waiting]
        return [finding for index in empty for finding in self._judge(index)]

    def take(
        self, index: int, original: str, rows: list[SealedRows], *, letters: bool, whole: bool, sound: bool
    ) -> list[Finding]:
        """The rows of `original`, sealed by entry `index`.

        Not `whole`: some are erased. Not `sound`: they are not what was sealed, so they prove nothing
        about other entries.
        """
        account = self._accounts.get(index)
        if account is None or original not in account.waiting:
            return []
        account.waiting.discard(original)
        account.complete = account.complete and whole
        (account.letters if letters else account.events).extend(rows)
        if original in self._wanted and sound:
            self._remember(original, rows)
        return [] if account.waiting or account.entry.replays else self._judge(index)

    def remaining(self) -> list[Finding]:
        """The findings of entries some of whose files were not read, and of replays."""
        found: list[Finding] = []
        for index in sorted(self._accounts):
            account = self._accounts[index]
            account.complete = account.complete and not account.waiting
            found += self._judge(index)
        return found

    def _remember(self, original: str, rows: Iterable[SealedRows]) -> None:
        self._seen_letters.add(original)
        for one in rows:
            for key, at in one.keys.items():
                for row, offset in zip((at.row + one.shift).tolist(), at.offset.tolist(), strict=True):
                    self._replayable[original, row] = (key, offset)

    def _judge(self, index: int) -> list[Finding]:
        account = self._accounts.pop(index)
        if account.entry.replays:
            return self._judge_replays(account)
        return _judge_entry(index, self._paths[index], account)

    def _judge_replays(self, account: _Account) -> list[Finding]:
        replays = account.entry.replays
        if any(replay.path not in self._seen_letters for replay in replays):
            return []
        allowed: dict[Key, set[int]] = {}
        for replay in replays:
            place = self._replayable.get((replay.path, replay.row))
            if place is not None:
                allowed.setdefault(place[0], set()).add(place[1])
        found: list[Finding] = []
        for one in (*account.events, *account.letters):
            for key, at in one.keys.items():
                strange = ~np.isin(at.offset, list(allowed.get(key, ())))
                message = "It is not of a dead letter that its entry replays."
                found += row_findings(one.path, at.row[strange].tolist(), message)
        return found


def _judge_entry(index: int, path: str, account: _Account) -> list[Finding]:
    found: list[Finding] = []
    spans: dict[Key, list[OffsetsRow]] = {}
    for row in account.entry.offsets:
        spans.setdefault(_key_of(row), []).append(row)
    for one in (*account.events, *account.letters):
        for key, at in one.keys.items():
            if key not in spans:
                message = f"Its entry seals nothing of {key[0]}/{key[2]}."
                found += row_findings(one.path, at.row.tolist(), message)
    for key, rows in spans.items():
        if key[0] == ENGINE_TOPIC:
            continue  # its offsets are entries that were looked at, not messages
        events = [(one.path, one.keys[key]) for one in account.events if key in one.keys]
        letters = [(one.path, one.keys[key]) for one in account.letters if key in one.keys]
        judge = judge_span if len(rows) == 1 else judge_shared_name
        for problem in judge(rows, events, letters, found, complete=account.complete):
            found.append(damage("offsets", path, problem, index=index))
    return found


def _key_of(row: OffsetsRow) -> Key:
    return (row.topic_id or row.topic, row.topic_id is not None, row.partition)
