"""All campaigns, by their name."""

from __future__ import annotations

from tests.reliability import (
    access,
    clock_jumps,
    damage,
    disk_errors,
    kills,
    object_store,
    power_loss,
    soak,
    soundness,
    writers,
)
from tests.reliability.campaign import Campaign

_ALL = (
    damage.CAMPAIGN, soundness.CAMPAIGN, power_loss.CAMPAIGN, disk_errors.CAMPAIGN, disk_errors.FULL,
    clock_jumps.CAMPAIGN, writers.CAMPAIGN, object_store.CAMPAIGN, kills.CAMPAIGN, soak.CAMPAIGN,
    access.CAMPAIGN,
)  # fmt: skip
CAMPAIGNS: dict[str, Campaign] = {one.name: one for one in _ALL}
