"""`python -m tests.reliability [NAME…]`: run campaigns to their full size, and keep what they gave.

What was kept for this commit is gone on from, so a run that was cut short is taken up by the next. Exit code
1 where something happened that must not, 2 for an unknown name.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.reliability.campaign import Campaign
from tests.reliability.campaigns import CAMPAIGNS
from tests.reliability.record import commit, keep, tally_of

KEPT_EVERY_SECONDS = 20.0


def main(names: list[str]) -> int:
    """Run these campaigns, or all."""
    unknown = [name for name in names if name not in CAMPAIGNS]
    if unknown:
        print(f"No campaign is called {unknown[0]}. There are: {', '.join(CAMPAIGNS)}.", file=sys.stderr)
        return 2
    wrong = 0
    for name in names or CAMPAIGNS:
        wrong += _run(CAMPAIGNS[name], commit())
    return 1 if wrong else 0


def _run(campaign: Campaign, at: str) -> int:
    """One campaign from where it stands; how often something happened that must not."""
    if (why := campaign.needs()) is not None:
        print(f"{campaign.name}: not run here: {why}")
        return 0
    tally = tally_of(campaign.name, at)
    begun, kept = time.monotonic(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part in campaign.run(range(tally.cases, campaign.cases), Path(folder)):
            tally.add(part)
            if time.monotonic() - kept > KEPT_EVERY_SECONDS:
                kept = time.monotonic()
                keep(campaign, at, tally)
                print(f"{campaign.name}: {tally.cases:,} of {campaign.cases:,}", flush=True)
    keep(campaign, at, tally)
    told = ", ".join(f"{word} {tally.wrong[word]}" for word in sorted({*campaign.never, *tally.wrong}))
    print(f"{campaign.name}: {tally.cases:,} cases in {time.monotonic() - begun:.0f} s; {told}", flush=True)
    for failure in tally.failures:
        print(f"  {failure}", flush=True)
    return tally.wrong.total()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
