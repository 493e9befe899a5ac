"""The environment of a process that this one starts: it finds the same modules, and no secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def child_environment(withheld: Callable[[str], bool]) -> dict[str, str]:
    """Our variables but those whose names are `withheld`, and our module path as PYTHONPATH."""
    path = os.pathsep.join(dict.fromkeys(str(Path(one).absolute()) for one in sys.path if one))
    kept = {name: value for name, value in os.environ.items() if not withheld(name)}
    return {**kept, "PYTHONPATH": path}
