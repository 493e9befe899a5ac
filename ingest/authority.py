"""What an intake may deliver. Otherwise a log producer could dismiss the alerts about itself.

A message with a kind or a source that its intake may not deliver is rejected whole; a retention
class that is not permitted becomes the default, and the asked one stays in the attributes.
"""

from __future__ import annotations

import unicodedata
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785
from pydantic import BaseModel, ConfigDict, Field

from ingest.decoded import Decoded, Limits, Verdict
from ingest.rows import keep_unknown
from ledger.events import ARROW_SCHEMA, DASHBOARD_SOURCE, DEFAULT_CLASS, KINDS, RESERVED_KINDS

OWN_SOURCE: Final = "decision-ledger"
"""The name that our own writers go by."""
PEOPLE_KINDS: Final = frozenset({"alert", "case", "review", "access"})
"""What people at the dashboard do."""
TRIAGE_OUTCOMES: Final = ("acknowledged", "resolved", "dismissed", "reopened")
_TRIAGE_STEP: Final = r"^[0-9a-f]{32}/t/[0-9a-f]{32}$"
_UNKNOWN_RETENTION: Final = "unknown.retention"


class Intake(BaseModel):
    """One way in (topic, listener, folder) and its authority. Sources are names or globs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kinds: frozenset[str] = frozenset(KINDS) - RESERVED_KINDS
    sources: tuple[str, ...] = ("*",)
    retention_classes: frozenset[str] = frozenset({DEFAULT_CLASS})
    claimed_by_others: tuple[str, ...] = ()
    """Sources that another intake claims; one that stands in `sources` by its full name is ours too."""
    agentic: tuple[str, ...] = ()
    """Sources whose principals are agents whatever their names say; for rules and metrics."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the adapter."""
    people: bool = False
    """Takes what people at the dashboard do, in its name, and nothing else; of alerts only triage."""

    def may_deliver_kind(self, kind: str) -> bool:
        """Whether events of this kind are accepted; those of our own writers never are."""
        if self.people:
            return kind in PEOPLE_KINDS
        return kind in self.kinds and kind not in RESERVED_KINDS

    def may_deliver_source(self, source: str) -> bool:
        """Whether events of this source are accepted."""
        if self.people:
            return source == DASHBOARD_SOURCE
        if _as_read(source) in (OWN_SOURCE, DASHBOARD_SOURCE) or not _matches(source, self.sources):
            return False
        return source in self.sources or not _matches(source, self.claimed_by_others)


def _as_read(source: str) -> str:
    """A source as people read it: what looks like one of ours must not pass for it in a table."""
    return unicodedata.normalize("NFKC", source).strip().casefold()


def _matches(source: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(source, pattern) for pattern in patterns)


def apply(decoded: Decoded, intake: Intake, limits: Limits | None = None) -> Decoded:
    """`decoded` within the authority of `intake`."""
    if not len(decoded.events):
        return decoded
    events = decoded.events
    refused: dict[int, Verdict] = {}
    for field, may, reason in (
        ("kind", intake.may_deliver_kind, "this intake may not deliver this kind"),
        ("source", intake.may_deliver_source, "this intake may not deliver this source"),
    ):
        values = events[field]
        foreign = [value for value in pc.unique(values).to_pylist() if not may(value)]
        if foreign:
            found = pc.is_in(values, value_set=pa.array(foreign, pa.string()))
            _note(refused, decoded, found, field, reason)
    if intake.people:
        _note(
            refused, decoded, _no_triage(events), "outcome", "this intake takes no alerts but steps of triage"
        )
    if refused:
        decoded = _without(decoded, refused)
    classes = pa.array(sorted(intake.retention_classes | {DEFAULT_CLASS}), pa.string())
    asked = pc.invert(pc.is_in(decoded.events["retention"], value_set=classes))
    if pc.any(asked).as_py():
        decoded = _demoted(decoded, _positions(asked), limits or Limits())
    return decoded


def _no_triage(events: pa.Table) -> pa.ChunkedArray:
    """Which rows are alerts and no step of triage: an engine's alone may say that something was found."""
    step = pc.and_(
        pc.match_substring_regex(events["event_id"], _TRIAGE_STEP),
        pc.is_in(events["outcome"], value_set=pa.array(TRIAGE_OUTCOMES, pa.string())),
    )
    named = pc.fill_null(
        pc.equal(pc.utf8_slice_codeunits(events["event_id"], 0, 32), events["alert_id"]), False
    )  # as above
    return pc.and_(pc.equal(events["kind"], "alert"), pc.invert(pc.and_(step, named)))


def _positions(found: pa.ChunkedArray) -> list[int]:
    return np.flatnonzero(found.to_numpy()).tolist()


def _note(
    refused: dict[int, Verdict], decoded: Decoded, found: pa.ChunkedArray, field: str, reason: str
) -> None:
    rows = _positions(found)
    parts = decoded.events["part"].take(pa.array(rows, pa.int64())).to_pylist()
    batches = set(decoded.message[1:][np.diff(decoded.message) == 0].tolist())
    for row, part in zip(rows, parts, strict=True):
        message = int(decoded.message[row])
        refused.setdefault(message, Verdict(message, reason, part if message in batches else None, field))


def _without(decoded: Decoded, refused: dict[int, Verdict]) -> Decoded:
    """Messages are accepted or rejected whole."""
    keep = ~np.isin(decoded.message, np.fromiter(refused, np.int64, len(refused)))
    rejected = sorted([*decoded.rejected, *refused.values()], key=lambda verdict: verdict.message)
    return Decoded(decoded.events.filter(pa.array(keep)), decoded.message[keep], rejected, decoded.ignored)


def _demoted(decoded: Decoded, rows: list[int], limits: Limits) -> Decoded:
    events = decoded.events
    asked = events["retention"].take(pa.array(rows)).to_pylist()
    present = events["attributes"].take(pa.array(rows)).to_pylist()
    texts, refused = [], {}
    for row, name, text in zip(rows, asked, present, strict=True):
        attributes = orjson.loads(text) if text is not None else {}
        keep_unknown(attributes, _UNKNOWN_RETENTION, name)
        longer = rfc8785.dumps(attributes).decode()
        if len(longer.encode()) > limits.attributes_bytes:
            message = int(decoded.message[row])
            reason = (
                f"longer than {limits.attributes_bytes} bytes with the retention class that was asked for"
            )
            refused[message] = Verdict(message, reason, None, "attributes")
        texts.append(longer)
    where = pl.Series(rows, dtype=pl.UInt32)
    changed = {
        "attributes": pl.Series(events["attributes"], dtype=pl.String).scatter(where, texts),
        "retention": pl.Series(events["retention"]).scatter(where, [DEFAULT_CLASS] * len(rows)),
    }
    for name, series in changed.items():
        column = series.to_arrow().cast(pa.string())
        events = events.set_column(ARROW_SCHEMA.get_field_index(name), ARROW_SCHEMA.field(name), column)
    made = Decoded(events, decoded.message, decoded.rejected, decoded.ignored)
    return _without(made, refused) if refused else made
