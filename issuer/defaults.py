"""Limits and words that options and the code behind them share; nothing is loaded to know them."""

from __future__ import annotations

from typing import Final

EXCEPTION_HOURS: Final = 72
"""The longest life of an exception, in hours."""
REVIEW_DAYS: Final = 7
"""How long after its end an exception may wait for its review, in days."""
DEFAULT_FOLDER: Final = "./issuer-state"
"""Where the services keep what they know."""
BASE_PORT: Final = 9_400
"""The first of the services' ports."""
EVENTS_FILE: Final = "events.jsonl"
"""Where events go in the issuer's folder, unless they are sent elsewhere."""
WHEN_FULL: Final = ("refuse", "drop")
"""What happens to a step whose event finds no room."""
SCENARIOS: Final = (
    "healthy-day", "shared-identity", "context-lost", "stale-cache", "copied-role", "break-glass",
    "no-context", "credential-theft", "delegated-abuse", "revocation-drill", "rollback-drill", "company-week",
)  # fmt: skip
"""What `issuer scenario run` plays."""
BLOCK_BOUND_SECONDS: Final = 5.0
"""In which every enforcement point refuses what was revoked, with signals polled; one second with pushes."""
SEALED_SECONDS: Final = 30.0
"""How long a drill waits for its events in the ledger."""
SCENARIO_RATE: Final = 40.0
"""Tasks in a working hour of a scenario."""
PURPOSES: Final = ("authority", "broker", "id_token")
"""What the services' own keys sign."""
REPORT_FORMATS: Final = ("text", "json", "sarif")
"""How the gates write their findings."""
