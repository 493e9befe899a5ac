"""Words and limits that options share; nothing is loaded to know them."""

from __future__ import annotations

from typing import Final

CONFIGS: Final = ("rules", "rule-exceptions", "sources", "tiers", "exercises", "targets", "ownership")
"""What `config load` seals for detections."""
VERDICTS: Final = {
    "false-positive": 1, "true-positive": 2, "disregard": 3, "suspicious": 4, "benign": 5, "test": 6,
    "insufficient-data": 7, "security-risk": 8, "managed-externally": 9, "duplicate": 10,
}  # fmt: skip
"""OCSF's verdicts on a finding, and their numbers (OCSF 1.x, `verdict_id` of class 2004)."""
VERDICT_NAMES: Final = {number: name for name, number in VERDICTS.items()}
REVIEW_OUTCOMES: Final = ("kept", "shortened", "closed")
"""What comes of an access review."""
MEMORY_MIB: Final = 2_048
"""What an engine's memory of recent rows, and the rules that look at it, may take."""
WAIT_SECONDS: Final = 0.25
"""How often an idle engine looks for new entries."""
