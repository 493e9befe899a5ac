"""What every store refuses: paths that lead out of the ledger, and objects beyond a size.

Paths come from log entries and from folders that others can write to, so a store checks them
before it touches anything.
"""

from __future__ import annotations

from ledger.errors import OutsideError, UsageError

PATH_LIMIT_BYTES = 900
"""Longest path, in bytes of UTF-8: S3 keys end at 1,024 and the store's own prefix comes first."""

PART_LIMIT_BYTES = 240
"""Longest part of a path, in bytes of UTF-8: file systems end at 255 and lock files add a suffix."""

OBJECT_LIMIT_BYTES = 1 << 30
"""Largest object that is written or read whole: an untrusted ledger must not exhaust the memory."""


def checked_path(path: str) -> tuple[str, ...]:
    """The parts of a relative, `/`-separated object path.

    Raises:
        UsageError: the path is empty, absolute, too long, or has a part that is empty, `.` or
            `..`, or holds a backslash, a NUL or another control character.
    """
    parts = tuple(path.split("/"))
    try:
        too_long = len(path.encode()) > PATH_LIMIT_BYTES or any(
            len(part.encode()) > PART_LIMIT_BYTES for part in parts
        )
    except UnicodeEncodeError:
        raise _unusable(path) from None
    if too_long or any(part in ("", ".", "..") for part in parts):
        raise _unusable(path)
    if any(character == "\\" or ord(character) < 0x20 or ord(character) == 0x7F for character in path):
        raise _unusable(path)
    return parts


def checked_prefix(prefix: str) -> tuple[str, ...]:
    """The parts of a folder to list; the empty string is the root. Raises as `checked_path`."""
    return checked_path(prefix) if prefix else ()


def check_write_size(path: str, data: bytes) -> None:
    """Raises `UsageError` where `data` could not be read back whole."""
    if len(data) > OBJECT_LIMIT_BYTES:
        raise UsageError(
            f"{path} would hold {len(data)} bytes, more than the {OBJECT_LIMIT_BYTES} that are read whole.",
            "Cut it into smaller files.",
        )


def check_read_size(path: str, size_bytes: int) -> None:
    """Raises `OutsideError` before an object is read that no writer of ours can have made."""
    if size_bytes > OBJECT_LIMIT_BYTES:
        raise OutsideError(
            f"{path} holds {size_bytes} bytes, more than the {OBJECT_LIMIT_BYTES} that are read whole.",
            "No writer makes such a file: look at what replaced it.",
        )


def _unusable(path: str) -> UsageError:
    return UsageError(
        f"{path[:200]!a} is not a path inside the ledger.",
        "Use a relative path with `/` between its parts and no `.`, `..`, backslash or control character.",
    )
