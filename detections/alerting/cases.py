"""Cases as they stand in a ledger: alerts, notes and evidence that people grouped."""

from __future__ import annotations

from typing import Any, Final

import orjson

from ledger.query.engine import PLACED
from ledger.query.evidence import seal_order
from ledger.reader import Ledger

_STEP: Final = ("time", "outcome", "actor", "owner", "comment", "alert_id", "evidence", "source", "event_id")
_STEPS: Final = f"""
SELECT target, time, outcome, actor, owner, comment, alert_id, evidence, attributes, tenant, source, event_id,
       filename, file_row_number
FROM {PLACED}events WHERE kind = 'case' AND starts_with(target, ?)
"""  # noqa: S608  # a constant of our own


def cases_of(ledger: Ledger, *, at: int) -> list[dict[str, Any]]:
    """Every case with its steps, open ones first, then the one that moved last.

    Each with `case_id`, `title`, `owner`, `state` (open, closed), `tenant`, `alerts`, `evidence`, `steps`,
    `opened_at` and `moved_at`.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in case_steps(ledger, "case:", at=at):
        case_id = row["target"].removeprefix("case:")
        one = found.setdefault(case_id, {
            "case_id": case_id, "title": None, "owner": None, "state": "open", "tenant": row["tenant"],
            "alerts": [], "evidence": [], "steps": [], "opened_at": row["time"], "moved_at": row["time"],
        })  # fmt: skip
        one["title"] = orjson.loads(row["attributes"] or "{}").get("title") or one["title"]
        one["owner"] = row["owner"] or one["owner"]
        one["state"] = {"closed": "closed", "reopened": "open"}.get(row["outcome"], one["state"])
        one["moved_at"] = row["time"]
        if row["alert_id"] and row["alert_id"] not in one["alerts"]:
            one["alerts"].append(row["alert_id"])
        one["evidence"] += [event for event in row["evidence"] or [] if event not in one["evidence"]]
        one["steps"].append({name: row[name] for name in _STEP})
    return sorted(
        found.values(),
        key=lambda one: (one["state"] != "open", -one["moved_at"].timestamp(), one["case_id"]),
    )


def case_steps(ledger: Ledger, prefix: str, *, at: int) -> list[dict[str, Any]]:
    """The `case` events whose target begins with `prefix`, in the order of sealing."""
    rows: list[dict[str, Any]] = ledger.query(at).trusted(_STEPS, [prefix]).to_pylist()
    order = seal_order(ledger, rows)
    return [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
