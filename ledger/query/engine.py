"""SQL over a pinned set of committed files: views for analysts, guarded ad-hoc queries, our own ones.

Views (names are lower case; every one exists and is typed even where there is no file):

    events             every column of the schema but `erased_leaf`, erased rows left out, and `date`
    decisions, issuances, actions, sessions, delegations, signals, revocations, policies, exceptions,
    reviews, tasks, heartbeats, alerts, cases, accesses
                       the events of one kind
    delegation_edges   source, event_id, time, trace_id, position, delegator, delegate: one row per step of
                       a chain; position counts from 1 as SQL lists do (delegation[position] = delegator)
    dead_letters       one row per message that was not accepted, and `date`

Macros: principal(delegated_actor, actor); covers(b, a), whether scope b covers scope a; exceeds(a, b),
whether a scope in list a is covered by nothing in list b (null where either list is).

`date` is the UTC date in the file's path, so a filter on it leaves other files unopened; `retention`
and all else are the stored columns, never the path's. A filter on `time` skips row groups by
their statistics, one on an id by bloom filters.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import duckdb
import pyarrow as pa

from ledger.defaults import QUERY_MEMORY_MIB, QUERY_SECONDS
from ledger.errors import DamageError, LedgerError, OutsideError, UsageError
from ledger.events import DEAD_LETTER_SQL_TYPES, ERASED_LEAF, KINDS, SQL_TYPES
from ledger.format.scopes import SCOPE_MACROS
from ledger.query.descriptions import described
from ledger.query.scope import Scope
from ledger.query.sql_guard import check, first_line

if TYPE_CHECKING:
    from ledger.storage.remote_files import RemoteFiles

KIND_VIEWS: Final[dict[str, str]] = {
    "decision": "decisions", "issuance": "issuances", "action": "actions", "session": "sessions",
    "delegation": "delegations", "signal": "signals", "revocation": "revocations", "policy": "policies",
    "exception": "exceptions", "review": "reviews", "task": "tasks", "heartbeat": "heartbeats",
    "alert": "alerts", "case": "cases", "access": "accesses",
}  # fmt: skip
VIEWS: Final = ("events", *(KIND_VIEWS[kind] for kind in KINDS), "delegation_edges", "dead_letters")

PLACED: Final = "placed_"
"""Before `events` or `dead_letters`: with `filename` and `file_row_number`, for our own statements."""

Parameters = Sequence[Any] | Mapping[str, Any] | None

_VERIFY: Final = "Run verify to see what is damaged."
_DATE_IN_PATH: Final = r"/date=([0-9]{4}-[0-9]{2}-[0-9]{2})/[^/]+$"
_MACROS: Final = (
    "CREATE MACRO principal(delegated_actor, actor) AS coalesce(delegated_actor, actor)",
    *SCOPE_MACROS,
)


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may take. `threads` None: as many as the machine has."""

    seconds: float = QUERY_SECONDS
    memory_bytes: int = QUERY_MEMORY_MIB << 20
    result_bytes: int = QUERY_MEMORY_MIB << 20
    batch_rows: int = 50_000
    threads: int | None = None


class Stop:
    """Ends the statements of one asker, those that run and those still to come; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[duckdb.DuckDBPyConnection] = []
        self._told = False

    def now(self) -> None:
        """Interrupt what runs; what is begun afterwards is refused."""
        with self._lock:
            if self._told:
                return
            self._told = True
        if self._interrupted():
            threading.Thread(target=self._again, name="stop", daemon=True).start()

    def _again(self) -> None:
        # An interruption that comes just before a statement starts is forgotten by its start.
        while self._interrupted():
            time.sleep(_INTERRUPTED_AGAIN_SECONDS)

    def _interrupted(self) -> bool:
        """Interrupt all that runs; whether anything did."""
        with self._lock:
            for cursor in self._running:
                with contextlib.suppress(duckdb.Error):  # it ended by itself
                    cursor.interrupt()
            return bool(self._running)

    def _begun(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            if self._told:
                raise UsageError("The query was stopped.", "Ask again.")
            self._running.append(cursor)

    def _ended(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._lock:
            if cursor in self._running:
                self._running.remove(cursor)


_INTERRUPTED_AGAIN_SECONDS: Final = 0.05
_STOP: Final[ContextVar[Stop | None]] = ContextVar("stop", default=None)


@contextlib.contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """Statements of this thread end when `stop` is told so."""
    token = _STOP.set(stop)
    try:
        yield
    finally:
        _STOP.reset(token)


@dataclass(frozen=True, slots=True)
class QueryFile:
    """A committed file, on disk or an address of `RemoteFiles`, in a folder `date=<date>`.

    `ranges` are the half-open row positions that count, ascending and disjoint; None: all rows.
    """

    path: str
    date: str
    retention: str
    rows: int
    ranges: tuple[tuple[int, int], ...] | None = None


def connect(
    events: Sequence[QueryFile],
    dead_letters: Sequence[QueryFile] = (),
    limits: QueryLimits | None = None,
    remote: RemoteFiles | None = None,
    scope: Scope | None = None,
) -> Query:
    """Opens the views over exactly these files; nothing else on the machine can be read through it.

    `remote` reads those whose paths are addresses. With a `scope` only its tenants' events are there, and no
    dead letters.
    """
    return Query(events, dead_letters if scope is None else (), limits or QueryLimits(), remote, scope)


class Query:
    """Views over pinned files. Safe to use from several threads: every query has its own cursor."""

    def __init__(
        self,
        events: Sequence[QueryFile],
        dead_letters: Sequence[QueryFile],
        limits: QueryLimits,
        remote: RemoteFiles | None = None,
        scope: Scope | None = None,
    ) -> None:
        self.limits = limits
        self._scope = scope
        self._remote = remote
        self._paths = frozenset(file.path for file in (*events, *dead_letters))
        self._database = duckdb.connect(":memory:", config=_config(limits))
        self._database.execute("SET GLOBAL TimeZone = 'UTC'")
        if remote is not None:
            self._database.register_filesystem(remote)
        try:
            self._define(events, dead_letters)
        except duckdb.Error as error:
            self._database.close()
            raise self._translated(error) from error
        self._lock()

    def _define(self, events: Sequence[QueryFile], dead_letters: Sequence[QueryFile]) -> None:
        database = self._database
        _define_files(database, "events", events, SQL_TYPES, self._scope)
        _define_files(database, "dead_letters", dead_letters, DEAD_LETTER_SQL_TYPES)
        for kind, name in KIND_VIEWS.items():
            # Both names are constants above.
            database.execute(f"CREATE VIEW {name} AS SELECT * FROM events WHERE kind = '{kind}'")  # noqa: S608
        database.execute(
            "CREATE VIEW delegation_edges AS"
            " SELECT source, event_id, time, trace_id, position, delegation[position] AS delegator,"
            " delegation[position + 1] AS delegate FROM"
            " (SELECT source, event_id, time, trace_id, delegation,"
            " unnest(generate_series(1, len(delegation) - 1)) AS position FROM events)"
        )
        for macro in _MACROS:
            database.execute(macro)

    def _lock(self) -> None:
        paths = ", ".join(_quoted(path) for path in sorted(self._paths))
        self._database.execute(f"SET GLOBAL allowed_paths = [{paths}]")
        # The one setting left open is set per cursor, by us: SQL that passes the guard sets nothing.
        self._database.execute("SET GLOBAL allowed_configs = ['max_execution_time']")
        self._database.execute("SET GLOBAL enable_external_access = false")
        self._database.execute("SET GLOBAL lock_configuration = true")

    def sql(self, text: str, params: Parameters = None) -> pa.Table:
        """The whole answer to one guarded query.

        Raises UsageError where the query is refused, wrong, too slow or too large; DamageError or
        OutsideError where a committed file cannot be read.
        """
        return self._collect(self.stream(text, params), self.limits.result_bytes)

    def stream(self, text: str, params: Parameters = None) -> pa.RecordBatchReader:
        """As `sql`, in batches; memory stays bounded. The time limit runs until the last batch is read."""
        if self._scope is not None and not self._scope.fenced:
            raise ValueError("what people write is asked of a fenced scope")
        cursor = self._database.cursor()
        try:
            verb, asked = described(text, VIEWS)
            check(asked, cursor, VIEWS)
            return self._run(cursor, verb + asked, params, self.limits.seconds)
        except BaseException:
            cursor.close()
            raise

    def trusted(self, text: str, params: Parameters = None) -> pa.Table:
        """Our own statement, its values always in `params`: no guard and no time limit."""
        return self._collect(self.trusted_stream(text, params), None)

    def trusted_stream(self, text: str, params: Parameters = None) -> pa.RecordBatchReader:
        """As `trusted`, in batches."""
        return self._run(self._database.cursor(), text, params, None)

    def close(self) -> None:
        """Frees the database; streams still open fail."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(
        self, cursor: duckdb.DuckDBPyConnection, text: str, params: Parameters, seconds: float | None
    ) -> pa.RecordBatchReader:
        milliseconds = 0 if seconds is None else max(1, int(seconds * 1_000))
        stop = _STOP.get()
        try:
            if stop is not None:
                stop._begun(cursor)  # the two are one piece
            cursor.execute(f"SET SESSION max_execution_time = {milliseconds}")
            relation = cursor.sql(text, params=params)
            if relation is None:
                raise UsageError("The statement gives no rows.", "Send a SELECT.")
            reader = relation.to_arrow_reader(self.limits.batch_rows)
        except (duckdb.Error, OSError, RuntimeError, ValueError) as error:
            if stop is not None:
                stop._ended(cursor)  # as above
            cursor.close()
            raise self._translated(error) from error
        return pa.RecordBatchReader.from_batches(reader.schema, self._batches(cursor, reader, stop))

    def _batches(
        self, cursor: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, stop: Stop | None
    ) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (duckdb.Error, OSError, RuntimeError, pa.ArrowException) as error:
            raise self._translated(error) from error
        finally:
            if stop is not None:
                stop._ended(cursor)  # as above
            cursor.close()

    def _collect(self, reader: pa.RecordBatchReader, limit_bytes: int | None) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        size = 0
        for batch in reader:
            batches.append(batch)
            size += batch.nbytes
            if limit_bytes is not None and size > limit_bytes:
                raise UsageError(
                    f"The answer is larger than {limit_bytes:,} bytes.",
                    "Aggregate, add LIMIT or fewer columns, or raise the limit (`sql --memory`).",
                )
        return pa.Table.from_batches(batches, reader.schema)

    def _translated(self, error: Exception) -> LedgerError:
        if self._remote is not None and (failure := self._remote.take_failure()) is not None:
            return failure
        message, line = str(error), first_line(error)
        if type(error) is RuntimeError and "interrupted" in message.lower():
            # What the engine makes of Ctrl-C: whoever asks ends as anything else that is interrupted does.
            raise KeyboardInterrupt from error
        if isinstance(error, duckdb.InterruptException) or "INTERRUPT" in message:
            return UsageError(
                f"The query was stopped after {self.limits.seconds:g} seconds.",
                "Narrow it, for example by date or trace_id, or raise the time limit (`sql --seconds`).",
            )
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in message:
            return UsageError(
                f"The query needs more than its {self.limits.memory_bytes:,} bytes of memory.",
                "Narrow it, or raise the memory limit (`sql --memory`).",
            )
        # By its own name, which is unique: the engine spells folders in its own way.
        harmed = next((path for path in self._paths if path.rpartition("/")[2] in message), None)
        if harmed is not None and isinstance(error, duckdb.PermissionException):
            # A path that is not there is tried as a folder, which the settings forbid.
            return DamageError(f"The committed file {harmed} is missing.", _VERIFY)
        # An error of no class of its own is what the reader of Parquet says of a spoiled footer or page.
        if harmed is not None or type(error) is duckdb.Error:
            return DamageError(f"A committed file cannot be read: {line}.", _VERIFY)
        if isinstance(error, (duckdb.IOException, duckdb.InternalException, duckdb.FatalException)):
            return OutsideError(f"The query could not be carried out: {line}.", "Try again, then run verify.")
        return UsageError(f"The query is wrong: {line}.", "Correct it and try again.")


def _config(limits: QueryLimits) -> dict[str, str | bool | int | float | list[str]]:
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": f"{limits.memory_bytes}B",
        # Nothing of a query ever reaches the disk.
        "temp_directory": "",
        "max_temp_directory_size": "0B",
        # Variables of the calling program are no tables.
        "python_enable_replacements": False,
        "python_scan_all_frames": False,
        "autoload_known_extensions": False,
        "autoinstall_known_extensions": False,
        "allow_community_extensions": False,
        "allow_persistent_secrets": False,
    }
    if limits.threads is not None:
        config["threads"] = limits.threads
    return config


def _define_files(
    database: duckdb.DuckDBPyConnection, name: str, files: Sequence[QueryFile], types: Mapping[str, str],
    scope: Scope | None = None,
) -> None:  # fmt: skip
    columns = {column: kind for column, kind in types.items() if column != ERASED_LEAF}
    for file in files:
        if not file.path.endswith(".parquet") or f"/date={file.date}/" not in file.path:
            raise ValueError(f"{file.path} does not lie in the ledger's layout under date={file.date}")
    whole = [file for file in files if file.ranges is None]
    partial = [(file, file.ranges) for file in files if file.ranges is not None]
    listed = ", ".join(f'"{column}"' for column in columns)
    placed = f"{listed}, filename, file_row_number"
    date = f"CAST(regexp_extract(filename, '{_DATE_IN_PATH}', 1) AS DATE) AS date"
    parts = []
    if whole:
        # What is put into the statements here: our own column names, and paths with their quotes doubled.
        parts.append(f"SELECT {placed}, {date} FROM {_scan(whole)} WHERE {ERASED_LEAF} IS NULL")  # noqa: S608
    if partial:
        # One join for all of them: a branch per file would make the plan grow with the files.
        table = f"{name}_ranges"
        database.execute(f'CREATE TABLE {table} (filename VARCHAR, "begin" BIGINT, "end" BIGINT)')
        rows = [(file.path, begin, end) for file, ranges in partial for begin, end in ranges]
        database.execute(
            f"INSERT INTO {table} SELECT unnest($1::VARCHAR[]), unnest($2::BIGINT[]), unnest($3::BIGINT[])",
            [[row[column] for row in rows] for column in range(3)],
        )
        parts.append(
            f"SELECT {placed}, {date} FROM {_scan([file for file, _ in partial])} AS f"  # noqa: S608  (as above)
            f" SEMI JOIN {table} AS r ON f.filename = r.filename"
            ' AND f.file_row_number >= r."begin" AND f.file_row_number < r."end"'
            f" WHERE {ERASED_LEAF} IS NULL"
        )
    if not parts:
        empty = ", ".join(f'NULL::{kind} AS "{column}"' for column, kind in columns.items())
        place = "NULL::VARCHAR AS filename, NULL::BIGINT AS file_row_number"
        parts.append(f"SELECT {empty}, {place}, NULL::DATE AS date WHERE false")
    select = " UNION ALL ".join(parts)
    database.execute(f"CREATE VIEW {PLACED}{name} AS {select if scope is None else scope.restrict(select)}")
    database.execute(f"CREATE VIEW {name} AS SELECT {listed}, date FROM {PLACED}{name}")  # noqa: S608  (as above)


def _scan(files: Sequence[QueryFile]) -> str:
    paths = ", ".join(_quoted(file.path) for file in files)
    # Hive partitioning off: it would put the path's retention class in place of the stored one.
    return f"read_parquet([{paths}], hive_partitioning = false, filename = true, file_row_number = true)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
