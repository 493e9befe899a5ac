"""One trace as a tree: who acted for whom, what was asked, what was answered, and why.

Pure: event rows in, a tree out. A row hangs below the first event of its parent span; further
events of one span hang below that span's first. Without spans an action hangs below the
decision that it names, and anything else below the first event of its task or request. What
points at a missing parent, or in a circle, starts a branch of its own and says so.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, Literal

import pyarrow as pa

MAX_INDENT_LEVELS: Final = 24
"""Deeper hops are drawn at this depth with their level in words: lines stay readable."""
MAX_TEXT_CHARS: Final = 160
MAX_LISTED: Final = 12
"""Members of one list that are drawn; the rest is counted."""
MAX_CHAINS: Final = 5
"""Chains of delegation in the heading, longest first; the rest is counted."""

COLUMNS: Final = (
    "event_id", "kind", "time", "source", "trace_id", "span_id", "parent_span_id", "request_id", "task_id",
    "actor", "delegated_actor", "delegation", "action", "resource", "destination", "decision", "reason",
    "decision_ref", "policy_id", "policy_version", "policy_engine", "credential_id", "parent_credential_id",
    "credential_type", "audience", "scopes", "required_scopes", "grant_id", "approved_by", "exception_id",
    "outcome", "target", "pep", "tenant", "resource_tenant",
)  # fmt: skip

_MARKS: Final = {"allow": "● allow", "deny": "✕ deny", "error": "▲ error"}
_DRAWN: Final = frozenset('●✕▲·→│├└─"')
_HIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

Broken = Literal["missing parent", "circle of parents"]


@dataclass(frozen=True, slots=True)
class Narrowing:
    """How a credential's scopes differ from those of the one it was derived from, seen in this trace."""

    parent: str
    dropped: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(slots=True)
class Node:
    """One event: its row (the columns of `COLUMNS`, null ones left out) and those below it, by time."""

    event: dict[str, Any]
    number: int
    parent: Node | None = None
    guessed: bool = False
    """Whether the place was chosen by request or task, for want of a span."""
    depth: int = 0
    broken: Broken | None = None
    narrowing: Narrowing | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def principal(self) -> str | None:
        """Who acted: the agent, else the initiator."""
        value: str | None = self.event.get("delegated_actor") or self.event.get("actor")
        return value


@dataclass(frozen=True, slots=True)
class Trace:
    """The events of one trace as a forest; `chains` are its delegation chains, the longest first."""

    trace_id: str | None
    roots: tuple[Node, ...]
    chains: tuple[tuple[str, ...], ...]

    def nodes(self) -> Iterator[Node]:
        """Every node, each before those below it."""
        stack = list(reversed(self.roots))
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))

    def as_json(self) -> dict[str, Any]:
        """The tree as flat nodes that name their parent, since JSON readers bound their nesting."""
        return {
            "trace_id": self.trace_id,
            "chains": [list(chain) for chain in self.chains],
            "nodes": [_node_as_json(node) for node in self.nodes()],
        }


def trace_tree(rows: pa.Table | Iterable[Mapping[str, Any]]) -> Trace:
    """The tree of the event rows of one trace; their order does not matter."""
    if isinstance(rows, pa.Table):
        rows = rows.select([name for name in COLUMNS if name in rows.column_names]).to_pylist()
    events = [{name: row[name] for name in COLUMNS if row.get(name) is not None} for row in rows]
    events.sort(key=_order)
    nodes = [Node(event, number) for number, event in enumerate(events)]
    _link(nodes)
    _cut_circles(nodes)
    roots: list[Node] = []
    for node in nodes:
        (node.parent.children if node.parent else roots).append(node)
    trace = Trace(
        next((event["trace_id"] for event in events if "trace_id" in event), None),
        tuple(roots),
        _chains(events),
    )
    for node in trace.nodes():
        node.depth = node.parent.depth + 1 if node.parent else 0
    _narrow(nodes)
    return trace


def _order(event: Mapping[str, Any]) -> tuple[datetime, str, str]:
    time = event.get("time") or datetime.min.replace(tzinfo=UTC)
    return (time, str(event.get("source", "")), str(event.get("event_id", "")))


def _link(nodes: Sequence[Node]) -> None:
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
                tuple(s for s in event["scopes"] if not any(_covers(wide, s) for wide in scopes[above])),
            )


def _covers(wide: str, scope: str) -> bool:
    """Scope grammar `resource:verb`, split at the last colon; `*` stands for one whole side."""
    resource, colon, verb = scope.rpartition(":")
    wide_resource, wide_colon, wide_verb = wide.rpartition(":")
    if not colon or not wide_colon:
        return wide == scope
    return wide_resource in ("*", resource) and wide_verb in ("*", verb)


def _node_as_json(node: Node) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": node.number,
        "parent": node.parent.number if node.parent else None,
        "depth": node.depth,
        **node.event,
        "principal": node.principal,
    }
    if isinstance(value.get("time"), datetime):
        value["time"] = _time(value["time"])
    if node.broken:
        value["broken"] = node.broken
    if node.narrowing:
        value["narrowing"] = {
            "from": node.narrowing.parent,
            "dropped": list(node.narrowing.dropped),
            "added": list(node.narrowing.added),
        }
    return value


def render(trace: Trace) -> str:
    """The tree as plain text. What senders wrote cannot move the cursor, hide or reorder text."""
    nodes = list(trace.nodes())
    lines = [_heading(trace, nodes)]
    lines += [_chain(chain) for chain in trace.chains[:MAX_CHAINS]]
    if len(trace.chains) > MAX_CHAINS:
        lines.append(f"… and {len(trace.chains) - MAX_CHAINS} more chains of delegation")
    # (node, what its ancestors draw before it, whether it is the last below its parent)
    stack = [(root, "", root is trace.roots[-1]) for root in reversed(trace.roots)]
    while stack:
        node, before, last = stack.pop()
        deep = node.depth >= MAX_INDENT_LEVELS
        level = f"[level {node.depth + 1}] " if deep else ""
        lines.append(f"{before}{'└─ ' if last else '├─ '}{level}{_line(node)}")
        inside = before if deep else before + ("   " if last else "│  ")
        hanging = inside + ("│    " if node.children and not deep else "     ")
        lines += [hanging + detail for detail in _details(node)]
        stack += [(child, inside, child is node.children[-1]) for child in reversed(node.children)]
    return "\n".join(lines) + "\n"


def _heading(trace: Trace, nodes: Sequence[Node]) -> str:
    answers = [node.event.get("decision") for node in nodes]
    counts = ", ".join(f"{answers.count(word)} {word}" for word in _MARKS)
    times = [node.event["time"] for node in nodes if "time" in node.event]
    span = f", {_time(min(times))} to {_time(max(times))}" if times else ""
    name = _name("unknown" if trace.trace_id is None else trace.trace_id)
    return f"trace {name}: {len(nodes)} events ({counts}){span}"


def _line(node: Node) -> str:
    event = node.event
    time = _time(event["time"]) if "time" in event else "no time"
    words = [time, _MARKS.get(event.get("decision", ""), "·"), _name(event.get("kind", "event"))]
    if node.principal:
        words.append(_name(node.principal))
    if "action" in event:
        words.append(_name(event["action"]))
    words += [f"→ {_name(event[name])}" for name in ("resource", "destination", "target") if name in event]
    if "outcome" in event:
        words.append(_name(event["outcome"]))
    if "reason" in event:
        words.append(f"({_name(event['reason'])})")
    if node.broken:
        words.append(f"[{node.broken}]")
    return "  ".join(words)


def _details(node: Node) -> list[str]:
    event = node.event
    details = []
    if "policy_id" in event or "policy_version" in event:
        policy = _name(event.get("policy_id", "?"))
        version = _name(event.get("policy_version", "unknown"))
        engine = f" by {_name(event['policy_engine'])}" if "policy_engine" in event else ""
        details.append(f"policy {policy} version {version}{engine}")
    if "credential_id" in event:
        details.append(_credential(node))
    elif "scopes" in event:
        details.append(f"scopes {_list(event['scopes'])}")
    if "required_scopes" in event:
        details.append(f"required scopes {_list(event['required_scopes'])}")
    chain = event.get("delegation") or ()
    if len(chain) > 1:
        details.append("for " + _chain(chain))
    if "tenant" in event and event.get("resource_tenant") not in {None, event["tenant"]}:
        details.append(f"tenant {_name(event['tenant'])} → tenant {_name(event['resource_tenant'])}")
    details += [
        f"{name.replace('_', ' ')} {_name(event[name])}"
        for name in ("grant_id", "approved_by", "exception_id")
        if name in event
    ]
    return details


def _credential(node: Node) -> str:
    event = node.event
    text = f"credential {_name(event['credential_id'])}"
    if "credential_type" in event:
        text += f" ({_name(event['credential_type'])})"
    if "audience" in event:
        text += f" for {_name(event['audience'])}"
    if "parent_credential_id" in event:
        text += f" from {_name(event['parent_credential_id'])}"
    if "scopes" in event:
        text += f": scopes {_list(event['scopes'])}"
    if node.narrowing and node.narrowing.dropped:
        text += f", narrowed by {_list(node.narrowing.dropped)}"
    if node.narrowing and node.narrowing.added:
        text += f", WIDER than its parent by {_list(node.narrowing.added)}"
    return text


def _list(values: Sequence[str]) -> str:
    names = [_name(value) for value in values[:MAX_LISTED]]
    more = f" and {len(values) - MAX_LISTED} more" if len(values) > MAX_LISTED else ""
    return (", ".join(names) or "none") + more


def _chain(chain: Sequence[str]) -> str:
    """A chain of delegation; of a long one both ends: who began it and who acts."""
    if len(chain) <= MAX_LISTED:
        return " → ".join(_name(who) for who in chain)
    half = MAX_LISTED // 2
    ends = [_name(who) for who in (*chain[:half], *chain[-half:])]
    return " → ".join([*ends[:half], f"({len(chain) - 2 * half} more)", *ends[half:]])


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _name(value: object) -> str:
    """Untrusted text for a terminal: nothing hidden, no look-alike of our own drawing, bounded."""
    text = str(value)
    cut = text[:MAX_TEXT_CHARS]
    safe = "".join(
        f"\\u{{{ord(char):x}}}" if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in cut
    )
    if len(text) > MAX_TEXT_CHARS:
        safe += "…"
    if not safe or any(char.isspace() or char in _DRAWN for char in safe):
        return '"' + safe.replace('"', '\\"') + '"'
    return safe
