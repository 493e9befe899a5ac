"""What the entries of a log hold, in the classes of OCSF, as it was sealed: for those who follow it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from detections.delivery.ocsf import CLASS, detection_finding
from detections.delivery.ocsf_events import CLASS_OF, COLUMNS, activity
from detections.recall.feed import Stamp, rows_of
from detections.sealed_log import SealedLog
from ledger.format.manifest import Append, parse_instant
from ledger.reader import Ledger


def of_entries(opened: Ledger, first: int, classes: Collection[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(entry, activity or finding) from entry `first` to the newest, in the order of sealing.

    Of alerts every step is one. What expired or was erased since is not there.
    """
    log = SealedLog.of(opened)
    kinds = {kind for kind, class_ in CLASS_OF.items() if class_ in classes}
    for entry in log.parsed(first, opened.size):
        if not isinstance(entry, Append):
            continue
        stamp = Stamp(parse_instant(entry.time), None)
        stamps = {ref.path: stamp for ref in entry.segments if kinds & {*ref.kinds}}
        for table in rows_of(log.store, log.state, stamps, COLUMNS):
            for event in table.to_pylist():
                found = activity(event) if event["kind"] in kinds else None
                if found is not None:
                    yield entry.index, found
        if CLASS in classes:
            for _, steps in log.alert_steps([entry]):
                for step in steps:
                    yield entry.index, detection_finding(step)
