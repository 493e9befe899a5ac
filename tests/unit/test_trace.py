"""Trees from event rows: structure, broken structure, long chains, and hostile names."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import UsageError
from ledger.events import ARROW_SCHEMA
from ledger.query.trace import MAX_INDENT_LEVELS, Trace, render, trace_tree
from ledger.reader import Ledger
from tests.making import make_ledger, row, stretch

START = datetime(2026, 11, 23, 10, tzinfo=UTC)
CHAIN = ["user:alice", "agent:planner", "agent:triage-7"]


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "kind": "decision", "source": "s", "trace_id": "4b" * 16,
        "time": START + timedelta(milliseconds=number), **fields,
    }  # fmt: skip


def span(number: int) -> str:
    return f"{number + 1:016x}"


def shape(trace: Trace) -> dict[str, str | None]:
    return {n.event["event_id"]: n.parent.event["event_id"] if n.parent else None for n in trace.nodes()}


STORY = [
    event(0, kind="task", span_id=span(0), actor="user:alice", outcome="started"),
    event(1, kind="issuance", span_id=span(1), parent_span_id=span(0), actor="user:alice",
          delegated_actor="agent:planner", decision="allow", credential_id="c1", credential_type="session",
          scopes=["ticket:*", "mail:read"], delegation=CHAIN[:2]),
    event(2, kind="issuance", span_id=span(2), parent_span_id=span(1), actor="user:alice",
          delegated_actor="agent:triage-7", decision="allow", credential_id="c2", parent_credential_id="c1",
          credential_type="capability", scopes=["ticket:read", "wiki:read"], delegation=CHAIN),
    event(3, span_id=span(3), parent_span_id=span(2), delegated_actor="agent:triage-7", action="ticket.read",
          resource="ticket:4711", decision="deny", reason="tenant-mismatch", policy_id="tickets",
          policy_version="v3", policy_engine="cedar", tenant="a", resource_tenant="b"),
    event(4, span_id=span(3), parent_span_id=span(2), kind="action", delegated_actor="agent:triage-7",
          decision="error", outcome="failed"),
]  # fmt: skip

EXPECTED = """\
trace 4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b: 5 events (2 allow, 1 deny, 1 error), \
2026-11-23T10:00:00.000000Z to 2026-11-23T10:00:00.004000Z
user:alice → agent:planner → agent:triage-7
└─ 2026-11-23T10:00:00.000000Z  ·  task  user:alice  started  s#e0
   └─ 2026-11-23T10:00:00.001000Z  ● allow  issuance  agent:planner  s#e1
      │    credential c1 (session): scopes ticket:*, mail:read
      │    for user:alice → agent:planner
      └─ 2026-11-23T10:00:00.002000Z  ● allow  issuance  agent:triage-7  s#e2
         │    credential c2 (capability) from c1: scopes ticket:read, wiki:read, narrowed by ticket:*, \
mail:read, WIDER than its parent by wiki:read
         │    for user:alice → agent:planner → agent:triage-7
         └─ 2026-11-23T10:00:00.003000Z  ✕ deny  decision  agent:triage-7  ticket.read  → ticket:4711  \
(tenant-mismatch)  s#e3
            │    policy tickets version v3 by cedar
            │    tenant a → tenant b
            └─ 2026-11-23T10:00:00.004000Z  ▲ error  action  agent:triage-7  failed  s#e4
"""


def test_the_story_of_a_denied_trace() -> None:
    assert render(trace_tree(STORY)) == EXPECTED


def test_order_and_form_of_the_rows_do_not_matter() -> None:
    table = pa.Table.from_pylist([dict(row) for row in reversed(STORY)], schema=ARROW_SCHEMA)
    assert render(trace_tree(table)) == EXPECTED
    assert trace_tree(table).as_json() == trace_tree(STORY).as_json()


def test_as_json_is_flat_and_complete() -> None:
    value = json.loads(json.dumps(trace_tree(STORY).as_json()))
    assert value["chains"] == [CHAIN]
    assert [(node["id"], node["parent"], node["depth"]) for node in value["nodes"]] == [
        (0, None, 0), (1, 0, 1), (2, 1, 2), (3, 2, 3), (4, 3, 4),
    ]  # fmt: skip
    assert value["nodes"][2]["narrowing"] == {
        "from": "c1", "dropped": ["ticket:*", "mail:read"], "added": ["wiki:read"],
    }  # fmt: skip
    assert value["nodes"][3]["principal"] == "agent:triage-7"
    assert value["nodes"][3]["time"] == "2026-11-23T10:00:00.003000Z"


def test_without_spans_the_reference_then_request_and_task_decide() -> None:
    trace = trace_tree([
        event(0, request_id="r1", task_id="t1"),
        event(1, kind="task", task_id="t1", request_id="r1"),
        event(2, request_id="r1", task_id="t1"),
        event(3, kind="action", decision_ref="e2", request_id="r1"),
        event(4, kind="action", source="other", decision_ref="s#e0"),
        event(5, kind="signal"),
        event(6, request_id="r2", task_id="t1"),
    ])  # fmt: skip
    assert shape(trace) == {
        "e1": None, "e0": "e1", "e2": "e0", "e3": "e2", "e4": "e0", "e5": None, "e6": "e1",
    }  # fmt: skip
    assert not [node for node in trace.nodes() if node.broken]


def test_an_action_told_before_the_decision_of_its_request() -> None:
    trace = trace_tree([event(0, kind="action", decision_ref="e1", request_id="r"), event(1, request_id="r")])
    assert shape(trace) == {"e1": None, "e0": "e1"}
    assert not [node for node in trace.nodes() if node.broken]


def test_missing_parents_are_said() -> None:
    trace = trace_tree([event(0, span_id=span(0), parent_span_id=span(9))])
    assert trace.roots[0].broken == "missing parent"
    assert "[missing parent]" in render(trace)


@pytest.mark.parametrize("length", [1, 2, 5, 3_000])
def test_circles_are_cut_once(length: int) -> None:
    rows = [event(n, span_id=span(n), parent_span_id=span((n - 1) % length)) for n in range(length)]
    rows.append(event(length, span_id=span(length), parent_span_id=span(length // 2)))
    trace = trace_tree(rows)
    nodes = list(trace.nodes())
    assert len(nodes) == length + 1
    assert [node.event["event_id"] for node in nodes if node.broken] == ["e0"]
    assert render(trace).count("\n") >= length


def test_thousands_of_hops_stay_readable() -> None:
    hops = 3_000
    rows = [
        event(n, span_id=span(n), parent_span_id=span(n - 1) if n else None, decision="allow",
              delegation=[f"agent:{k}" for k in range(n + 1)])
        for n in range(hops)
    ]  # fmt: skip
    trace = trace_tree(rows)
    text = render(trace)
    assert [len(chain) for chain in trace.chains] == [hops]
    assert f"[level {hops}]" in text
    assert "agent:0 → agent:1" in text.splitlines()[1]
    assert f"({hops - 12} more)" in text.splitlines()[1]
    assert max(map(len, text.splitlines())) < 3 * MAX_INDENT_LEVELS + 300
    assert max(node["depth"] for node in trace.as_json()["nodes"]) == hops - 1


def test_chains_that_part_are_all_named() -> None:
    trace = trace_tree([
        event(0, delegation=["user:a", "agent:b"]),
        event(1, delegation=["user:a", "agent:c", "agent:d"]),
        event(2, delegation=["user:a"]),
        event(3, actor="user:a", delegated_actor="agent:b"),
        event(4, delegated_actor="agent:d"),
        event(5, delegated_actor="agent:z"),
    ])  # fmt: skip
    assert trace.chains == (("user:a", "agent:c", "agent:d"), ("user:a", "agent:b"), ("agent:z",))


def test_nothing_at_all() -> None:
    assert render(trace_tree([])) == "trace unknown: 0 events (0 allow, 0 deny, 0 error)\n"


HOSTILE = [
    "\x1b[2J\x1b[H", "\x1b]8;;http://x\x07link", "a\nb", "a\r\nb", "\x9b31m",
    "\u202egnp.exe", "\u2066x\u2069",
    "\u200bzero",
    "\ufeff", "\u2028line", "\x00", "\x7f", "\b\b\b", "\ud800", "\U000e0041", "",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_names_cannot_move_the_cursor_or_hide(text: str) -> None:
    fields = dict.fromkeys(
        ["actor", "action", "resource", "destination", "target", "reason", "outcome", "policy_id", "kind",
         "policy_version", "policy_engine", "credential_id", "credential_type", "audience", "tenant",
         "parent_credential_id", "grant_id", "approved_by", "exception_id", "trace_id"], text,
    )  # fmt: skip
    fields["resource_tenant"] = text + "x"
    row = event(0, **fields) | {"delegation": [text, text], "scopes": [text], "required_scopes": [text]}
    out = render(trace_tree([row]))
    assert all(c == "\n" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in out)
    honest = event(0, **dict.fromkeys(fields, "x"), delegation=["x", "x"])
    honest |= {"scopes": ["x"], "required_scopes": ["x"], "resource_tenant": "y"}
    assert out.count("\n") == render(trace_tree([honest])).count("\n")


def test_a_name_cannot_pose_as_a_decision() -> None:
    out = render(trace_tree([event(0, resource="x  ● allow", decision="deny", reason='say "yes" → go')]))
    assert '→ "x  ● allow"' in out
    assert '("say \\"yes\\" → go")' in out


def test_long_names_are_cut() -> None:
    assert len(render(trace_tree([event(0, resource="x" * 100_000)]))) < 1_000


@given(st.lists(st.tuples(*[st.none() | st.integers(0, 6)] * 5), max_size=12))
def test_every_event_is_drawn_once_whatever_points_where(links: list[tuple[int | None, ...]]) -> None:
    rows = []
    for number, (own, above, request, task, named) in enumerate(links):
        row = event(number, kind="task" if number % 3 == 0 else "decision")
        row["span_id"] = None if own is None else span(own)
        row["parent_span_id"] = None if above is None else span(above)
        row["request_id"] = None if request is None else f"r{request}"
        row["task_id"] = None if task is None else f"t{task}"
        row["decision_ref"] = None if named is None else f"e{named}"
        rows.append(row)
    trace = trace_tree(rows)
    assert sorted(node.number for node in trace.nodes()) == list(range(len(rows)))
    for node in trace.nodes():
        assert all(child.parent is node and child.depth == node.depth + 1 for child in node.children)
    assert render(trace) == render(trace_tree(list(reversed(rows))))


def test_a_page_counts_over_all_and_says_that_it_is_cut(tmp_path: Path) -> None:
    made = make_ledger(tmp_path)
    rows = [row(n, trace_id="4b" * 16, time=START + timedelta(seconds=n)) for n in range(30)]
    rows[29] |= {"decision": "deny", "span_id": span(1), "parent_span_id": span(0)}
    rows[0]["span_id"] = span(0)
    made.writer().commit([stretch(rows)])
    with Ledger.open(str(made.folder)) as ledger:
        first = ledger.trace("4b" * 16, limit=20)
        text = render(first)
        assert "30 events (29 allow, 1 deny, 0 error)" in text
        assert text.count("… CUT: events 1 to 20 of 30") == 2
        assert "--skip 20 shows what follows" in text
        value = first.as_json()
        assert (value["events"], value["shown"], value["truncated"]) == (30, 20, True)
        assert value["decisions"] == {"allow": 29, "deny": 1, "error": 0}
        second = ledger.trace("4b" * 16, skip=20, limit=20)
        assert second.shown == 10
        assert "[parent on another page]" in render(second)
        assert "CUT: events 21 to 30 of 30" in render(second)
        assert "shows what follows" not in render(second)
        assert not ledger.trace("4b" * 16).cut
        with pytest.raises(UsageError, match="no more than 30 events"):
            ledger.trace("4b" * 16, skip=30)
        with pytest.raises(UsageError, match="No event has the trace id"):
            ledger.trace("4c" * 16, skip=30)
