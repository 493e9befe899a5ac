"""The database: one file, every commit on the disk before it is answered, one writer at a time."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from ledger.errors import OutsideError, UsageError

FILE: Final = "state.db"
VERSION: Final = 1
BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE signing_keys (
    kid TEXT PRIMARY KEY, purpose TEXT NOT NULL, private TEXT NOT NULL,
    published_at INTEGER NOT NULL, used_from INTEGER NOT NULL, dropped_at INTEGER
) STRICT;
CREATE TABLE sessions (
    sid TEXT PRIMARY KEY, body TEXT NOT NULL, risk INTEGER NOT NULL, expires_at INTEGER NOT NULL,
    ended_at INTEGER, cause TEXT
) STRICT;
CREATE TABLE credentials (
    jti TEXT PRIMARY KEY, parent TEXT NOT NULL, sid TEXT NOT NULL, body TEXT NOT NULL,
    issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, revoked_at INTEGER
) STRICT;
CREATE INDEX credentials_by_parent ON credentials (parent);
CREATE INDEX credentials_by_sid ON credentials (sid);
CREATE INDEX credentials_by_end ON credentials (expires_at);
CREATE TABLE used_ids (
    kind TEXT NOT NULL, owner TEXT NOT NULL, jti TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (kind, owner, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_ids_by_end ON used_ids (until);
CREATE TABLE signals (
    position INTEGER PRIMARY KEY AUTOINCREMENT, jti TEXT NOT NULL UNIQUE, target TEXT NOT NULL,
    event TEXT NOT NULL, reason TEXT NOT NULL, cause TEXT NOT NULL, body TEXT NOT NULL, at INTEGER NOT NULL
) STRICT;
CREATE TABLE approvals (
    id TEXT PRIMARY KEY, digest TEXT NOT NULL, body TEXT NOT NULL, opened_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, approved_by TEXT, approved_at INTEGER, withdrawn_at INTEGER, used_at INTEGER
) STRICT;
CREATE INDEX approvals_by_digest ON approvals (digest);
CREATE TABLE grants (id TEXT PRIMARY KEY, body TEXT NOT NULL, closed_at INTEGER) STRICT;
CREATE TABLE exceptions (
    id TEXT PRIMARY KEY, body TEXT NOT NULL, closed_at INTEGER, reviewed_at INTEGER, reviewed_by TEXT
) STRICT;
CREATE TABLE bundles (digest TEXT PRIMARY KEY, version TEXT NOT NULL, files TEXT NOT NULL) STRICT;
CREATE TABLE activations (
    position INTEGER PRIMARY KEY AUTOINCREMENT, digest TEXT NOT NULL, version TEXT NOT NULL,
    at INTEGER NOT NULL, approved_by TEXT NOT NULL, approval_id TEXT, reason TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
CREATE TABLE codes (code TEXT PRIMARY KEY, body TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
CREATE TABLE queue (
    message_id TEXT PRIMARY KEY, queue TEXT NOT NULL, context TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL, done_at INTEGER
) STRICT;
CREATE TABLE outbox (sequence INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""


class Database:
    """One connection, for one thread. `path` None: in memory, for simulated time."""

    def __init__(self, path: Path | None) -> None:
        """Open or make the file.

        Raises:
            UsageError: it is of another version.
            OutsideError: it cannot be opened.
        """
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path or ":memory:", isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            # On the disk before it is answered: a used id that a power cut forgets can be used again.
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            with self.transaction():
                self._prepare()
        except sqlite3.Error as error:
            raise OutsideError(f"The state {path} cannot be opened: {error}.", "Check the disk.") from None

    def _prepare(self) -> None:
        version = self.row("PRAGMA user_version")
        assert version is not None
        if version[0] == 0:
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version[0] != VERSION:
            raise UsageError(
                f"The state {self.path} is of version {version[0]}.", f"This program reads version {VERSION}."
            )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and alone: nobody else writes meanwhile. Inside another one it is a part of that.

        Raises:
            OutsideError: the state is busy or the disk failed; nothing was written.
        """
        if self._connection.in_transaction:
            yield
            return
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            self._undo()
            raise

    def _undo(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _run(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except sqlite3.Error as error:
            raise OutsideError(f"The state cannot be written: {error}.", "Check the disk.") from None

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; how many rows it changed."""
        with self.transaction():
            return self._connection.execute(statement, values).rowcount

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row of a query, or None."""
        found: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return found

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._connection.execute(statement, values).fetchall()

    def count(self, name: str, by: int = 1) -> int:
        """Add to a counter that survives; its new value."""
        with self.transaction():
            row = self.row(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value "
                "RETURNING value",
                (name, by),
            )
        assert row is not None
        return int(row[0])

    def counter(self, name: str) -> int:
        """The value of a counter; 0 where it never counted."""
        row = self.row("SELECT value FROM counters WHERE name = ?", (name,))
        return 0 if row is None else int(row[0])

    def remembered(self, name: str, value: str) -> str:
        """What is kept under a name; `value` where nothing was, and from then on."""
        with self.transaction():
            self.write("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (name, value))
            row = self.row("SELECT value FROM meta WHERE name = ?", (name,))
        assert row is not None
        return str(row[0])

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
