"""The events of one trace as nodes of a forest, and that forest as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Broken = Literal["missing parent", "parent on another page", "circle of parents"]


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
class Whole:
    """All events of a trace, of which a page is shown: how many, by decision, and from when to when.

    The page begins behind the first `skipped` events in the order of time.
    """

    events: int
    decisions: dict[str, int]
    first: datetime | None = None
    last: datetime | None = None
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """Events of one trace as a forest; `chains` are their delegation chains, the longest first."""

    trace_id: str | None
    roots: tuple[Node, ...]
    chains: tuple[tuple[str, ...], ...]
    whole: Whole

    @property
    def shown(self) -> int:
        """Events that are in the forest."""
        return sum(1 for _ in self.nodes())

    @property
    def cut(self) -> bool:
        """Whether the trace has more events than the forest."""
        return self.shown < self.whole.events

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
            "events": self.whole.events,
            "decisions": self.whole.decisions,
            "skipped": self.whole.skipped,
            "shown": self.shown,
            "truncated": self.cut,
            "chains": [list(chain) for chain in self.chains],
            "nodes": [_node_as_json(node) for node in self.nodes()],
        }


def _node_as_json(node: Node) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": node.number,
        "parent": node.parent.number if node.parent else None,
        "depth": node.depth,
        **node.event,
        "principal": node.principal,
    }
    if isinstance(value.get("time"), datetime):
        value["time"] = time_text(value["time"])
    if node.broken:
        value["broken"] = node.broken
    if node.narrowing:
        value["narrowing"] = {
            "from": node.narrowing.parent,
            "dropped": list(node.narrowing.dropped),
            "added": list(node.narrowing.added),
        }
    return value


def time_text(time: datetime) -> str:
    """A time in UTC with microseconds, as the canonical form writes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
