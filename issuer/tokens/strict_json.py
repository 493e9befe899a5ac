"""JSON that has one meaning: no member twice in an object, no number that is none."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, a member stands in an object twice, a number is NaN or infinite, or it is
            nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_members, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands there twice")
    return found


def _no_number(_: str) -> Any:
    raise ValueError("not a JSON number")
