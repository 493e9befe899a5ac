"""Who acts, for whom and with what: the identity map, narrowed to what a picture can show."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Final

from dashboard.access import Right
from dashboard.statements import Reading
from detections.identities import MapChoice, credential_paths, identity_map
from detections.sealed_log import SealedLog

COLUMNS: Final = ("person", "issuer", "agent", "tool")
"""From left to right."""
TOP: Final = 14
"""Nodes of one column that are drawn; the rest is counted."""
_DECIDED: Final = """
SELECT actor AS person, coalesce(delegated_actor, actor) AS agent, count(*) AS n, max(time) AS last_seen
FROM events WHERE kind IN ('decision', 'action') AND actor IS NOT NULL GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """`n` decisions or credentials from one node to another; `dormant`: not used for 30 days."""

    start: tuple[str, str]
    end: tuple[str, str]
    n: int
    dormant: bool


def identities(reading: Reading) -> list[dict[str, Any]]:
    """Every principal, those that need a look first."""
    reading.viewer.require(Right.ROWS)
    owned = SealedLog.of(reading.ledger).timeline(reading.size).ownership()
    return identity_map(reading.ledger, owned, MapChoice(at=reading.size), reading.days)


def edges(reading: Reading) -> list[Edge]:
    """Person to issuer, issuer to agent, agent to tool, the widest first."""
    reading.viewer.require(Right.ROWS)
    now = reading.ledger.as_of(reading.size).clock
    persons = reading.rows(_DECIDED).to_pylist()
    paths = credential_paths(reading.ledger, reading.size)
    found: dict[tuple[tuple[str, str], tuple[str, str]], tuple[int, str]] = defaultdict(lambda: (0, ""))

    def add(start: tuple[str, str], end: tuple[str, str], n: int, last: str) -> None:
        before = found[start, end]
        found[start, end] = (before[0] + n, max(before[1], last))

    issuers: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        add(("issuer", path["issuer"]), ("agent", path["principal"]), path["issued"], path["last_issued"])
        add(("agent", path["principal"]), ("tool", path["tool"]), path["issued"], path["last_issued"])
        issuers[path["principal"]].add(path["issuer"])
    for row in persons:
        if row["person"] == row["agent"]:
            continue
        last = row["last_seen"].isoformat()
        for issuer in sorted(issuers.get(row["agent"], ())) or [""]:
            end = ("issuer", issuer) if issuer else ("agent", row["agent"])
            add(("person", row["person"]), end, row["n"], last)
    month_ago = f"{now.fromtimestamp(now.timestamp() - 30 * 86_400, tz=now.tzinfo):%Y-%m-%dT%H:%M:%S}"
    made = [Edge(start, end, n, last < month_ago) for (start, end), (n, last) in found.items()]
    return sorted(made, key=lambda one: (-one.n, one.start, one.end))


def narrowed(found: list[Edge], about: str | None) -> tuple[list[Edge], dict[str, int]]:
    """Edges between the widest nodes of each column (near `about`, if given), and what is left out."""
    if about is not None:
        near = {node for one in found if about in {one.start[1], one.end[1]} for node in (one.start, one.end)}
        found = [one for one in found if one.start in near and one.end in near]
    weight: dict[tuple[str, str], int] = defaultdict(int)
    for one in found:
        weight[one.start] += one.n
        weight[one.end] += one.n
    kept: set[tuple[str, str]] = set()
    left_out: dict[str, int] = {}
    for column in COLUMNS:
        own = sorted(
            (node for node in weight if node[0] == column), key=lambda node: (-weight[node], node[1])
        )
        kept.update(own[:TOP])
        if len(own) > TOP:
            left_out[column] = len(own) - TOP
    return [one for one in found if one.start in kept and one.end in kept], left_out
