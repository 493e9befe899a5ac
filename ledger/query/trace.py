"""One trace as a tree: who acted for whom, what was asked, what was answered, and why.

Pure: event rows in, a tree out. A row hangs below the first event of its parent span; further
events of one span hang below that span's first. Without spans an action hangs below the
decision that it names, and anything else below the first event of its task or request. What
points at a missing parent, or in a circle, starts a branch of its own and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa

from ledger.defaults import MAX_TRACE_EVENTS
from ledger.format.scopes import beyond
from ledger.query.trace_nodes import Broken, Narrowing, Node, Trace, Whole
from ledger.query.trace_text import MAX_INDENT_LEVELS, render

__all__ = [
    "COLUMNS",
    "DECISIONS",
    "MAX_INDENT_LEVELS",
    "MAX_TRACE_EVENTS",
    "Node",
    "Trace",
    "Whole",
    "render",
    "trace_tree",
]

DECISIONS: Final = ("allow", "deny", "error")

COLUMNS: Final = (
    "event_id", "kind", "time", "source", "trace_id", "span_id", "parent_span_id", "request_id", "task_id",
    "actor", "delegated_actor", "delegation", "action", "resource", "destination", "decision", "reason",
    "decision_ref", "policy_id", "policy_version", "policy_engine", "credential_id", "parent_credential_id",
    "credential_type", "audience", "scopes", "required_scopes", "grant_id", "approved_by", "exception_id",
    "outcome", "target", "pep", "tenant", "resource_tenant", "session_id", "session_expires_at", "expires_at",
    "alert_id",
)  # fmt: skip


def trace_tree(rows: pa.Table | Iterable[Mapping[str, Any]], whole: Whole | None = None) -> Trace:
    """The tree of event rows of one trace; their order does not matter.

    `whole` says what the trace holds where the rows are a page of it.
    """
    if isinstance(rows, pa.Table):
        rows = rows.select([name for name in COLUMNS if name in rows.column_names]).to_pylist()
    events = [{name: row[name] for name in COLUMNS if row.get(name) is not None} for row in rows]
    events.sort(key=_order)
    nodes = [Node(event, number) for number, event in enumerate(events)]
    whole = whole or _whole(events)
    _link(nodes, cut=len(events) < whole.events)
    _cut_circles(nodes)
    roots: list[Node] = []
    for node in nodes:
        (node.parent.children if node.parent else roots).append(node)
    trace = Trace(
        next((event["trace_id"] for event in events if "trace_id" in event), None),
        tuple(roots),
        _chains(events),
        whole,
    )
    for node in trace.nodes():
        node.depth = node.parent.depth + 1 if node.parent else 0
    _narrow(nodes)
    return trace


def _order(event: Mapping[str, Any]) -> tuple[datetime, str, str]:
    time = event.get("time") or datetime.min.replace(tzinfo=UTC)
    return (time, str(event.get("source", "")), str(event.get("event_id", "")))


def _whole(events: Sequence[Mapping[str, Any]]) -> Whole:
    times = [event["time"] for event in events if "time" in event]
    words = [event.get("decision") for event in events]
    counts = {word: words.count(word) for word in DECISIONS}
    return Whole(len(events), counts, min(times, default=None), max(times, default=None))


def _link(nodes: Sequence[Node], *, cut: bool) -> None:
    spans: dict[str, Node] = {}
    groups: dict[tuple[str, str], Node] = {}
    decisions: dict[str, Node] = {}
    for node in nodes:
        event = node.event
        if "span_id" in event:
            spans.setdefault(event["span_id"], node)
        if event.get("kind") == "decision" and "event_id" in event:
            decisions.setdefault(f"{event.get('source')}#{event['event_id']}", node)
        # A task's own event heads its group even where something came earlier.
        if event.get("kind") == "task" and "task_id" in event:
            groups.setdefault(("task_id", event["task_id"]), node)
        if "request_id" in event:
            groups.setdefault(("request_id", event["request_id"]), node)
    for node in nodes:
        node.parent, node.broken = _said_parent(node, spans, decisions)
        if cut and node.broken == "missing parent":
            node.broken = "parent on another page"
        if node.parent is None and not {"span_id", "parent_span_id"} & node.event.keys():
            node.parent = _group(node, groups)
            node.guessed = node.parent is not None


def _said_parent(
    node: Node, spans: Mapping[str, Node], decisions: Mapping[str, Node]
) -> tuple[Node | None, Broken | None]:
    event = node.event
    head = spans.get(event.get("span_id", ""))
    if head is not None and head is not node:
        return head, None
    above = event.get("parent_span_id")
    if above is not None and above in spans and spans[above] is not node:
        return spans[above], None
    if above is not None:
        return None, "circle of parents" if above in spans else "missing parent"
    named = event.get("decision_ref")
    if head is None and named is not None:
        found = decisions.get(f"{event.get('source')}#{named}") or decisions.get(named)
        if found is not node:
            return found, None
    return None, None


def _group(node: Node, groups: Mapping[tuple[str, str], Node]) -> Node | None:
    """The first event of the same request, else the task's own; a task stands above its requests."""
    names = ("request_id", "task_id") if node.event.get("kind") != "task" else ("task_id",)
    heads = (groups.get((name, node.event.get(name, ""))) for name in names)
    return next((head for head in heads if head is not None and head is not node), None)


def _cut_circles(nodes: Sequence[Node]) -> None:
    """Makes one node of every circle a root: where a link was only guessed that one, else the earliest."""
    done: set[int] = set()
    for start in nodes:
        path: list[Node] = []
        on_path: set[int] = set()
        node: Node | None = start
        while node is not None and node.number not in done and node.number not in on_path:
            path.append(node)
            on_path.add(node.number)
            node = node.parent
        if node is not None and node.number in on_path:
            circle = path[path.index(node) :]
            first = min(circle, key=lambda member: (not member.guessed, member.number))
            first.parent, first.broken = None, None if first.guessed else "circle of parents"
        done |= on_path


def _chains(events: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], ...]:
    """The delegation chains that no other one continues, the longest first, then as they came."""
    found: dict[tuple[str, ...], None] = {}
    for event in events:
        chain = tuple(event.get("delegation") or ()) or tuple(
            event[name] for name in ("actor", "delegated_actor") if event.get(name)
        )
        if chain:
            found.setdefault(chain)
    # In sorted order whatever continues a chain stands right after it.
    ordered = sorted(found)
    begun = {chain for chain, after in pairwise(ordered) if after[: len(chain)] == chain}
    members = {who for chain in found if len(chain) > 1 for who in chain}
    return tuple(
        chain
        for chain in sorted(found, key=len, reverse=True)
        if chain not in begun and not (len(chain) == 1 and chain[0] in members)
    )


def _narrow(nodes: Sequence[Node]) -> None:
    scopes: dict[str, list[str]] = {}
    for node in nodes:
        event = node.event
        if "credential_id" in event and "scopes" in event:
            scopes.setdefault(event["credential_id"], event["scopes"])
    for node in nodes:
        event = node.event
        above = event.get("parent_credential_id")
        if above in scopes and "scopes" in event:
            node.narrowing = Narrowing(
                above,
                tuple(s for s in scopes[above] if s not in event["scopes"]),
                beyond(event["scopes"], scopes[above]),
            )
