"""How values are shown: as text whatever they hold, times with their zone, ids shortened in the middle."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dashboard.report.tables import figure_text
from ledger.format.plain_text import plain

MARKS: Final = {"allow": "● allow", "deny": "✕ deny", "error": "▲ error"}
"""Answers differ in shape and word, not by colour alone."""
SEVERITIES: Final = {
    "critical": "▰▰▰▰ critical", "high": "▰▰▰▱ high", "medium": "▰▰▱▱ medium", "low": "▰▱▱▱ low",
    "informational": "▱▱▱▱ informational",
}  # fmt: skip
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$&^=\"'@/])")


def literal(text: Any) -> str:
    """Text for a place that reads Markdown (labels, tabs, captions): shown as it is, nothing of it acts."""
    return _MARKDOWN.sub(r"\\\1", plain(str(text))).replace("\n", " ")


def short_id(text: str | None, ends: int = 6) -> str:
    """An id with its middle left out."""
    if text is None:
        return "–"
    text = plain(text)
    return text if len(text) <= 2 * ends + 3 else f"{text[:ends]}…{text[-ends:]}"


def moment(when: datetime | None) -> str:
    """A time in UTC, with the zone."""
    return "never" if when is None else f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def ago(when: datetime | None, now: datetime) -> str:
    """How long before `now`, in words."""
    if when is None:
        return "never"
    gap = now - when
    for size, word in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min")):
        if gap >= size:
            return f"{gap // size} {word} ago"
    return "just now" if gap >= timedelta(0) else "in the future"


def figure(value: float | None, unit: str) -> str:
    """A metric's value with its unit."""
    if unit == "share" and value is not None:
        return f"{value:.1%}"
    if unit == "per 10,000" and value is not None:
        return f"{value:,.1f} per 10k"
    return figure_text(value, unit)


def change(value: float | None, unit: str) -> str | None:
    """A metric's change since the week before; None: no such."""
    if value is None:
        return None
    return f"{value * 100:+.1f} points" if unit == "share" else f"{value:+,.3g} {unit}"


def size_text(count: float) -> str:
    """Bytes in a unit that is read at a glance."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return ""
