"""One trace as lanes: who acted on whose behalf, when, with which scopes, and which way was the longest."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from dashboard.access import Right
from dashboard.statements import Reading
from ledger.query.trace_nodes import Node, Trace

MAX_HOPS: Final = 2_000
_ABOUT: Final = frozenset({"alert", "case", "access"})
_PIVOTS: Final = (
    ("credential_id", "credential"),
    ("parent_credential_id", "parent credential"),
    ("session_id", "session"),
    ("request_id", "request"),
    ("task_id", "task"),
    ("exception_id", "exception"),
    ("grant_id", "grant"),
    ("alert_id", "alert"),
)


def trace(reading: Reading, trace_id: str, skip: int = 0) -> dict[str, Any]:
    """Lanes, chain and sentence of a trace. Raises UsageError where nothing has that id."""
    reading.viewer.require(Right.ROWS)
    found = reading.ledger.trace(trace_id, at=reading.size, skip=skip, limit=MAX_HOPS)
    everything = list(found.nodes())
    # What was found about it later is no part of what happened.
    nodes = [node for node in everything if node.event["kind"] not in _ABOUT] or everything
    ends = _ends(nodes)
    longest = _critical_path(found, ends)
    lanes = [_lane(number, node, ends[id(node)], id(node) in longest) for number, node in enumerate(nodes)]
    return {
        "trace_id": found.trace_id,
        "lanes": lanes,
        "chain": list(found.chains[0]) if found.chains else [],
        "chains": len(found.chains),
        "events": found.whole.events,
        "about": len(everything) - len(nodes),
        "shown": found.shown,
        "skipped": found.whole.skipped,
        "decisions": dict(found.whole.decisions),
        "first": min(node.event["time"] for node in nodes),
        "last": max(node.event["time"] for node in nodes),
        "sentence": _sentence(found, nodes),
        "policies": _policy_changes(nodes),
        "pivots": _pivots(everything),
    }


def _lane(number: int, node: Node, end: datetime, critical: bool) -> dict[str, Any]:
    event = node.event
    session_end = event.get("session_expires_at")
    expires = event.get("expires_at")
    narrowing = node.narrowing
    return {
        "nth": number,
        "depth": node.depth,
        "time": event["time"],
        "end": end,
        "kind": event["kind"],
        "decision": event.get("decision") or event.get("outcome") or "",
        "principal": node.principal or "",
        "action": event.get("action") or "",
        "resource": event.get("resource") or "",
        "reason": event.get("reason") or "",
        "scopes": ", ".join(event.get("scopes") or []),
        "dropped": ", ".join(narrowing.dropped) if narrowing else "",
        "added": ", ".join(narrowing.added) if narrowing else "",
        "outlived": bool(session_end and expires and expires > session_end),
        "broken": node.broken or "",
        "critical": critical,
        "policy": event.get("policy_version") or "",
        "source": event["source"],
        "event_id": event["event_id"],
    }


def _ends(nodes: list[Node]) -> dict[int, datetime]:
    """By node: when the last thing at or below it happened. `nodes` hold each before those below it."""
    ends: dict[int, datetime] = {}
    for node in reversed(nodes):
        ends[id(node)] = max(
            [node.event["time"], *(ends[id(child)] for child in node.children if id(child) in ends)]
        )
    return ends


def _critical_path(found: Trace, ends: dict[int, datetime]) -> set[int]:
    """The nodes on the way to what happened last: each the child whose own part ended last."""
    path: set[int] = set()
    node: Node | None = max(
        (one for one in found.roots if id(one) in ends), key=lambda one: ends[id(one)], default=None
    )
    while node is not None:
        path.add(id(node))
        below = [one for one in node.children if id(one) in ends]
        node = max(below, key=lambda one: ends[id(one)], default=None)
    return path


def _sentence(found: Trace, nodes: list[Node]) -> str:
    """What happened, in words."""
    first = nodes[0]
    who = first.event.get("actor") or first.principal or "Somebody unnamed"
    through = [name for name in (found.chains[0] if found.chains else ()) if name != who]
    denied = [node for node in nodes if node.event.get("decision") == "deny"]
    way = f", through {' and '.join(through[:3])}" if through else ""
    if denied:
        last = denied[-1]
        what = " ".join(str(last.event[name]) for name in ("action", "resource") if name in last.event)
        why = last.event.get("reason")
        return f"{who}{way}: {last.principal or 'an agent'} was denied {what or 'what it asked for'}" + (
            f" ({why})." if why else "."
        )
    allowed = found.whole.decisions.get("allow", 0)
    return f"{who}{way}: {allowed:,} decision(s) said allow, none said deny."


def _policy_changes(nodes: list[Node]) -> list[dict[str, Any]]:
    """When another policy version than before decided."""
    changes, last = [], None
    for node in sorted(nodes, key=lambda node: node.event["time"]):
        version = node.event.get("policy_version")
        if version is None or node.event["kind"] != "decision":
            continue
        if last is not None and version != last:
            changes.append({"time": node.event["time"], "policy": version})
        last = version
    return changes


def _pivots(nodes: list[Node]) -> dict[str, list[str]]:
    """The ids by which one can go on, in order of sight."""
    found: dict[str, list[str]] = {}
    for column, name in _PIVOTS:
        values = dict.fromkeys(str(node.event[column]) for node in nodes if column in node.event)
        if values:
            found[name] = list(values)[:20]
    return found


def span_milliseconds(first: datetime | None, last: datetime | None) -> float:
    """From first to last, in milliseconds."""
    if first is None or last is None:
        return 0.0
    return (last - first) / timedelta(milliseconds=1)
