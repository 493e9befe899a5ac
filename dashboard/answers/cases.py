"""Cases: alerts, notes and evidence that people grouped; and the queries that they kept."""

from __future__ import annotations

from typing import Any, Final

import orjson

from dashboard.access import Right
from dashboard.statements import Reading
from ledger.query.engine import PLACED
from ledger.query.evidence import present, seal_order

MAX_CASES: Final = 2_000
_STEPS: Final = f"""
SELECT target, time, outcome, actor, owner, comment, alert_id, evidence, attributes, tenant, source, event_id,
       filename, file_row_number
FROM {PLACED}events WHERE kind = 'case' AND starts_with(target, ?)
"""  # noqa: S608  # a constant of our own


def cases(reading: Reading) -> list[dict[str, Any]]:
    """Every case with its steps in the order of sealing, the one that moved last first."""
    found: dict[str, dict[str, Any]] = {}
    for row in _steps(reading, "case:"):
        case_id = row["target"].removeprefix("case:")
        one = found.setdefault(
            case_id,
            {
                "case_id": case_id,
                "title": None,
                "owner": None,
                "state": "open",
                "tenant": row["tenant"],
                "alerts": [],
                "evidence": [],
                "steps": [],
                "opened_at": row["time"],
                "moved_at": row["time"],
            },
        )
        attributes = orjson.loads(row["attributes"] or "{}")
        one["title"] = attributes.get("title") or one["title"]
        one["owner"] = row["owner"] or one["owner"]
        one["state"] = {"closed": "closed", "reopened": "open"}.get(row["outcome"], one["state"])
        one["moved_at"] = row["time"]
        if row["alert_id"] and row["alert_id"] not in one["alerts"]:
            one["alerts"].append(row["alert_id"])
        one["evidence"] += [event for event in row["evidence"] or [] if event not in one["evidence"]]
        one["steps"].append(
            {
                name: row[name]
                for name in (
                    "time",
                    "outcome",
                    "actor",
                    "owner",
                    "comment",
                    "alert_id",
                    "evidence",
                    "source",
                    "event_id",
                )
            }
        )
    ordered = sorted(found.values(), key=lambda one: (one["state"] != "open", -one["moved_at"].timestamp()))
    return ordered[:MAX_CASES]


def saved_queries(reading: Reading) -> list[dict[str, Any]]:
    """Queries that people kept, by title; of each the last version."""
    found: dict[str, dict[str, Any]] = {}
    for row in _steps(reading, "query:"):
        attributes = orjson.loads(row["attributes"] or "{}")
        query_id = row["target"].removeprefix("query:")
        if isinstance(attributes.get("sql"), str):
            found[query_id] = {
                "query_id": query_id,
                "title": str(attributes.get("title") or query_id),
                "sql": attributes["sql"],
                "by": row["actor"],
                "time": row["time"],
                "tenants": attributes.get("tenants"),
            }
    return sorted(found.values(), key=lambda one: one["title"])


def package(reading: Reading, case_id: str) -> dict[str, bytes]:
    """A case as files: what was written, and a bundle that proves its steps and its evidence."""
    one = next((one for one in cases(reading) if one["case_id"] == case_id), None)
    if one is None:
        return {}
    named = [f"{step['source']}#{step['event_id']}" for step in one["steps"]]
    listed = list(dict.fromkeys([*named, *one["evidence"]]))
    known = present(reading.ledger, listed, reading.size)
    proved = [event for event in listed if event in known]
    return {
        "case.json": orjson.dumps(one, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z, default=str),
        "evidence.json": reading.ledger.evidence(*proved, at=reading.size),
    }


def _steps(reading: Reading, prefix: str) -> list[dict[str, Any]]:
    reading.viewer.require(Right.ROWS)
    rows: list[dict[str, Any]] = reading.rows(_STEPS, [prefix]).to_pylist()
    order = seal_order(reading.ledger, rows)
    return [row for _, row in sorted(zip(order, rows, strict=True), key=lambda pair: pair[0])]
