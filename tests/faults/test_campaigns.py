"""A few cases of every campaign; `make faults` runs all of them and keeps the counts."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from tests.reliability.campaign import Campaign, Tally
from tests.reliability.campaigns import CAMPAIGNS


@pytest.mark.parametrize("campaign", CAMPAIGNS.values(), ids=list(CAMPAIGNS))
def test_nothing_happens_that_must_not(campaign: Campaign, tmp_path: Path) -> None:
    if (why := campaign.needs()) is not None:
        pytest.skip(why)
    tally = Tally()
    for part in campaign.run(range(campaign.few), tmp_path):
        tally.add(part)
    # kafka-python leaves the socket of a refused connection to the collector, which blames a later test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert tally.cases == campaign.few
    assert not tally.wrong, tally.failures
