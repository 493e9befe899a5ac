"""The views that rules query, and what stands behind each.

A view over rows shows those of one stretch of time. Views of grants, signals, revocations, policies,
exceptions and reviews show all of them, however old: there are few. What else lies before the stretch is
remembered by key and UTC day (`SIGHTINGS`): when it was first and last seen on that day, and how often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ledger.events import SQL_TYPES

KEPT_KINDS: Final[dict[str, str]] = {
    "delegation": "delegations", "signal": "signals", "revocation": "revocations", "policy": "policies",
    "exception": "exceptions", "review": "reviews",
}  # fmt: skip
"""Kinds whose rows are all kept, and their views."""
STRETCH_KINDS: Final[dict[str, str]] = {
    "decision": "decisions", "issuance": "issuances", "action": "actions", "session": "sessions",
    "task": "tasks", "heartbeat": "heartbeats",
}  # fmt: skip
UNSEEN_KINDS: Final = ("alert", "case", "access")
"""Kinds that no rule sees: what we or our users said about the rest."""
BASE_COLUMNS: Final = (
    "event_id", "kind", "time", "source", "tenant", "environment", "actor", "delegated_actor", "exercise",
    "trace_id",
)  # fmt: skip
"""Kept of every row, since alerts name them."""

DERIVED: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "ref": ("source || '#' || event_id", ()),
    "principal": ("coalesce(delegated_actor, actor)", ()),
    "network": ("network", ("client_ip",)),
    "family": ("split_part(resource, '/', 1)", ("resource",)),
    "agentic": ("agentic OR coalesce(starts_with(coalesce(delegated_actor, actor), 'agent:'), false)", ()),
    "sensitive": ("coalesce(impact = 'high', false) OR coalesce(data_class = 'restricted', false)",
                  ("impact", "data_class", "action")),
    "accepted": ("coalesce((kind = 'action' AND outcome = 'succeeded')"
                 " OR (kind = 'decision' AND decision = 'allow'), false)", ("outcome", "decision")),
    "by_policy": ("policy_engine IS NOT NULL AND policy_version IS NOT NULL",
                  ("policy_engine", "policy_version")),
    "grade": ("CASE WHEN action IS NULL OR resource IS NULL OR decision IS NULL THEN 0"
              " WHEN policy_version IS NULL THEN 1 WHEN attributes IS NULL THEN 2"
              " WHEN policy_digest IS NULL THEN 3 ELSE 4 END",
              ("action", "resource", "decision", "policy_version", "attributes", "policy_digest")),
}  # fmt: skip
"""Columns that every row has besides the schema's: their SQL, and the schema's columns that they need."""
RESPONDING: Final = frozenset({
    "decision", "session_id", "credential_id", "parent_credential_id", "target", "alert_id",
})  # fmt: skip
"""Columns by which denies of what was revoked for an alert are told from others."""
KEPT_AS_WORDS: Final = {"attributes": "CASE WHEN attributes IS NULL THEN NULL ELSE '{}' END"}
"""Columns of which only what a rule can ask about is kept: that they are there."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was seen, by key and UTC day: the columns of the key, and the rows that it is seen in."""

    name: str
    keys: tuple[tuple[str, str], ...]
    """(column, its SQL over `rows`)"""
    where: str
    needs: tuple[str, ...]
    meaning: str
    unnest: str = ""


SIGHTINGS: Final[tuple[Sighting, ...]] = (
    Sighting(
        "edge_days", (("tenant", "tenant"), ("delegator", "delegation[step]"),
                      ("delegate", "delegation[step + 1]")),
        "len(delegation) > 1", ("delegation",), "who handed over to whom",
        "unnest(generate_series(1, len(delegation) - 1)) AS step",
    ),
    Sighting(
        "member_days", (("tenant", "tenant"), ("principal", "who")), "len(delegation) > 1", ("delegation",),
        "who stood in a delegation chain", "unnest(delegation) AS who",
    ),
    Sighting(
        "destination_days", (("tenant", "tenant"), ("principal", "coalesce(delegated_actor, actor)"),
                             ("destination", "destination")),
        "destination IS NOT NULL", ("destination",), "which destinations a principal sent to",
    ),
    Sighting(
        "access_days", (("principal", "coalesce(delegated_actor, actor)"), ("action", "action"),
                        ("type", "split_part(resource, ':', 1)")),
        "kind = 'decision' AND decision = 'allow'", ("action", "resource", "decision"),
        "what a principal was allowed",
    ),
    Sighting(
        "environment_days", (("principal", "coalesce(delegated_actor, actor)"),
                             ("environment", "environment")),
        "kind IN ('decision', 'action', 'issuance') AND environment IS NOT NULL", (),
        "in which environments a principal acted",
    ),
    Sighting(
        "use_days", (("principal", "coalesce(delegated_actor, actor)"), ("scopes", "scopes"),
                     ("required_scopes", "required_scopes")),
        "kind = 'action' AND scopes IS NOT NULL AND required_scopes IS NOT NULL",
        ("scopes", "required_scopes"), "which scopes a principal held, and which of them an action needed",
    ),
    Sighting(
        "version_days", (("policy_id", "policy_id"), ("environment", "environment"),
                         ("policy_version", "policy_version")),
        "kind = 'decision' AND policy_id IS NOT NULL AND policy_version IS NOT NULL",
        ("policy_id", "policy_version"), "which versions of a policy decided",
    ),
    Sighting(
        "undated_days", (("credential_id", "credential_id"),),
        "credential_id IS NOT NULL AND issued_at IS NULL", ("credential_id", "issued_at"),
        "credentials whose uses do not say when they were issued",
    ),
    Sighting(
        "source_days", (("tenant", "tenant"), ("source", "source")), "true", (),
        "what each source said at all",
    ),
)  # fmt: skip

EDGES: Final = "delegation_edges"
"""One row for each step of each chain in the stretch: the columns of EDGE_COLUMNS, delegator and delegate."""
EDGE_COLUMNS: Final = ("kind", "time", "source", "event_id", "ref", "tenant", "environment", "principal")
ALWAYS_SHOWN: Final = frozenset({*BASE_COLUMNS, *EDGE_COLUMNS, "delegation"})
VIEWS: Final = frozenset({
    "events", EDGES, *STRETCH_KINDS.values(), *KEPT_KINDS.values(), *(one.name for one in SIGHTINGS),
    "expected_sources", "source_settings",
})  # fmt: skip
"""Every name that a rule's query may ask."""
DENIES_SHOWN: Final = frozenset({"events", "decisions", "issuances"})
"""Views whose rows may be denies."""
BOUNDLESS: Final = frozenset({*KEPT_KINDS.values(), "expected_sources", "source_settings"})
"""Views that reach back without limit."""


def needed_columns(asked: frozenset[str], views: frozenset[str]) -> tuple[str, ...]:
    """The columns of the schema that have to be kept for queries that ask for `asked` of `views`."""
    wanted = {*BASE_COLUMNS, *(asked & SQL_TYPES.keys())}
    for name in asked & DERIVED.keys():
        wanted.update(DERIVED[name][1])
    for one in SIGHTINGS:
        if one.name in views:
            wanted.update(one.needs)
    if EDGES in views:
        wanted.add("delegation")
    return tuple(name for name in SQL_TYPES if name in wanted)
