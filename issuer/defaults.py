"""Limits and words that options and the code behind them share; nothing is loaded to know them."""

from __future__ import annotations

from typing import Final

EXCEPTION_HOURS: Final = 72
"""The longest life of an exception, in hours."""
REVIEW_DAYS: Final = 7
"""How long after its end an exception may wait for its review, in days."""
DEFAULT_FOLDER: Final = "./issuer-state"
"""Where the services keep what they know."""
REPORT_FORMATS: Final = ("text", "json", "sarif")
"""How the gates write their findings."""
