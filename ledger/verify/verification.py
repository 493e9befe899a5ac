"""Check that everything that was sealed is still exactly what was sealed, and name all that is not.

    report = verify(open_store(url), vkey=pinned, kept=[head_verified_last_time])

The order is that of trust: the key, the checkpoint, the log, each entry, each file, each row, each
offset. Whatever the folder holds, the answer is a report; exceptions are for storage that cannot
be reached and for places where no ledger is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from ledger.errors import NotALedger, UsageError
from ledger.format.checkpoint import Checkpoint
from ledger.format.note import VerifierKey
from ledger.format.state import LiveFile
from ledger.log.protocol import CHECKPOINT
from ledger.storage.store import Store
from ledger.verify.files import FilesCheck, Progress, task_of
from ledger.verify.findings import Finding, Report, damage, listed
from ledger.verify.folder import LEDGER_JSON, check_folder, is_ledger, ledger_json_init, ledger_json_vkey
from ledger.verify.heads import check_against, check_kept, check_signer, check_witnessed, parse_kept
from ledger.verify.keys import read_key
from ledger.verify.log_check import check_log
from ledger.verify.log_view import LogView
from ledger.verify.offsets import OffsetsCheck
from ledger.verify.reading import forgiving_read
from ledger.verify.repeats import RepeatsCheck
from ledger.verify.workers import facts_of

__all__ = ["Finding", "Report", "ledger_json_key", "verify"]

MAX_ATTEMPTS: Final = 5
"""Times that the log is read again because a writer moved it on meanwhile."""
WORKERS: Final = 2


def verify(
    store: Store,
    *,
    vkey: VerifierKey | None = None,
    sample: int | None = None,
    since: bytes | None = None,
    against: Store | None = None,
    kept: Sequence[Checkpoint] = (),
    progress: Progress | None = None,
    workers: int = WORKERS,
    seed: int | None = None,
) -> Report:
    """Verify a ledger.

    Args:
        store: where it lies.
        vkey: the pinned key: one of the ledger's successive keys, normally its first. Without it
            the report is not `pinned`.
        sample: check the rows of this many files only, chosen by `seed` (random by default).
        since: a head's note that was verified before: check only what came after it.
        against: another copy of the ledger; one must be a prefix of the other.
        kept: heads that were seen before; the log must extend each.
        progress: called with (files done, files in all).
        workers: processes that share the rows of large ledgers.
        seed: of the sample.

    Raises:
        NotALedger: nothing of a ledger is there, here or in `against`.
        UsageError: `since` is no head.
        OutsideError: storage cannot be reached.
    """
    if sample is not None and sample < 1:
        raise UsageError(f"A sample of {sample} files shows nothing.", "Take one or more.")
    before = parse_kept(since) if since is not None else None
    if sample is not None and before is not None:
        raise UsageError("A sampled verification covers the whole ledger, not a part.", "Choose one.")
    check = _Verification(store, vkey, before)
    view = check.view
    report = check.report
    report.mode = "full" if sample is None and before is None else "since" if before is not None else "sample"
    if before is not None and since is not None:
        report.findings += check_kept(view, before) + check_signer(view, since, vkey)
    for head in dict.fromkeys(kept):
        if head != before:
            report.findings += check_kept(view, head)
    if against is not None:
        report.findings += check_against(view, _read_copy(against, vkey), against.url)
    files = sorted(view.state.files.values(), key=lambda file: (file.entry, file.path))
    if before is not None:
        files = [file for file in files if file.entry >= before.size]
    elif sample is not None:
        report.seed = secrets.randbits(32) if seed is None else seed
        report.of_files = len(files)
        chosen = Random(report.seed).sample(files, min(sample, len(files)))  # noqa: S311  # repeatable on purpose
        files = sorted(chosen, key=lambda file: (file.entry, file.path))
    check.check_files(files, progress, workers)
    check.finish()
    return report


def ledger_json_key(store: Store) -> VerifierKey | None:
    """The key that the ledger itself claims; nobody's word for anything."""
    text = ledger_json_vkey(store.read(LEDGER_JSON))
    return read_key(text) if text is not None else None


class _Verification:
    """One run: the log as it stands, then the files that it names."""

    def __init__(self, store: Store, pinned: VerifierKey | None, before: Checkpoint | None) -> None:
        self.store = store
        self.pinned = pinned
        self.before = before
        self.unreadable: dict[str, Finding] = {}
        self.read = forgiving_read(store, self.unreadable)
        self.view = self._stable_log()
        state = self.view.state
        self.report = Report(
            mode="full",
            head=self.view.head if self.view.reach else None,
            head_note=self.view.note,
            pinned=pinned is not None,
            key=state.keys[0].text if state.keys else None,
            entries=self.view.reach,
        )
        self.report.findings += self.view.findings

    def _stable_log(self) -> LogView:
        attempt = 0
        while True:
            attempt += 1
            self.unreadable.clear()
            self.checkpoint = self.read(CHECKPOINT)
            self.listing, view = self._read_log()
            damaged = any(finding.severity == "damage" for finding in view.findings)
            if not damaged or attempt == MAX_ATTEMPTS or self.read(CHECKPOINT) == self.checkpoint:
                return view

    def _read_log(self) -> tuple[dict[str, int], LogView]:
        listing = {file.path: file.size for file in self.store.list()}
        if not is_ledger(listing):
            message = f"There is no ledger at {self.store.url}."
            raise NotALedger(message, "Make one with `decision-ledger init --origin NAME`.")
        init = ledger_json_init(self.read(LEDGER_JSON))
        known = self.before.size if self.before is not None else 0
        view = check_log(listing, self.read, pinned=self.pinned, init=init, known=known)
        if self.before is not None and check_kept(view, self.before):
            # The kept head does not vouch for these entries, so nothing of them is known.
            view = check_log(listing, self.read, pinned=self.pinned, init=init)
        return listing, view

    def check_files(self, files: list[LiveFile], progress: Progress | None, workers: int) -> None:
        """Check the rows of `files`, the presence and size of all others, and the offsets of all."""
        view = self.view
        found = self.report.findings
        found += check_witnessed(view, self.read)
        found += check_folder(self.listing, view, self.read)
        found += _lost_ranges(view)
        found += _rewritten_objects(view)
        first = self.before.size if self.before is not None else 0
        appends = {index: entry for index, entry in view.appends.items() if index >= first}
        offsets = OffsetsCheck(appends, {index: view.path_of(index) for index in appends})
        found += offsets.entries_without_files()
        sealed = {file.sha256: file.path for file in view.state.files.values()}
        check = FilesCheck(view.state, offsets, sealed)
        chosen = {file.path for file in files}
        for file in view.state.files.values():
            if file.path not in chosen:
                self._check_presence(file)
        repeats = RepeatsCheck(view.state)
        seed = secrets.randbits(63)
        tasks = [task for file in files if (task := task_of(file, view.state, seed)) is not None]
        rows = sum(task.rows for task in tasks)
        for done, (task, facts, size) in enumerate(facts_of(tasks, self.read, rows, workers), start=1):
            if facts is not None:
                check.take(task, facts, size)
                if facts.sha256 == task.sha256:
                    repeats.take(view.state.files[task.path], facts)
            elif task.path not in self.unreadable:
                self._missing(view.state.files[task.path])
            if progress is not None:
                progress(done, len(tasks))
        found += check.findings
        found += repeats.findings()
        found += offsets.remaining()
        counts = check.counts
        self.report.files, self.report.bytes = counts.files, counts.bytes
        self.report.events, self.report.deadletters = counts.events, counts.deadletters

    def finish(self) -> None:
        """Drop what a writer explains that went on meanwhile, and put the findings in order."""
        # What is there and cannot be read is not missing as well.
        found = [f for f in self.report.findings if f.kind != "missing" or f.path not in self.unreadable]
        found += self.unreadable.values()
        if any(f.kind in {"missing", "past-grace", "unreadable"} for f in found) and (
            self.read(CHECKPOINT) != self.checkpoint
        ):
            _, now = self._read_log()
            gone = set(self.view.state.files) - set(now.state.files)
            found = [f for f in found if not (f.path in gone and f.kind in {"missing", "unreadable"})]
        self.report.findings = sorted(dict.fromkeys(found), key=lambda finding: finding.order)

    def _check_presence(self, file: LiveFile) -> None:
        size = self.listing.get(file.path)
        if size is None:
            # Listed before it was written, perhaps; a second look decides.
            if self.read(file.path) is None and file.path not in self.unreadable:
                self._missing(file)
        elif size != file.bytes:
            message = f"It has {size} bytes instead of {file.bytes}."
            self.report.findings.append(damage("changed", file.path, message))

    def _missing(self, file: LiveFile) -> None:
        message = f"Entry {file.entry} sealed it, and no entry took it away."
        self.report.findings.append(damage("missing", file.path, message, index=file.entry))


def _lost_ranges(view: LogView) -> list[Finding]:
    found = []
    for index, entry in view.appends.items():
        for row in entry.offsets:
            for start, end in row.lost:
                what = f"offset {start}" if end == start + 1 else f"offsets {start} to {end - 1}"
                message = f"The broker removed {what} of {row.topic}/{row.partition} before they were read."
                found.append(listed("lost", view.path_of(index), message, index=index))
    return found


def _rewritten_objects(view: LogView) -> list[Finding]:
    found = []
    known: dict[tuple[str, str], str] = {}
    for index, entry in view.appends.items():
        for row in entry.offsets:
            for part in row.objects or ():
                before = known.setdefault((row.topic, part.key), part.etag)
                if before != part.etag:
                    known[row.topic, part.key] = part.etag
                    message = f"The object {part.key} of {row.topic} was sealed before with other content."
                    found.append(listed("object-rewritten", view.path_of(index), message, index=index))
    return found


def _read_copy(store: Store, pinned: VerifierKey | None) -> LogView:
    listing = {file.path: file.size for file in store.list()}
    if not is_ledger(listing):
        raise NotALedger(f"There is no ledger at {store.url}.", "Give the address of a copy of this ledger.")
    read: Callable[[str], bytes | None] = forgiving_read(store, {})
    return check_log(listing, read, pinned=pinned)
