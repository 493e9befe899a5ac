"""What people make of alerts: each step is an event, sealed like everything else."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rfc8785

from detections.alerting.alert import SOURCE
from detections.alerting.known_alerts import TRIAGE_TOPIC
from detections.alerting.own_events import own_stretch
from detections.defaults import VERDICTS
from ledger.errors import OutsideError, UsageError
from ledger.format.manifest import OffsetKey
from ledger.writer import Writer

KEY: Final = OffsetKey(TRIAGE_TOPIC)
MAX_COMMENT: Final = 10_000
_ATTEMPTS: Final = 20


@dataclass(frozen=True, slots=True)
class Triage:
    """One step: what is decided, by whom, with which verdict and words."""

    outcome: str
    by: str
    owner: str | None = None
    verdict: str | None = None
    comment: str | None = None


def triage_event(alert: Mapping[str, Any], step: Triage) -> dict[str, Any]:
    """The step as an event. `alert` is the alert as it stands (`alerts_of`).

    Raises:
        UsageError: the verdict is none, or the comment is too long.
    """
    if step.verdict is not None and step.verdict not in VERDICTS:
        raise UsageError(f"There is no verdict {step.verdict!r}.", f"Use one of: {', '.join(VERDICTS)}.")
    if step.comment is not None and len(step.comment) > MAX_COMMENT:
        raise UsageError(f"The comment is longer than {MAX_COMMENT:,} characters.", "Shorten it.")
    attributes = {"based_on": alert["last_event"]}
    value = {
        "event_id": f"{alert['alert_id']}/t/{secrets.token_hex(16)}", "kind": "alert", "source": SOURCE,
        "rule_id": alert["rule_id"], "alert_id": alert["alert_id"], "alert_key": alert["alert_key"],
        "window_start": alert["window_start"], "severity": alert["severity"], "tenant": alert["tenant"],
        "actor": step.by, "outcome": step.outcome, "owner": step.owner or alert["owner"],
        "verdict_id": None if step.verdict is None else VERDICTS[step.verdict], "comment": step.comment,
        "target": f"alert:{alert['alert_id']}", "attributes": rfc8785.dumps(attributes).decode(),
        "retention": "standard",
    }  # fmt: skip
    return {name: one for name, one in value.items() if one is not None}


def seal_triage(writer: Writer, events: list[dict[str, Any]]) -> None:
    """Seal triage steps.

    Raises:
        OutsideError: others were faster again and again.
    """
    for _ in range(_ATTEMPTS):
        position = writer.position(KEY)
        start = 0 if position is None else position.to
        now = writer.clock()
        placed = [
            {**event, "time": now, "record_offset": start + number, "part": 0}
            for number, event in enumerate(events)
        ]
        stretch = own_stretch(KEY, start, start + len(events), placed)
        stretch.complete = now
        if not writer.commit([stretch]).fenced:
            return
    raise OutsideError("Others sealed triage steps again and again.", "Try once more.")
