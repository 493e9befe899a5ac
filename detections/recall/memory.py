"""What is remembered of a ledger's rows, in one in-memory database.

Chunks hold the rows from `floor` on, `kept` those of the kinds that are few, and one table for each
sighting. A row carries how late it came: the settle clock before its entry less its own time, in
microseconds, and the smallest number for rows that are on time whenever they come.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from detections.defaults import MEMORY_MIB
from detections.recall.views import (
    ALWAYS_SHOWN,
    BASE_COLUMNS,
    DENIES_SHOWN,
    DERIVED,
    EDGE_COLUMNS,
    EDGES,
    KEPT_AS_WORDS,
    KEPT_KINDS,
    SIGHTINGS,
    STRETCH_KINDS,
    UNSEEN_KINDS,
    VIEWS,
    Sighting,
    needed_columns,
)
from ledger.events import SQL_TYPES, TIME_TYPE
from ledger.format.scopes import SCOPE_MACROS

MEMORY_BYTES: Final = MEMORY_MIB << 20
NEVER_LATE: Final = -(2**62)
AHEAD: Final = timedelta(minutes=5)
"""Rows further ahead of their entry are counted, and judged by no rule."""
END: Final = datetime(9999, 12, 31, tzinfo=UTC)
START: Final = datetime(1, 1, 1, tzinfo=UTC)
MOST_THREADS: Final = 8
MOST_CHUNKS: Final = 4
"""Tables that recent rows lie in; then the smaller ones become one. Each costs whenever a rule is planned."""
_KIND_OF: Final = {
    **{view: (kind, "recent") for kind, view in STRETCH_KINDS.items()},
    **{view: (kind, "kept") for kind, view in KEPT_KINDS.items()},
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The stretch of time that a rule's views show, and how late its rows may be (None: however late)."""

    low: datetime
    high: datetime
    lateness: timedelta | None
    answered: bool = True
    """Whether denies are shown of what was revoked for an alert of ours."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A table of recent rows, and between which times they lie, both included."""

    name: str
    rows: int
    low: datetime
    high: datetime


class Memory:
    """Rows and sightings. One writing thread; rules read through cursors of their own, several at once."""

    def __init__(
        self, asked: frozenset[str], views: frozenset[str], latenesses: Iterable[timedelta] = (),
        memory_bytes: int = MEMORY_BYTES, threads: int | None = None,
    ) -> None:  # fmt: skip
        self.columns = needed_columns(asked | {"impact", "action", "client_ip"}, views)
        self.sightings = tuple(one for one in SIGHTINGS if one.name in views)
        self.floor = END
        self.newest = START
        self.ahead = 0
        self.any_late = False
        self._latenesses = sorted(set(latenesses))
        config: dict[str, Any] = {
            "memory_limit": f"{memory_bytes}B", "temp_directory": "", "preserve_insertion_order": False,
        }  # fmt: skip
        self.threads = threads or min(MOST_THREADS, os.cpu_count() or 1)
        config["threads"] = self.threads
        self._database = duckdb.connect(":memory:", config=config)
        self._database.execute("SET GLOBAL TimeZone = 'UTC'")
        columns = ", ".join(f'"{name}" {SQL_TYPES[name]}' for name in self.columns)
        extra = "network VARCHAR, agentic BOOLEAN, trusted BOOLEAN, drill BOOLEAN, late BIGINT"
        self._database.execute(f"CREATE TABLE kept ({columns}, {extra})")
        self._chunks: list[_Chunk] = []
        self._made = 0
        for one in self.sightings:
            keys = ", ".join(f"{name} {_key_type(name)}" for name, _ in one.keys)
            self._database.execute(
                f"CREATE TABLE seen_{one.name} ({keys}, day DATE, first_at TIMESTAMPTZ, last_at TIMESTAMPTZ,"
                " n BIGINT, late BIGINT)"
            )
        self._database.execute("CREATE TABLE tiers (action VARCHAR, impact VARCHAR, since TIMESTAMPTZ,"
                               " until TIMESTAMPTZ)")  # fmt: skip
        self._database.execute(
            "CREATE TABLE source_facts (source VARCHAR, agentic BOOLEAN, trusted BOOLEAN, grade INTEGER,"
            " silent_after INTERVAL, since TIMESTAMPTZ, until TIMESTAMPTZ)"
        )
        self._database.execute("CREATE TABLE agent_patterns (source VARCHAR, principal VARCHAR,"
                               " since TIMESTAMPTZ, until TIMESTAMPTZ)")  # fmt: skip
        self._database.execute("CREATE TABLE drills (id VARCHAR, source VARCHAR, begin_at TIMESTAMPTZ,"
                               " end_at TIMESTAMPTZ)")  # fmt: skip
        for macro in SCOPE_MACROS:
            self._database.execute(macro)

    def set_sources(self, facts: Iterable[tuple[Any, ...]]) -> None:
        """(source, agentic, trusted, grade, silent_after, since, until) of each; before any row comes."""
        self._fill("source_facts", facts)

    def set_agents(self, patterns: Iterable[tuple[Any, ...]]) -> None:
        """(source, principal, since, until) of each pattern; before any row comes."""
        self._fill("agent_patterns", patterns)

    def set_tiers(self, tiers: Iterable[tuple[Any, ...]]) -> None:
        """(action, impact, since, until) of each; before any row comes."""
        self._fill("tiers", tiers)

    def set_drills(self, drills: Iterable[tuple[Any, ...]]) -> None:
        """(id, source, begins_at, ends_at) of each; before any row comes."""
        self._fill("drills", drills)

    def _fill(self, table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        for row in rows:
            marks = ", ".join(f"${number}" for number in range(1, len(row) + 1))
            self._database.execute(f"INSERT INTO {table} VALUES ({marks})", list(row))

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """For one statement, or one rule."""
        return self._database.cursor()

    def take(self, rows: pa.Table) -> list[tuple[datetime, datetime]]:
        """Remember rows: `columns`, `late` (int64, microseconds) and `sealed_at` (their entry's time).

        Returns the stretches of time in which they lie, both ends included.
        """
        judged = self._judged(rows)
        self.ahead += pc.sum(_is_ahead(rows)).as_py() or 0
        rows = judged
        if not len(rows):
            return []
        self._insert(rows)
        if pc.max(rows["late"]).as_py() > min(map(_us, self._latenesses), default=0):
            self.any_late = True
        self.newest = max(self.newest, pc.max(rows["time"]).as_py())
        return stretches_of(rows["time"])

    def take_older(self, tables: Iterable[pa.Table], floor: datetime) -> None:
        """Hold rows again that were dropped, from `floor` up to where they are held."""
        before = self.floor
        # Of what was to be forgotten some still lies beside younger rows: it comes again, so it goes first.
        for chunk in [one for one in self._chunks if one.low < before]:
            self._chunks.remove(chunk)
            self._rewrite([chunk], before)
        self.floor = floor
        for rows in tables:
            held = where(rows, pc.less(rows["time"], pa.scalar(before, TIME_TYPE)))
            if len(held := self._judged(held)):
                self._insert(held, only_recent=True)

    def forget_before(self, floor: datetime) -> None:
        """Recent rows before `floor` are no longer wanted: no view shows them."""
        if floor <= self.floor:
            return
        self.floor = floor
        for chunk in [one for one in self._chunks if one.high < floor]:
            self._chunks.remove(chunk)
            self._database.execute(f"DROP TABLE {chunk.name}")

    def _judged(self, rows: pa.Table) -> pa.Table:
        unseen = pc.is_in(rows["kind"], pa.array(UNSEEN_KINDS))
        return where(rows, pc.invert(pc.or_(unseen, _is_ahead(rows))))

    def _insert(self, rows: pa.Table, *, only_recent: bool = False) -> None:
        """One table of its own for new rows: adding to a large one costs far more than making a small one."""
        fresh = rows.append_column("network", _networks(rows["client_ip"]))
        name = self._next_name()
        cursor = self._database.cursor()
        try:
            cursor.register("fresh", _in_parts(fresh, self.threads))
            cursor.execute(f"CREATE TABLE main.{name} AS {self._facts_of_fresh()}")
            self._drop_known(cursor, name)
            if not only_recent:
                for one in self.sightings:
                    self._see(cursor, one, name)
            kinds = ", ".join(f"'{kind}'" for kind in KEPT_KINDS)
            if not only_recent:
                cursor.execute(f"INSERT INTO main.kept SELECT * FROM main.{name} WHERE kind IN ({kinds})")
            # Old rows that nobody asked for yet are read again when somebody does.
            floor = self.floor if self.floor != END else START
            cursor.execute(f"DELETE FROM main.{name} WHERE kind IN ({kinds}) OR time < {_literal(floor)}")
            self._keep_chunk(cursor, name)
        finally:
            cursor.close()
        if len(self._chunks) > MOST_CHUNKS:
            small = _to_join(self._chunks)
            self._chunks = [one for one in self._chunks if one not in small]
            self._rewrite(small, self.floor if self.floor != END else START)

    def _facts_of_fresh(self) -> str:
        """SQL for the rows of `fresh` with what is sealed about their actions, sources and drills."""
        parts = []
        for name in self.columns:
            if name == "impact":
                parts.append("coalesce(f.impact, t.impact) AS impact")
            else:
                parts.append(f'{KEPT_AS_WORDS.get(name, "f." + chr(34) + name + chr(34))} AS "{name}"')
        return (
            f"SELECT {', '.join(parts)}, f.network,"
            " coalesce(s.agentic, false) OR EXISTS ("
            "SELECT 1 FROM agent_patterns p WHERE f.source LIKE p.source ESCAPE '!'"
            " AND coalesce(f.delegated_actor, f.actor, '') LIKE p.principal ESCAPE '!'"
            " AND f.time >= p.since AND f.time < p.until) AS agentic, coalesce(s.trusted, false) AS trusted,"
            " d.id IS NOT NULL AS drill, f.late FROM fresh f"
            " LEFT JOIN tiers t ON t.action = f.action AND f.time >= t.since AND f.time < t.until"
            " LEFT JOIN source_facts s ON s.source = f.source AND f.time >= s.since AND f.time < s.until"
            " LEFT JOIN drills d ON d.id = f.exercise AND d.source = f.source"
            " AND f.time >= d.begin_at AND f.time < d.end_at"
        )

    def _next_name(self) -> str:
        self._made += 1
        return f"recent_{self._made}"

    def _rewrite(self, chunks: Sequence[_Chunk], floor: datetime) -> None:
        """One table in place of several, without what lies before `floor`."""
        rows = " UNION ALL ".join(f"SELECT * FROM main.{one.name}" for one in chunks)
        name = self._next_name()
        cursor = self._database.cursor()
        try:
            where = f"WHERE time >= {_literal(floor)}"
            cursor.execute(f"CREATE TABLE main.{name} AS SELECT * FROM ({rows}) {where}")
            for one in chunks:
                cursor.execute(f"DROP TABLE main.{one.name}")
            self._keep_chunk(cursor, name)
        finally:
            cursor.close()

    def _keep_chunk(self, cursor: duckdb.DuckDBPyConnection, name: str) -> None:
        """Let a table be one of those that hold recent rows, where there are any in it."""
        found = cursor.sql(f"SELECT count(*) AS n, min(time) AS low, max(time) AS high FROM main.{name}")
        row = found.to_arrow_table().to_pylist()[0]
        if row["n"]:
            self._chunks.append(_Chunk(name, row["n"], row["low"], row["high"]))
        else:
            cursor.execute(f"DROP TABLE main.{name}")

    def _tables(self, low: datetime, high: datetime) -> list[str]:
        """The tables that may hold recent rows of [low, high); at least one, so that columns are known."""
        found = [f"main.{one.name}" for one in self._chunks if one.low < high and one.high >= low]
        return found or ["(SELECT * FROM main.kept WHERE false)"]

    def _drop_known(self, cursor: duckdb.DuckDBPyConnection, name: str) -> None:
        """Rows come once: what is equal in all that is kept was sealed twice, long apart."""
        span = cursor.sql(f"SELECT min(time) AS low, max(time) AS high FROM main.{name}").to_arrow_table()
        low, high = span.to_pylist()[0].values()
        if low is None:
            return
        end = high + timedelta(microseconds=1)
        tables, within = [*self._tables(low, end), "main.kept"], _span(low, end)
        known = " UNION ALL ".join(
            f"SELECT time, source, event_id FROM {table} WHERE {within}" for table in tables
        )
        again = cursor.execute(
            f"SELECT count(*) FROM main.{name} r SEMI JOIN ({known}) k"
            " ON r.time = k.time AND r.source = k.source AND r.event_id = k.event_id"
        ).fetchone()
        if again is None or not again[0]:
            return
        columns = [*self.columns, "network"]
        same = " AND ".join(f'r."{column}" IS NOT DISTINCT FROM k."{column}"' for column in columns)
        for table in tables:
            cursor.execute(
                f"CREATE OR REPLACE TABLE main.{name} AS SELECT r.* FROM main.{name} r"
                f" ANTI JOIN (SELECT * FROM {table} WHERE {within}) k ON {same}"
            )

    def _see(self, cursor: duckdb.DuckDBPyConnection, one: Sighting, name: str) -> None:
        keys = ", ".join(f"{sql} AS {name}" for name, sql in one.keys)
        steps = f", {one.unnest}" if one.unnest else ""
        inner = f"SELECT *{steps} FROM main.{name} WHERE {one.where}"
        cursor.execute(
            f"INSERT INTO seen_{one.name} SELECT {keys}, CAST(time AS DATE) AS day, min(time), max(time),"
            f" count(*), {self._late_class()} AS late_class FROM ({inner}) GROUP BY ALL"
        )

    def _late_class(self) -> str:
        """How late a row is, in steps of the rules' bounds: the smallest bound that lets it in."""
        steps = " ".join(f"WHEN late <= {_us(bound)} THEN {_us(bound)}" for bound in self._latenesses)
        return f"CASE {steps} ELSE {2**62} END" if steps else str(2**62)

    @contextmanager
    def frame(
        self, bounds: Bounds, views: Iterable[str] = VIEWS, asked: frozenset[str] | None = None
    ) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor on which `views` show what lies in `bounds`, with the columns `asked` for (None: all).

        Each column of each table costs when a query is planned, many times more than when it runs.
        """
        cursor = self._database.cursor()
        try:
            for name in views:
                cursor.execute(f"CREATE TEMP VIEW {name} AS {self._view(name, bounds, asked)}")
            yield cursor
        finally:
            cursor.close()

    def rows_between(self, low: datetime, high: datetime) -> str:
        """SQL for the rows that evidence may name: those of [low, high), and all that are kept."""
        columns = ", ".join(f'"{name}"' for name in BASE_COLUMNS)
        ref = f"{columns}, trusted, drill, {DERIVED['ref'][0]} AS ref"
        recent = [f"SELECT {ref} FROM {one} WHERE {_span(low, high)}" for one in self._tables(low, high)]
        return " UNION ALL ".join([*recent, f"SELECT {ref} FROM main.kept"])

    def _view(self, name: str, bounds: Bounds, asked: frozenset[str] | None) -> str:
        if not bounds.answered and name in DENIES_SHOWN:
            whole = self._view(name, replace(bounds, answered=True), asked)
            return _UNANSWERED.format(rows=whole, late=_late(bounds))
        late = _late(bounds)
        span = f"{_span(bounds.low, bounds.high)}{late}"
        if name in _KIND_OF:
            kind, table = _KIND_OF[name]
            shown = self._columns_shown(asked)
            if table == "kept":
                return f"SELECT {shown} FROM main.kept WHERE kind = '{kind}'{late}"
            return " UNION ALL ".join(
                f"SELECT {shown} FROM {one} WHERE kind = '{kind}' AND {span}"
                for one in self._tables(bounds.low, bounds.high)
            )
        if name == "events":
            shown = self._columns_shown(asked)
            tables = [*self._tables(bounds.low, bounds.high), "main.kept"]
            return " UNION ALL ".join(f"SELECT {shown} FROM {one} WHERE {span}" for one in tables)
        if name == EDGES:
            columns = ", ".join(EDGE_COLUMNS)
            return (
                f"SELECT {columns}, delegation[step] AS delegator, delegation[step + 1] AS delegate FROM ("
                f"SELECT {columns}, delegation, unnest(generate_series(1, len(delegation) - 1)) AS step"
                f" FROM ({self._view('events', bounds, asked)}) WHERE len(delegation) > 1)"
            )
        if name in ("source_settings", "expected_sources"):
            some = " WHERE silent_after IS NOT NULL" if name == "expected_sources" else ""
            return f"SELECT source, trusted, grade, silent_after, since, until FROM main.source_facts{some}"
        keys = ", ".join(column for one in self.sightings if one.name == name for column, _ in one.keys)
        return f"SELECT {keys}, day, first_at, last_at, n FROM main.seen_{name} WHERE true{late}"

    def _columns_shown(self, asked: frozenset[str] | None) -> str:
        wanted = {*self.columns, *DERIVED} if asked is None else asked | ALWAYS_SHOWN
        shown = [f'"{name}"' for name in self.columns if name in wanted]
        for name, (sql, needs) in DERIVED.items():
            if name in wanted and {*needs} <= {*self.columns}:
                shown.append(f"{sql} AS {name}")
        return ", ".join([*shown, "trusted", "drill"])


def _late(bounds: Bounds) -> str:
    return "" if bounds.lateness is None else f" AND late <= {_us(bounds.lateness)}"


_UNANSWERED: Final = """
WITH taken AS (
    SELECT target, min(time) AS since FROM main.kept
    WHERE kind IN ('signal', 'revocation') AND alert_id IS NOT NULL AND trusted{late} GROUP BY target
)
SELECT r.* FROM ({rows}) r
LEFT JOIN taken a ON r.decision = 'deny' AND a.target = 'session:' || r.session_id
LEFT JOIN taken b ON r.decision = 'deny' AND b.target = 'credential:' || r.credential_id
LEFT JOIN taken c ON r.decision = 'deny' AND c.target = 'credential:' || r.parent_credential_id
WHERE NOT coalesce(r.time >= least(a.since, b.since, c.since), false)
"""
"""Rows without the denies that followed upon our own answer to an alert."""


def earlier(time: datetime, span: timedelta) -> datetime:
    """`time` less `span`, and no earlier than START."""
    return time - span if time - START > span else START


def later(time: datetime, span: timedelta) -> datetime:
    """`time` and `span`, and no later than END."""
    return time + span if END - time > span else END


def _span(low: datetime, high: datetime) -> str:
    return f"time >= {_literal(low)} AND time < {_literal(high)}"


def stretches_of(times: pa.ChunkedArray) -> list[tuple[datetime, datetime]]:
    """The stretches in which times lie, minute by minute, joined where they touch."""
    minutes = sorted(pc.unique(pc.divide(times.cast(pa.int64()), 60_000_000)).to_pylist())
    found: list[list[int]] = []
    for minute in minutes:
        if found and minute <= found[-1][1] + 1:
            found[-1][1] = minute
        else:
            found.append([minute, minute])
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    return [
        (zero + timedelta(minutes=low), zero + timedelta(minutes=high + 1) - timedelta(microseconds=1))
        for low, high in found
    ]


def _is_ahead(rows: pa.Table) -> pa.ChunkedArray:
    return pc.greater(pc.subtract(rows["time"], rows["sealed_at"]), pa.scalar(AHEAD, pa.duration("us")))


@lru_cache(maxsize=65_536)
def network_of(address: str) -> str | None:
    """The /24 or /48 in which an address lies; None for what is no address."""
    try:
        one = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return None
    if isinstance(one, ipaddress.IPv6Address) and one.ipv4_mapped is not None:
        one = one.ipv4_mapped
    width = 24 if one.version == 4 else 48
    return str(ipaddress.ip_network((one, width), strict=False))


def _networks(addresses: pa.ChunkedArray) -> pa.ChunkedArray:
    coded = addresses.combine_chunks().dictionary_encode()
    named = [None if one is None else network_of(one) for one in coded.dictionary.to_pylist()]
    taken: pa.Array = pa.array(named, pa.string()).take(coded.indices)
    return pa.chunked_array([taken])


def _in_parts(rows: pa.Table, parts: int) -> pa.Table:
    """The same rows in as many chunks as there are threads to take them in."""
    size = -(-len(rows) // parts) or 1
    return pa.Table.from_batches(rows.to_batches(max_chunksize=size), rows.schema)


def where(rows: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """The rows that a mask without nulls lets pass; all of them are not copied."""
    return rows if pc.all(mask, min_count=0).as_py() else rows.filter(mask)


def _to_join(chunks: Sequence[_Chunk]) -> list[_Chunk]:
    """The smaller tables, up to one that is more than twice all of them: so a row is written again seldom."""
    ordered = sorted(chunks, key=lambda one: one.rows)
    joined, rows = ordered[:2], ordered[0].rows + ordered[1].rows
    for one in ordered[2:]:
        if one.rows > 2 * rows:
            break
        joined.append(one)
        rows += one.rows
    return joined


def _key_type(name: str) -> str:
    return SQL_TYPES.get(name, "VARCHAR")


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _literal(time: datetime) -> str:
    return f"TIMESTAMPTZ '{time.astimezone(UTC).isoformat(' ')}'"
