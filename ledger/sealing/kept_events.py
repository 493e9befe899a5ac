"""The keys of sealed events, kept for a writer's next start, so that it need not read every segment again.

Derived, and kept in this user's cache folder. It is used only for the log whose root it names, by the same
version of the hash; what was sealed since is read from its segments. It may be removed at any time.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from ledger.sealing.seen_events import KEY_COLUMNS, SeenEvents
from ledger.storage.derived_files import is_own, keep
from ledger.storage.user_folders import cache_folder

KEEP_FROM_EVENTS: Final = 100_000
"""Fewer are read from their segments as fast."""
_FORMAT: Final = f"decision-ledger seen events 1, polars {pl.__version__}"


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
        "oldest": oldest, "seeds": list(seeds), "probe": _probe(kept.seen),
    }  # fmt: skip
    sink = io.BytesIO()
    arrays: dict[str, Any] = {
        name: np.concatenate([run[at] for run in runs]) if runs else np.zeros(0, np.uint64)
        for at, name in enumerate(("high", "low", "place"))
    }
    arrays["head"] = np.frombuffer(orjson.dumps(head), np.uint8)
    arrays["entries"] = np.array(kept.entries, np.int64)
    arrays["lengths"] = np.array([len(high) for high, _, _ in runs], np.int64)
    np.savez(sink, **arrays)
    keep(path, sink.getvalue())


def load_events(path: Path, max_events: int) -> KeptEvents | None:
    """What was kept, or None where there is nothing whole of this version."""
    if not is_own(path):
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            head = orjson.loads(held["head"].tobytes())
            if head["format"] != _FORMAT:
                return None
            edges = np.concatenate([[0], np.cumsum(held["lengths"])])
            arrays = [held[name] for name in ("high", "low", "place")]
            entries = held["entries"].tolist()
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
    runs = [
        (arrays[0][first:last], arrays[1][first:last], arrays[2][first:last])
        for first, last in pairwise(edges.tolist())
    ]
    first_seed, second_seed = head["seeds"]
    seen = SeenEvents.of_contents(runs, head["oldest"], (first_seed, second_seed), max_events)
    if _probe(seen) != head["probe"]:
        return None  # the hash goes by the processor, and this is another kind
    return KeptEvents(head["size"], bytes.fromhex(head["root"]), seen, head["segments"], entries)
