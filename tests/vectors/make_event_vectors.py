"""Writes event_v1.json: rows, their canonical bytes and their leaf hashes.

Run from the project's folder: python -m tests.vectors.make_event_vectors

It imports nothing of the product, so the vectors pin the format and not the code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import rfc8785

VECTORS = Path(__file__).with_name("event_v1.json")
INT_MAX = 2**53 - 1
BASE: dict[str, Any] = {
    "event_id": "e-1",
    "kind": "decision",
    "time": "2026-11-23T10:00:02.000000Z",
    "source": "opa/todo-pdp",
    "retention": "standard",
}
ROWS: dict[str, dict[str, Any]] = {
    "the required fields": BASE,
    "a null is left out": {**BASE, "actor": None, "sequence": None, "roles": None},
    "empty text and an empty list are kept": {**BASE, "reason": "", "scopes": [], "roles": [""]},
    "controls are escaped in lower case": {**BASE, "reason": "".join(map(chr, range(0x20))) + '"\\/\x7f'},
    "beyond ASCII stays as it is": {
        **BASE, "actor": "user:zo\u00eb \u2028\ufeff\U0001f600", "roles": ["\u20ac", "\n"],
    },
    "integers at both ends": {**BASE, "sequence": INT_MAX, "bytes_out": -INT_MAX, "count": 0},
    "first and last time": {
        **BASE, "issued_at": "0001-01-01T00:00:00.000000Z", "expires_at": "9999-12-31T23:59:59.999999Z",
    },
    "before 1970": {**BASE, "time": "1969-12-31T23:59:59.999999Z"},
    "attributes are text": {**BASE, "attributes": '{"a":[1,2.5,"\\"x\\""],"\u00e9":null}'},
    "a full decision": {
        **BASE,
        "instance": "pdp-1", "sequence": 4711, "pep": "gateway", "tenant": "acme", "environment": "prod",
        "request_id": "r-1", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
        "session_id": "s-1", "session_risk": 12, "session_verified": True, "actor": "user:alice",
        "delegated_actor": "agent:triage-7", "delegation": ["user:alice", "agent:triage-7"],
        "action": "ticket:read", "action_type": "read", "impact": "low", "resource": "ticket:4711",
        "decision": "deny", "reason": "scope-exceeded", "policy_version": "v7", "policy_engine": "opa",
        "conflict": False, "topic": "decisions", "topic_id": "q1Wl0r6pQ2mYx3b7Zt9KcA", "partition": 3,
        "record_offset": 1209, "part": 0,
    },
}  # fmt: skip
LETTER: dict[str, Any] = {
    "topic": "decisions", "partition": 0, "record_offset": 17, "time": "2026-11-23T10:00:02.000001Z",
    "status": "rejected", "reason": "no such kind", "field": "kind", "payload": "eyJraW5kIjoieCJ9",
    "digest": hashlib.sha256(b'{"kind":"x"}').hexdigest(),
}  # fmt: skip


def vector(name: str, row: dict[str, Any]) -> dict[str, Any]:
    canonical = rfc8785.dumps({key: value for key, value in row.items() if value is not None})
    leaf = hashlib.sha256(b"\x00" + canonical).hexdigest()
    return {"name": name, "row": row, "canonical": canonical.decode(), "leaf": leaf}


def text() -> str:
    made = {
        "events": [vector(name, row) for name, row in ROWS.items()],
        "deadletters": [vector("a rejected message", LETTER)],
    }
    return json.dumps(made, indent=1) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
