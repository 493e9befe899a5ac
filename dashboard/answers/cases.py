"""Cases: alerts, notes and evidence that people grouped; and the queries that they kept."""

from __future__ import annotations

from typing import Any, Final

import orjson

from dashboard.access import Right
from dashboard.statements import Reading
from detections.alerting.cases import case_steps, cases_of
from ledger.query.evidence import present

MAX_CASES: Final = 2_000


def cases(reading: Reading) -> list[dict[str, Any]]:
    """Every case with its steps in the order of sealing, the one that moved last first."""
    reading.viewer.require(Right.ROWS)
    return cases_of(reading.ledger, at=reading.size)[:MAX_CASES]


def saved_queries(reading: Reading) -> list[dict[str, Any]]:
    """Queries that people kept, by title; of each the last version."""
    found: dict[str, dict[str, Any]] = {}
    reading.viewer.require(Right.ROWS)
    for row in case_steps(reading.ledger, "query:", at=reading.size):
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
