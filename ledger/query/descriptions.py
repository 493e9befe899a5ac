"""SHOW TABLES, DESCRIBE and SUMMARIZE, as DuckDB's users know them, over the views of a query alone.

The guard judges the SELECT inside; what stands before it is put there by us.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

_SHOW_TABLES: Final = re.compile(r"\s*SHOW\s+(?:ALL\s+)?TABLES\s*;?\s*", re.IGNORECASE)
_ABOUT: Final = re.compile(r"\s*(DESCRIBE|DESC|SHOW|SUMMARIZE)\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def described(text: str, views: Collection[str]) -> tuple[str, str]:
    """The verb before a question about a query ("" where it is none), and the SELECT to judge and ask.

    The statement to run is both, one behind the other.
    """
    if _SHOW_TABLES.fullmatch(text):
        # Names of our own views.
        listed = ", ".join(f"('{name}')" for name in views)
        return "", f"SELECT name FROM (VALUES {listed}) AS t(name)"  # noqa: S608  # names of ours
    about = _ABOUT.fullmatch(text)
    if about is None:
        return "", text
    verb, asked = about[1].upper(), about[2].rstrip().removesuffix(";")
    if _NAME.fullmatch(asked):
        asked = f"SELECT * FROM {asked}"  # noqa: S608  # the guard judges the name
    return ("SUMMARIZE " if verb == "SUMMARIZE" else "DESCRIBE "), asked
