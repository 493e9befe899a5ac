"""What the command tells the pages: which ledger, who signs in, where what people do is handed to."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Final, Self

VARIABLE: Final = "DECISION_LEDGER_DASHBOARD"


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """Settings of one dashboard process."""

    ledger: str
    vkey: str | None = None
    verify_minutes: int = 60
    intake: str | None = None
    """Where what people do is handed to."""
    intake_token_file: str | None = None
    sign_in: str | None = None
    """The file of the sign-in; None: whoever is at this machine."""
    trace_url: str | None = None
    """The address of a trace in the tracing tool, with {trace_id} in it."""

    def to_environment(self) -> str:
        """As a variable of the environment."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> Self:
        """As the command left them."""
        return cls(**json.loads(os.environ[VARIABLE]))
