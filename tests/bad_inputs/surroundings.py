"""What is done to a ledger's surroundings before a command is given: steps of one line each."""

from __future__ import annotations

import shutil
from pathlib import Path


def prepare(folder: Path, step: str) -> None:
    """Do one step in `folder`: `remove PATH`, `cut`, `empty`, `flip`, `fold`, `mkdir`, `write PATH TEXT`,
    `link PATH TARGET`. A path may be a pattern: then the first that it finds.
    """
    verb, _, rest = step.partition(" ")
    pattern, _, more = rest.partition(" ")
    path = next(iter(sorted(folder.glob(pattern))), folder / pattern)
    match verb:
        case "remove":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        case "cut":
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) * 2 // 3])
        case "empty":
            path.write_bytes(b"")
        case "flip":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "fold":
            path.unlink()
            path.mkdir()
        case "mkdir":
            path.mkdir(parents=True)
        case "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(more, "utf-8")
        case "link":
            path.symlink_to(more)
        case _:
            raise ValueError(step)
