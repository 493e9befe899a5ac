"""Which files a list of paths, folders and globs names."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ledger.errors import UsageError

STDIN: Final = "-"
SUFFIXES: Final = (".jsonl", ".json", ".ndjson", ".log", ".gz", ".zst")
"""What is read of a folder; a file that is named itself may be called anything."""
MAX_FILES: Final = 100_000


def expand(paths: Sequence[str]) -> list[str]:
    """Every file in the order given, folders and globs sorted, each once; STDIN stands for itself.

    Folders are read with their sub-folders; symbolic links in them are not followed. Raises
    UsageError for what is missing, empty or no file.
    """
    if not paths:
        raise UsageError("No file was named.", "Name files, folders or globs, or - for standard input.")
    found: dict[str, None] = {}
    seen: set[str] = set()
    for path in paths:
        for file in [STDIN] if path == STDIN else _expand_one(path):
            real = file if file == STDIN else os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                found[file] = None
            if len(found) > MAX_FILES:
                raise UsageError(f"{path} names more than {MAX_FILES:,} files.", "Name fewer at a time.")
    return list(found)


def _expand_one(path: str) -> list[str]:
    if _mode(path) is None and glob.has_magic(path):
        # Path.glob wants a fixed root, and takes no absolute pattern.
        matches = sorted(glob.glob(path, recursive=True))  # noqa: PTH207
        files = [file for match in matches for file in _of(match, named=False)]
        if not files:
            raise UsageError(f"Nothing matches {path}.", "Check the pattern; quote it against the shell.")
        return files
    return _of(path, named=True)


def _of(path: str, *, named: bool) -> list[str]:
    mode = _mode(path)
    if mode is None:
        raise UsageError(f"There is no file {path}.", "Check the path.")
    if stat.S_ISDIR(mode):
        files = _in_folder(path)
        if not files and named:
            raise UsageError(
                f"The folder {path} holds no file to read.",
                f"In folders, files that end in {', '.join(SUFFIXES)} are read; name others themselves.",
            )
        return files
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        raise UsageError(f"{path} is neither a file nor a pipe.", "Name files, folders, globs or -.")
    return [path]


def _in_folder(path: str) -> list[str]:
    def refuse(error: OSError) -> None:
        raise UsageError(
            f"The folder {error.filename} cannot be read: {error.strerror}.", "Check its permissions."
        ) from error

    files = []
    for folder, folders, names in os.walk(path, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            file = Path(folder) / name
            if name.endswith(SUFFIXES) and not file.is_symlink() and file.is_file():
                files.append(str(file))
    return files


def _mode(path: str) -> int | None:
    try:
        return Path(path).stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path} cannot be read: {reason}.", "Check path and permissions.") from error
