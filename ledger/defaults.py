"""Limits that options and the code behind them share; nothing is loaded to know them."""

from __future__ import annotations

from typing import Final

MAX_TRACE_EVENTS: Final = 20_000
"""Events of one page of a trace."""
QUERY_SECONDS: Final = 60.0
"""How long one query may take."""
MAX_QUERY_SECONDS: Final = 86_400.0
QUERY_MEMORY_MIB: Final = 1_024
"""Memory that one query may take, and the most that its answer may have."""
MAX_QUERY_MEMORY_MIB: Final = 1 << 20
MAX_AGE_SECONDS: Final = 10 * 365 * 86_400.0
"""Of left-overs, as far as one may ask."""
LEFT_OVER_SECONDS: Final = 3_600.0
"""Left-overs that are younger may belong to a commit in flight."""
GRACE_SECONDS: Final = 60
"""From an entry that takes files away until they go: who opened the ledger longer ago reads it anew."""
DEMO_ORIGIN: Final = "demo.example/agents"
"""The name of the demo's ledger and key: whoever sees it in a verifier key knows whose it is."""
CONFIG_NAMES: Final = (
    "classes", "rules", "rule-exceptions", "sources", "tiers", "exercises", "targets", "ownership",
)  # fmt: skip
"""What `config load` seals: retention classes, and what detections go by."""
