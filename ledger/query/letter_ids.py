"""The ids of dead letters.

A letter's id is `<file name>:<row>`: the name of the file that it was sealed in, and its row there. It stays
the same where that file was merged into another.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from ledger.format.manifest import DeadLetterRef
from ledger.format.state import LogState


def letter_id(segment: str, row: int) -> str:
    """The id of a letter by where it was sealed."""
    return f"{PurePosixPath(segment).stem}:{row}"


def find_letter(state: LogState, letter: str) -> tuple[str, int] | None:
    """(path of the file that it was sealed in, row there) of an id, or None where there is none."""
    name, _, number = letter.rpartition(":")
    if not name or not number.isascii() or not number.isdigit():
        return None
    for path in letter_segments(state):
        if PurePosixPath(path).stem == name and int(number) < state.originals[path].ref.rows:
            return path, int(number)
    return None


def letter_segments(state: LogState) -> Iterable[str]:
    """The files that letters were sealed in and that have not expired, in log order."""
    for path, original in state.originals.items():
        if isinstance(original.ref, DeadLetterRef) and not original.expired:
            yield path
