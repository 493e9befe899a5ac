"""The tree of one trace as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ledger.format.plain_text import plain
from ledger.query.trace_nodes import Node, Trace, time_text

MAX_INDENT_LEVELS: Final = 24
"""Deeper hops are drawn at this depth with their level in words: lines stay readable."""
MAX_TEXT_CHARS: Final = 160
MAX_LISTED: Final = 12
"""Members of one list that are drawn; the rest is counted."""
MAX_CHAINS: Final = 5
"""Chains of delegation in the heading, longest first; the rest is counted."""

_MARKS: Final = {"allow": "● allow", "deny": "✕ deny", "error": "▲ error"}
_DRAWN: Final = frozenset('●✕▲·→│├└─"')


def render(trace: Trace) -> str:
    """The tree as plain text. What senders wrote cannot move the cursor, hide or reorder text."""
    lines = [_heading(trace)]
    if trace.cut:
        lines.append(_page(trace))
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
    if trace.cut:
        lines.append(_page(trace))
    return "\n".join(lines) + "\n"


def _heading(trace: Trace) -> str:
    whole = trace.whole
    counts = ", ".join(f"{whole.decisions.get(word, 0)} {word}" for word in _MARKS)
    span = f", {time_text(whole.first)} to {time_text(whole.last)}" if whole.first and whole.last else ""
    name = _name("unknown" if trace.trace_id is None else trace.trace_id)
    return f"trace {name}: {whole.events} events ({counts}){span}"


def _page(trace: Trace) -> str:
    first, last = trace.whole.skipped + 1, trace.whole.skipped + trace.shown
    line = f"… CUT: events {first} to {last} of {trace.whole.events}, in the order of time, are shown"
    return line + (f"; --skip {last} shows what follows" if last < trace.whole.events else "")


def _line(node: Node) -> str:
    event = node.event
    time = time_text(event["time"]) if "time" in event else "no time"
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
    words.append(_name(f"{event.get('source', '')}#{event.get('event_id', '')}"))
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


def _name(value: object) -> str:
    """Untrusted text for a terminal: nothing hidden, no look-alike of our own drawing, bounded."""
    text = str(value)
    cut = text[:MAX_TEXT_CHARS]
    safe = plain(cut)
    if len(text) > MAX_TEXT_CHARS:
        safe += "…"
    if not safe or any(char.isspace() or char in _DRAWN for char in safe):
        return '"' + safe.replace('"', '\\"') + '"'
    return safe
