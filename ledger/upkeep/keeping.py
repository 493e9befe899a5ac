"""What is done for a ledger beside a writer's own work: its head cosigned, what outlived its class removed.

What fails is logged and tried again at its next time; the writer goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ledger.errors import LedgerError
from ledger.log.protocol import CHECKPOINT
from ledger.log.witness_policy import WITNESSES
from ledger.upkeep.retention import apply
from ledger.writer import Writer

if TYPE_CHECKING:
    from ledger.anchoring.places import Place
    from ledger.witnessing.asking import Asker

WITNESS_SECONDS: Final = 10.0
"""How often witnesses are asked for the newest head, at most."""
TOKENS_VARIABLE: Final = "DECISION_LEDGER_WITNESS_ASK_TOKENS"
ANCHOR_SECONDS: Final = 60.0
"""How often heads are published, at most."""
AUTHORITY_VARIABLE: Final = "DECISION_LEDGER_ANCHOR_PUBLISH_AUTHORITY"
CLIENT_VARIABLE: Final = "DECISION_LEDGER_ANCHOR_PUBLISH_CLIENT_CONFIG"
RETENTION_SECONDS: Final = 3_600.0
"""How often retention is applied, where that was asked for; the first time at once."""

log = structlog.get_logger()


class Keeping:
    """What is due for one running writer."""

    def __init__(self, writer: Writer, *, apply_retention: bool = False, anchors: Sequence[str] = ()) -> None:
        self._writer = writer
        self._places = _places(anchors)
        self._publishing: threading.Thread | None = None
        self._published, self._published_at = 0, 0.0
        self._retention_due = 0.0 if apply_retention else float("inf")
        self._asking: threading.Thread | None = None
        self._asker: Asker | None = None
        self._asked = 0.0

    def step(self) -> None:
        """Do or begin what is due; called often, from the writer's thread."""
        now = time.monotonic()
        if now - self._asked >= WITNESS_SECONDS and WITNESSES in self._writer.state.configs:
            self._asked = now
            if self._asking is None or not self._asking.is_alive():
                self._asking = threading.Thread(target=self._ask_witnesses, name="witnesses")
                self._asking.start()
        if self._places and now - self._published_at >= ANCHOR_SECONDS:
            self._published_at = now
            if self._publishing is None or not self._publishing.is_alive():
                self._publishing = threading.Thread(target=self._publish, name="anchors")
                self._publishing.start()
        self._expire(now)

    def finish(self) -> None:
        """What is due still, and the last head cosigned and published; what is under way is waited for."""
        self._expire(time.monotonic())
        if self._publishing is not None:
            self._publishing.join()
        if self._places:
            self._publish()
        if self._asking is not None:
            self._asking.join()
        if WITNESSES in self._writer.state.configs:
            self._ask_witnesses()
        if self._asker is not None:
            self._asker.close()

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

    def _publish(self) -> None:
        """The standing head, where it is newer than the last one that every place has."""
        from ledger.anchoring.anchors import publish  # noqa: PLC0415 - few publish heads
        from ledger.witnessing.asking import witnessed_size  # noqa: PLC0415 - as above

        try:
            note = self._writer.store.read(CHECKPOINT)
        except LedgerError as error:
            log.warning("heads not published", error=str(error))
            return
        size = witnessed_size(note)
        if note is None or size <= self._published:
            return
        failures = publish(note, self._places, os.environ.get(AUTHORITY_VARIABLE))
        for place, why in failures.items():
            log.warning("a head was not published", place=place, why=why)
        if not failures:
            self._published = size

    def _expire(self, now: float) -> None:
        """In the writer's own thread: it appends entries, and an engine reads the log's state unguarded."""
        if now < self._retention_due:
            return
        self._retention_due = now + RETENTION_SECONDS
        try:
            for entry in apply(self._writer, by=self._writer.name):
                log.info("expired", retention=entry.class_, segments=len(entry.paths), before=entry.cutoff)
        except LedgerError as error:
            log.warning("retention was not applied", error=str(error))


def _places(anchors: Sequence[str]) -> list[Place]:
    client = os.environ.get(CLIENT_VARIABLE)
    if not anchors and not client:
        return []
    from ledger.anchoring.places import open_place, read_client  # noqa: PLC0415 - clients that few need

    settings = read_client(Path(client) if client else None)
    return [open_place(url, settings) for url in anchors]
