"""The keys of sealed events, kept for a writer's next start, so that it need not read every segment again.

Derived, and kept in this user's cache folder. It is used only for the log whose root it names, by the same
version of the hash; what was sealed since is read from its segments. It may be removed at any time.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from ledger.sealing.seen_events import KEY_COLUMNS, SeenEvents
from ledger.storage.derived_files import is_own, keep_written
from ledger.storage.user_folders import cache_folder

KEEP_FROM_EVENTS: Final = 100_000
"""Fewer are read from their segments as fast."""
_COLUMNS: Final = ("high", "low", "place")
_FORMAT: Final = f"decision-ledger seen events 2, polars {pl.__version__}"


@dataclass(slots=True)
class KeptEvents:
    """What a writer remembers of a log's first `size` entries, whose root is `root`.

    `segments` are numbered as the places in `seen` say; `entries` sealed them.
    """

    size: int
    root: bytes
    seen: SeenEvents
    segments: list[str]
    entries: list[int]


def _probe(seen: SeenEvents) -> list[str]:
    """What the hash makes of something known: the same wherever its results may be compared."""
    texts = {name: pa.array(["", "probe", "\u00e9" * 40]) for name in KEY_COLUMNS}
    keys = seen.hashes(pa.table(texts))
    return [*map(str, keys.high.tolist()), *map(str, keys.low.tolist())]


def kept_events_path(url: str) -> Path:
    """Where this user's copy for the ledger at `url` lies."""
    return cache_folder(url) / "seen"


def save_events(path: Path, kept: KeptEvents) -> None:
    """Keep it where that is worth it; where this user's cache cannot be written, nothing is kept."""
    if len(kept.seen) < KEEP_FROM_EVENTS:
        return
    runs, oldest, seeds = kept.seen.contents()
    head = {
        "format": _FORMAT, "size": kept.size, "root": kept.root.hex(), "segments": kept.segments,
        "oldest": oldest, "runs": len(runs), "seeds": list(seeds), "probe": _probe(kept.seen),
    }  # fmt: skip
    arrays: dict[str, Any] = {
        f"{name}{number}": run[at] for number, run in enumerate(runs) for at, name in enumerate(_COLUMNS)
    }
    arrays["head"] = np.frombuffer(orjson.dumps(head), np.uint8)
    arrays["entries"] = np.array(kept.entries, np.int64)
    keep_written(path, lambda file: np.savez(file, **arrays))


def load_events(path: Path, max_events: int) -> KeptEvents | None:
    """What was kept, or None where there is nothing whole of this version."""
    if not is_own(path):
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            head = orjson.loads(held["head"].tobytes())
            if head["format"] != _FORMAT:
                return None
            runs = [
                (held[f"high{number}"], held[f"low{number}"], held[f"place{number}"])
                for number in range(head["runs"])
            ]
            entries = held["entries"].tolist()
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
    first_seed, second_seed = head["seeds"]
    seen = SeenEvents.of_contents(runs, head["oldest"], (first_seed, second_seed), max_events)
    if _probe(seen) != head["probe"]:
        return None  # the hash goes by the processor, and this is another kind
    return KeptEvents(head["size"], bytes.fromhex(head["root"]), seen, head["segments"], entries)
