"""The identity map, derived from the ledger: who acts where, through whom, with which credentials.

Joined to the ownership that was sealed (`config load ownership`). What needs a look comes first: identities
without an owner, in several environments, with static credentials, or silent for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from detections.configs.models import Ownership
from detections.day_answers import answers_of
from detections.metrics.by_day import IDENTITIES, SCOPES
from detections.metrics.kept_days import KeptDays
from ledger.format.manifest import with_instants
from ledger.format.scopes import covers
from ledger.reader import Ledger

FLAGS: Final = ("unowned", "shared", "static", "dormant", "elsewhere", "unused-scopes")
"""What is told of an identity, the gravest first; `elsewhere`: in another environment than is registered."""
_LISTS: Final = ("environments", "tenants", "credential_types", "sources", "acts_for", "audiences")
_PATHS: Final = """
SELECT source AS issuer, coalesce(delegated_actor, actor) AS principal, audience AS tool, credential_type,
       count(*) AS issued, max(time) AS last_issued
FROM issuances
WHERE decision = 'allow' AND audience IS NOT NULL AND coalesce(delegated_actor, actor) IS NOT NULL
GROUP BY ALL ORDER BY issuer, principal, tool, credential_type
"""


@dataclass(frozen=True, slots=True)
class MapChoice:
    """After how many days without a sign an identity is dormant and a scope is unused."""

    days: int = 30
    at: int | None = None


def identity_map(
    ledger: Ledger, ownership: Mapping[str, Ownership], choice: MapChoice, kept: KeptDays | None = None
) -> list[dict[str, Any]]:
    """Every principal that acted or is registered, those that need a look first.

    `kept` holds what was worked out of days before.
    """
    answers = answers_of(ledger, choice.at, kept)
    rows = answers.items(IDENTITIES)
    now = ledger.as_of(choice.at).clock
    unused = _unused(answers.items(SCOPES), now, choice.days)
    answers.flush()
    found = [_identity(row, ownership.get(row["principal"]), unused, now, choice.days) for row in rows]
    seen = {row["principal"] for row in rows}
    found += [_never_seen(name, one) for name, one in ownership.items() if name not in seen]
    found.sort(key=lambda one: (*(flag not in one["flags"] for flag in FLAGS), one["principal"]))
    return found


def credential_paths(ledger: Ledger, at: int | None = None) -> list[dict[str, Any]]:
    """From which issuer each principal got credentials for which tool."""
    return [with_instants(row) for row in ledger.query(at).trusted(_PATHS).to_pylist()]


def _identity(
    row: dict[str, Any], owned: Ownership | None, unused: Mapping[str, list[str]], now: datetime, days: int
) -> dict[str, Any]:
    row |= {name: row[name] or [] for name in _LISTS}
    kind = row["principal"].partition(":")[0]
    person = kind == "user"
    flags = []
    if owned is None and not person:
        flags.append("unowned")
    if len(row["environments"]) > 1 and not person:
        flags.append("shared")
    if "static" in row["credential_types"]:
        flags.append("static")
    if now - row["last_seen"] > timedelta(days=days):
        flags.append("dormant")
    if owned is not None and set(row["environments"]) - {owned.environment}:
        flags.append("elsewhere")
    scopes = unused.get(row["principal"], [])
    if scopes and not person:
        flags.append("unused-scopes")
    return {
        **with_instants(row), "kind": kind, "owner": owned.owner if owned else None,
        "system": owned.system if owned else None, "purposes": list(owned.purposes) if owned else [],
        "unused_scopes": scopes[:200], "flags": flags,
    }  # fmt: skip


def _never_seen(name: str, owned: Ownership) -> dict[str, Any]:
    return {
        "principal": name, "kind": name.partition(":")[0], "owner": owned.owner, "system": owned.system,
        "purposes": list(owned.purposes), "first_seen": None, "last_seen": None, "events": 0,
        "environments": [], "tenants": [], "credential_types": [], "sources": [], "acts_for": [],
        "audiences": [], "unused_scopes": [], "flags": ["dormant"],
    }  # fmt: skip


def _unused(rows: Iterable[Mapping[str, Any]], now: datetime, days: int) -> dict[str, list[str]]:
    """By principal, the scopes that it held in the last `days` and that no action of it needed in them."""
    since = now - timedelta(days=days)
    held: dict[str, set[str]] = {}
    used: dict[str, set[str]] = {}
    for row in rows:
        if row["principal"] is not None and row["time"] >= since:
            place = held if row["what"] == "held" else used
            place.setdefault(row["principal"], set()).add(row["scope"])
    return {
        name: sorted(
            scope for scope in scopes if not any(covers(scope, one) for one in used.get(name, set()))
        )
        for name, scopes in held.items()
    }
