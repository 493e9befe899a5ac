"""What a worker does beside sealing: merge small segments in the background, note lag, keep the ledger."""

from __future__ import annotations

import threading
import time
from typing import Final

import structlog

from ingest.sources import Source
from ledger.errors import LedgerError
from ledger.query.lag import forget_lag, note_lag
from ledger.upkeep.compaction import Compaction
from ledger.upkeep.keeping import Keeping
from ledger.writer import Writer

COMPACT_SECONDS: Final = 10.0
LAG_SECONDS: Final = 5.0
MERGES_AT_ONCE: Final = 4
MERGES_AT_END: Final = 64

log = structlog.get_logger()


class Maintenance:
    """Runs at most one merge at a time, in a thread of its own; a failure is logged and sealing goes on."""

    def __init__(self, writer: Writer, source: Source, keeping: Keeping | None = None) -> None:
        self._writer = writer
        self._source = source
        self._keeping = keeping or Keeping(writer)
        self._compacted = self._noted = time.monotonic()
        self._merging: threading.Thread | None = None
        self._compaction = Compaction(writer)
        self._reported: set[str] = set()

    def after_commit(self) -> None:
        """Called after each commit, in the sealing thread."""
        now = time.monotonic()
        if now - self._noted >= LAG_SECONDS:
            self._noted = now
            self._note_lag()
        self._keeping.step()
        idle = self._merging is None or not self._merging.is_alive()
        if idle and now - self._compacted >= COMPACT_SECONDS:
            self._compacted = now
            self._merging = threading.Thread(target=self._merge, args=(MERGES_AT_ONCE,), name="merge")
            self._merging.start()

    def finish(self) -> None:
        """Wait for a merge under way; merge what this run left small; note the last lag."""
        if self._merging is not None:
            self._merging.join()
        self._merge(MERGES_AT_END)
        self._keeping.finish()
        self._writer.keep_catalogue()
        self._note_lag()

    def _merge(self, most: int) -> None:
        try:
            self._compaction.run(most=most)
        except LedgerError as error:
            log.warning("compaction failed", error=str(error))
        for path in self._compaction.damaged.keys() - self._reported:
            self._reported.add(path)
            log.warning("left out of compaction", error=str(self._compaction.damaged[path]))

    def _note_lag(self) -> None:
        lag = self._source.lag()
        try:
            if self._source.finished and not any(lag.values()):
                forget_lag(self._writer.store, self._writer.name)
            else:
                note_lag(self._writer.store, self._writer.name, self._writer.clock(), lag)
        except LedgerError as error:
            log.warning("lag could not be noted", error=str(error))
