"""All campaigns, by their name."""

from __future__ import annotations

from tests.reliability import clock_jumps, damage, power_loss, soundness, writers
from tests.reliability.campaign import Campaign

CAMPAIGNS: dict[str, Campaign] = {
    one.CAMPAIGN.name: one.CAMPAIGN for one in (damage, soundness, power_loss, clock_jumps, writers)
}
