"""What a worker does beside sealing: merge small segments in the background, note its lag."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ingest.sources import Source
from ledger.errors import LedgerError
from ledger.log.witness_policy import WITNESSES
from ledger.query.lag import note_lag
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.retention import apply
from ledger.writer import Writer

if TYPE_CHECKING:
    from ledger.witnessing.asking import Asker

COMPACT_SECONDS: Final = 10.0
LAG_SECONDS: Final = 5.0
WITNESS_SECONDS: Final = 10.0
"""How often witnesses are asked for the newest head, at most."""
TOKENS_VARIABLE: Final = "DECISION_LEDGER_WITNESS_ASK_TOKENS"
RETENTION_SECONDS: Final = 3_600.0
"""How often retention is applied, where that was asked for; the first time with the first merge."""
MERGES_AT_ONCE: Final = 4
MERGES_AT_END: Final = 64

log = structlog.get_logger()


class Maintenance:
    """Runs at most one merge at a time, in a thread of its own; a failure is logged and sealing goes on."""

    def __init__(self, writer: Writer, source: Source, *, apply_retention: bool = False) -> None:
        self._writer = writer
        self._retention_due = 0.0 if apply_retention else float("inf")
        self._source = source
        self._compacted = self._noted = time.monotonic()
        self._merging: threading.Thread | None = None
        self._asking: threading.Thread | None = None
        self._asker: Asker | None = None
        self._asked = 0.0
        self._compaction = Compaction(writer)
        self._reported: set[str] = set()

    def after_commit(self) -> None:
        """Called after each commit, in the sealing thread."""
        now = time.monotonic()
        if now - self._noted >= LAG_SECONDS:
            self._noted = now
            self._note_lag()
        if now - self._asked >= WITNESS_SECONDS and WITNESSES in self._writer.state.configs:
            self._asked = now
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask_witnesses, name="witnesses")
                self._asking.start()
        idle = self._merging is None or not self._merging.is_alive()
        if idle and now - self._compacted >= COMPACT_SECONDS:
            self._compacted = now
            self._merging = threading.Thread(target=self._tidy, name="tidy")
            self._merging.start()

    def finish(self) -> None:
        """Wait for a merge under way; merge what this run left small; note the last lag."""
        if self._merging is not None:
            self._merging.join()
        self._tidy(MERGES_AT_END)
        if self._asking is not None:
            self._asking.join()
        if WITNESSES in self._writer.state.configs:
            self._ask_witnesses()
        if self._asker is not None:
            self._asker.close()
        self._writer.keep_catalogue()
        self._note_lag()

    def _ask_witnesses(self) -> None:
        from ledger.witnessing.asking import Asker, ask_for, read_witness_tokens  # noqa: PLC0415 - few have witnesses

        try:
            if self._asker is None:
                tokens = os.environ.get(TOKENS_VARIABLE)
                self._asker = Asker(tokens=read_witness_tokens(Path(tokens) if tokens else None))
            found = ask_for(self._writer, self._asker)
        except LedgerError as error:
            log.warning("witnesses not asked", error=str(error))
            return
        if found is not None:
            for name, why in found.alarms.items():
                log.error("a witness knows another history", witness=name, why=why)
            for name, why in found.failures.items():
                log.warning("a witness is away", witness=name, why=why)

    def _tidy(self, most: int = MERGES_AT_ONCE) -> None:
        self._merge(most)
        if time.monotonic() >= self._retention_due:
            self._retention_due = time.monotonic() + RETENTION_SECONDS
            self._expire()

    def _expire(self) -> None:
        try:
            for entry in apply(self._writer, by=self._writer.name):
                log.info("expired", retention=entry.class_, segments=len(entry.paths), before=entry.cutoff)
        except LedgerError as error:
            log.warning("retention was not applied", error=str(error))

    def _merge(self, most: int) -> None:
        try:
            self._compaction.run(most=most)
        except LedgerError as error:
            log.warning("compaction failed", error=str(error))
        for path in self._compaction.damaged.keys() - self._reported:
            self._reported.add(path)
            log.warning("left out of compaction", error=str(self._compaction.damaged[path]))

    def _note_lag(self) -> None:
        try:
            note_lag(self._writer.store, self._writer.name, self._writer.clock(), self._source.lag())
        except LedgerError as error:
            log.warning("lag could not be noted", error=str(error))
