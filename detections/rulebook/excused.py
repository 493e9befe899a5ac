"""Rule exceptions: what a rule finds and nobody wants to hear of, until a date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Excused:
    """A rule exception: hits whose key columns have these values are none, in [since, until)."""

    rule: str
    match: Mapping[str, str]
    since: datetime
    until: datetime
