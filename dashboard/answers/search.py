"""Search: whatever is pasted, found by equality among the ids, names and addresses of events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dashboard.access import Right
from dashboard.statements import Reading
from ledger.errors import UsageError

MAX_CHARACTERS: Final = 1_024
KINDS: Final = (
    ("event_id", "event"),
    ("trace_id", "trace"),
    ("session_id", "session"),
    ("credential_id", "credential"),
    ("parent_credential_id", "parent credential"),
    ("request_id", "request"),
    ("task_id", "task"),
    ("exception_id", "exception"),
    ("grant_id", "grant"),
    ("alert_id", "alert"),
    ("approval_id", "approval"),
    ("target", "target"),
    ("resource", "resource"),
    ("delegated_actor", "agent"),
    ("actor", "initiator"),
    ("workload", "workload"),
    ("client_ip", "address"),
    ("destination", "destination"),
    ("source", "source"),
)
"""Columns by what they name, those with bloom filters first."""
PREFIXES: Final = {
    "session": "session_id",
    "credential": "credential_id",
    "grant": "grant_id",
    "exception": "exception_id",
    "alert": "alert_id",
    "task": "task_id",
    "case": "target",
    "query": "target",
}
_IDS: Final = frozenset(column for column, _ in KINDS[:11])
_FORMS: Final = (
    (re.compile(r"[0-9a-fA-F-]{16,}"), _IDS),
    (re.compile(r"[0-9.]{7,15}|[0-9a-fA-F:.]*::?[0-9a-fA-F:.]*"), {"client_ip", "destination"}),
    (
        re.compile(r"[a-z][a-z0-9+.-]*:.+"),
        {"target", "resource", "delegated_actor", "actor", "workload", "source"},
    ),
)
"""Where a text of a form is looked for first: ten million rows cost a sixth of a second for each column."""
_ALONE: Final = ("event_id", "trace_id")
"""What is one of these is nothing else."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What a text is: the column that holds it, how often, and when last."""

    column: str
    kind: str
    value: str
    count: int
    last_seen: datetime
    source: str
    event_id: str


def search(reading: Reading, text: str, *, parts: bool = False) -> list[Hit]:
    """Everything that the text is, one hit for each kind. With `parts` also values that only hold it.

    Raises:
        UsageError: the text is empty or too long.
    """
    reading.viewer.require(Right.ROWS)
    text = text.strip()
    if not text or len(text) > MAX_CHARACTERS:
        raise UsageError(
            "There is nothing to search for.", f"Paste an id or a name of up to {MAX_CHARACTERS} letters."
        )
    source, mark, rest = text.rpartition("#")
    found = _equal(reading, text)
    if not found and mark:
        found = [hit for hit in _equal(reading, rest) if hit.column == "event_id" and hit.source == source]
    prefix, colon, rest = text.partition(":")
    if not found and colon and prefix in PREFIXES:
        found = [hit for hit in _equal(reading, rest) if hit.column == PREFIXES[prefix]]
    if not found and parts:
        found = _holding(reading, text)
    return found


def searched() -> str:
    """What is searched, in words."""
    return ", ".join(kind for _, kind in KINDS)


def _equal(reading: Reading, text: str) -> list[Hit]:
    """Where it stands among the columns of its form; where it stands in none, among the others."""
    first = next((columns for form, columns in _FORMS if form.fullmatch(text)), frozenset[str]())
    own = [pair for pair in KINDS if pair[0] in first]
    return _equal_in(reading, text, own) or _equal_in(reading, text, [one for one in KINDS if one not in own])


def _equal_in(reading: Reading, text: str, kinds: Sequence[tuple[str, str]]) -> list[Hit]:
    found = []
    for column, kind in kinds:
        value = text.lower() if column == "trace_id" else text
        # One statement per column: equality with a constant is what lets filters skip files.
        rows = reading.rows(
            f"SELECT count(*) AS n, max(time) AS last, max_by(source, time) AS source, "  # noqa: S608  # constants alone
            f"max_by(event_id, time) AS event_id FROM events WHERE {column} = ?",
            [value],
        ).to_pylist()
        if rows[0]["n"]:
            found.append(
                Hit(
                    column, kind, value, rows[0]["n"], rows[0]["last"], rows[0]["source"], rows[0]["event_id"]
                )
            )
            if column in _ALONE:
                break
    return found


def _holding(reading: Reading, text: str) -> list[Hit]:
    found = []
    for column, kind in KINDS:
        rows = reading.rows(
            f"SELECT {column} AS value, count(*) AS n, max(time) AS last, max_by(source, time) AS source, "  # noqa: S608  # constants alone
            f"max_by(event_id, time) AS event_id FROM events WHERE contains(lower({column}), ?) "
            "GROUP BY ALL ORDER BY n DESC, value LIMIT 5",
            [text.lower()],
        ).to_pylist()
        found += [
            Hit(column, kind, row["value"], row["n"], row["last"], row["source"], row["event_id"])
            for row in rows
        ]
    return found
