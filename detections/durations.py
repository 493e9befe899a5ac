"""Spans of time as people write them in a rule: `90s`, `10m`, `1h30m`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

MAX_DURATION: Final = timedelta(days=400)
_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d|w)")
_PATTERN: Final = r"^([0-9]{1,9}(ms|s|m|h|d|w))+$"


def parse_duration(text: str) -> timedelta:
    """The span that `text` names. Raises ValueError for anything else, and above 400 days."""
    if not re.fullmatch(_PATTERN, text):
        raise ValueError("a span of time is written as 90s, 10m, 1h30m or 7d")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError("a span of time is at most 400 days")
    return timedelta(seconds=seconds)


def duration_text(span: timedelta) -> str:
    """`span` as `parse_duration` reads it, in as few parts as it takes."""
    left = round(span.total_seconds() * 1_000)
    text = ""
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _read(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta, BeforeValidator(_read), WithJsonSchema({"type": "string", "pattern": _PATTERN})
]
"""A pydantic field that reads such a text."""
