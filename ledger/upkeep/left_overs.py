"""Files that no entry names, removed: each is named in a `gc` entry first, so that nobody names it later."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from ledger.defaults import LEFT_OVER_SECONDS
from ledger.format.manifest import Gc
from ledger.storage.store import Store, StoredFile
from ledger.writer import Writer

LEFT_OVER_AGE: Final = timedelta(seconds=LEFT_OVER_SECONDS)
MAX_GC_PATHS: Final = 500
"""Names in one entry: it must stay below 65,535 bytes."""
_COLLECTED_FOLDERS: Final = ("events", "deadletters", "config")


def gc(writer: Writer, *, age: timedelta = LEFT_OVER_AGE) -> tuple[list[str], list[str]]:
    """Remove what nothing names: (left-overs named in a `gc` entry and deleted, removed files swept).

    Left-overs younger than `age` may belong to a commit in flight and are spared; even if one is
    taken, the entry fences the writer that made it.
    """
    files = list(_files(writer.store))
    there = {file.path for file in files}
    swept = [path for path in writer.sweep() if path in there]
    now = writer.clock()
    writer.refresh()
    left = [file.path for file in files if not writer.state.named(file.path) and _older(file, now, age)]
    taken: list[str] = []
    for at in range(0, len(left), MAX_GC_PATHS):
        paths = left[at : at + MAX_GC_PATHS]

        def propose(paths: list[str] = paths) -> tuple[type[Any], dict[str, Any]]:
            return Gc, {"paths": [path for path in paths if not writer.state.named(path)]}

        entry = writer.put_when(propose)
        assert isinstance(entry, Gc)
        for path in entry.paths:
            writer.store.delete(path)
        taken += entry.paths
    for file in writer.store.list(""):
        if file.path.endswith(".tmp") and _older(file, now, age):
            writer.store.delete(file.path)
    for path in sorted(file.path for file in _files(writer.store)):
        gone = writer.state.removed.get(path)
        if path in writer.state.collected or (gone is not None and gone.deadline <= now):
            # A gc that died before it deleted, or a writer that died before it swept.
            writer.store.delete(path)
            (taken if gone is None else swept).append(path)
            writer.undeleted.pop(path, None)
    return taken, swept


def _files(store: Store) -> Iterable[StoredFile]:
    for folder in _COLLECTED_FOLDERS:
        for file in store.list(folder):
            if not file.path.endswith(".tmp"):
                yield file


def _older(file: StoredFile, now: datetime, age: timedelta) -> bool:
    return now.timestamp() - file.modified >= age.total_seconds()
