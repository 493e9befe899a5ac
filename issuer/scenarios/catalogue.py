"""The scenarios by name, and how one is written: events as JSON Lines, and the truth beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from issuer.defaults import SCENARIO_RATE, SCENARIOS
from issuer.scenarios.drills import revocation_drill, rollback_drill
from issuer.scenarios.healthy import (
    DAY,
    HOUR,
    first_grants,
    first_policy,
    heartbeats,
    nightly_batch,
    oncall_override,
    release_day,
    traffic,
)
from issuer.scenarios.incidents import (
    break_glass,
    context_lost,
    copied_role,
    credential_theft,
    delegated_abuse,
    no_context,
    shared_identity,
    stale_cache,
)
from issuer.scenarios.truth import truth_document
from issuer.scenarios.world import World
from ledger.errors import UsageError

START: Final = datetime(2026, 11, 16, tzinfo=UTC)
"""A Monday: where simulated time begins, unless told otherwise."""
WEEK_DAYS: Final = 7
PLANTED_AT: Final[Mapping[str, float]] = {
    "copied-role": 9.1, "shared-identity": 10.3, "context-lost": 11.2, "stale-cache": 13.4,
    "break-glass": 3.6, "no-context": 14.1, "credential-theft": 15.2, "delegated-abuse": 16.4,
    "revocation-drill": 17.0,
    "rollback-drill": 12.0,
}  # fmt: skip
"""At which hour of its day each is planted."""
DAY_OF: Final[Mapping[str, int]] = {
    "copied-role": 0, "shared-identity": 1, "context-lost": 1, "stale-cache": 2, "break-glass": 3,
    "no-context": 3, "credential-theft": 4, "delegated-abuse": 4, "revocation-drill": 2, "rollback-drill": 0,
}  # fmt: skip
"""On which day of the week."""

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "healthy-day": "a day's work, with what fools naive rules; nothing is planted",
    "shared-identity": "failure mode 1: an identity of staging acts in production",
    "context-lost": "failure mode 2: work goes through a queue without its session",
    "stale-cache": "failure mode 3: an enforcement point goes on with what it cached",
    "copied-role": "failure mode 4: an agent holds a person's role, and uses a hundredth of it",
    "break-glass": "failure mode 5: an exception without an owner and an end",
    "no-context": "failure mode 6: a decision point logs yes and no, and little else",
    "credential-theft": "a capability is used from elsewhere; its revocation reaches one point late",
    "delegated-abuse": "an agent hands over to a stranger, which crosses tenants",
    "revocation-drill": "a declared exercise: a session is revoked in an emergency",
    "rollback-drill": "a declared exercise: a policy that is too tight is rolled back",
    "company-week": "five tenants' week with one of each",
}

_PLANTS: Final[Mapping[str, Callable[[World, float], None]]] = {
    "shared-identity": shared_identity, "context-lost": context_lost, "stale-cache": stale_cache,
    "copied-role": copied_role, "break-glass": break_glass, "no-context": no_context,
    "credential-theft": credential_theft, "delegated-abuse": delegated_abuse,
    "revocation-drill": revocation_drill, "rollback-drill": rollback_drill,
}  # fmt: skip
assert {*_PLANTS, "healthy-day", "company-week"} == {*SCENARIOS}


@dataclass(frozen=True, slots=True)
class Played:
    """A scenario as it was played: its events in order, and the truth about them."""

    events: list[dict[str, Any]]
    truth: dict[str, Any]


def play(
    name: str,
    seed: int,
    *,
    rate: float = SCENARIO_RATE,
    hours: float | None = None,
    start: datetime = START,
    planted: Sequence[str] = (),
) -> Played:
    """Play a scenario in simulated time; the same arguments give the same events, byte for byte.

    `planted` names further incidents for the first day, as the demo has them.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in SCENARIOS:
        raise UsageError(f"There is no scenario {name!r}.", f"Use {', '.join(SCENARIOS)}.")
    begin = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    world = World.of(seed, begin)
    first_policy(world, begin + 60)
    first_grants(world, begin + 61)
    if name == "company-week":
        _week(world, rate, WEEK_DAYS * 24.0 if hours is None else hours)
    else:
        length = 24.0 if hours is None else hours
        _days(world, rate, length)
        for one in (*((name,) if name in _PLANTS else ()), *planted):
            _PLANTS[one](world, begin + PLANTED_AT[one] * HOUR)
    heartbeats(world, begin, max(event["at"] for event in world.events))
    events = world.in_order()
    return Played(events, truth_document(name, seed, len(events), world.incidents))


def write(played: Played, out: Path) -> Path:
    """Write the events as JSON Lines to `out`, and the truth beside it; the truth's path."""
    with out.open("w", encoding="utf-8") as file:
        for event in played.events:
            file.write(json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n")
    truth = out.with_name(out.name + ".truth.json")
    truth.write_text(json.dumps(played.truth, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return truth


def _days(world: World, rate: float, hours: float) -> None:
    day = 0
    while day * 24 < hours:
        begin = world.start + day * DAY
        left = min(24.0, hours - day * 24)
        traffic(world, begin, rate=rate, hours=left)
        if left > 3:
            nightly_batch(world, begin)
        day += 1


def _week(world: World, rate: float, hours: float) -> None:
    _days(world, rate, hours)
    oncall_override(world, world.start + DAY)
    release_day(world, world.start + 3 * DAY)
    for name, plant in _PLANTS.items():
        plant(world, world.start + DAY_OF[name] * DAY + PLANTED_AT[name] * HOUR)
