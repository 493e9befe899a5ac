"""What a witness remembers: the last head of each log that it cosigned, in one SQLite file.

A head is written, durably, before its cosignature leaves. Reading, judging and writing are one transaction:
two requests at once are never both answered from one head.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger.errors import OutsideError
from ledger.witnessing.cosigning import Head

BUSY_SECONDS: Final = 10.0
_TABLE: Final = (
    "CREATE TABLE IF NOT EXISTS heads (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL)"
    " STRICT"
)


class WitnessMemory:
    """The heads in the file at `path`. Raises OutsideError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with self._opened() as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise OutsideError(f"The witness's memory {path} cannot be used: {error}.") from None

    def head(self, origin: str) -> Head:
        """The last head of a log; an empty one where it was never seen."""
        with self._opened() as database:
            return _head(database, origin)

    def all(self) -> dict[str, Head]:
        """By origin."""
        with self._opened() as database:
            rows = database.execute("SELECT origin, size, root FROM heads ORDER BY origin").fetchall()
        return {origin: Head(size, root) for origin, size, root in rows}

    def advance(self, origin: str, decide: Callable[[Head], Head]) -> None:
        """Remember what `decide` makes of the last head; what it raises changes nothing.

        Raises OutsideError where it cannot be written.
        """
        try:
            with self._opened() as database:
                database.execute("BEGIN IMMEDIATE")
                known = _head(database, origin)
                new = decide(known)
                if new != known:
                    database.execute(
                        "INSERT INTO heads VALUES (?, ?, ?) ON CONFLICT (origin)"
                        " DO UPDATE SET size = excluded.size, root = excluded.root",
                        (origin, new.size, new.root),
                    )
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutsideError(f"The witness's memory cannot be written: {error}.") from None

    def _opened(self) -> contextlib.closing[sqlite3.Connection]:
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        database.execute("PRAGMA synchronous = FULL")
        return contextlib.closing(database)


def _head(database: sqlite3.Connection, origin: str) -> Head:
    row = database.execute("SELECT size, root FROM heads WHERE origin = ?", (origin,)).fetchone()
    return Head() if row is None else Head(*row)
