"""What rules found: completing rows and the rows that support them, by rule, key and time.

Kept for the buckets that may still change, so that a commit is judged by what it touches alone. A bucket is
one stretch of `suppress`, counted from 1970: one alert for each rule, key and bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from detections.recall.memory import END, Bounds, Memory, earlier, later
from detections.rulebook.bound_rule import BoundRule
from detections.rulebook.excused import Excused
from detections.rulebook.rule import LEVELS
from ledger.errors import UsageError

MAX_EVIDENCE: Final = 1_000
MAX_ROWS: Final = 200_000
"""Rows that one rule may answer with in one run: more is a rule that matches everything."""
MAX_SECONDS: Final = 20.0
"""What one query of a rule may take."""
COMMON: Final = ("tenant", "environment", "actor", "delegated_actor", "trace_id")
"""What an alert says of itself where all its evidence agrees."""
_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TooManyRows(UsageError):
    """A stretch gives more rows than are taken at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """All that hits say of one key and bucket. `evidence` are the first MAX_EVIDENCE references."""

    key: tuple[str | None, ...]
    window_start: datetime
    count: int
    severity: str
    first_seen: datetime
    last_seen: datetime
    first_hit: datetime
    evidence: tuple[str, ...]
    common: dict[str, str]
    """tenant, environment, actor, delegated_actor, trace_id, where all evidence agrees."""
    tenants: int
    reason: str | None
    revoke: tuple[str, ...]
    exercise: str | None
    """The declared exercise that all evidence belongs to."""
    trusted: bool
    """Whether all evidence is of sources that may cause a response."""


def bucket_start(time: datetime, width: timedelta) -> datetime:
    """Where the bucket begins that `time` lies in."""
    return _ZERO + (time - _ZERO) // width * width


class Hits:
    """One rule's involved rows from `covered_from` on."""

    def __init__(self, memory: Memory, bound: BoundRule, name: str, excused: Sequence[Excused] = ()) -> None:
        self.bound = bound
        self._excused = excused
        self.covered_from = END
        self._rows = 0
        self._memory = memory
        self._table = f"hits_{name}_{bound.rule.id.replace('-', '_')}_{bound.rule.digest[:8]}"
        with_cursor = memory.cursor()
        with_cursor.execute(
            f"CREATE OR REPLACE TABLE {self._table} (key VARCHAR[], time TIMESTAMPTZ, completes BOOLEAN,"
            " severity INTEGER, reason VARCHAR, revoke VARCHAR, ref VARCHAR, ref_time TIMESTAMPTZ,"
            " ref_source VARCHAR, ref_id VARCHAR, tenant VARCHAR, environment VARCHAR, actor VARCHAR,"
            " delegated_actor VARCHAR, trace_id VARCHAR, exercise VARCHAR, drill BOOLEAN, trusted BOOLEAN)"
        )
        with_cursor.close()

    def needs_from(self, low: datetime) -> datetime:
        """From where on involved rows must be known to judge the bucket in which `low` lies."""
        return earlier(bucket_start(low, self.bound.rule.suppress), self.bound.support)

    def replace(self, low: datetime, high: datetime, lateness: timedelta | None, due: datetime) -> None:
        """Find anew what lies in [low, high), deadlines only before `due`.

        The memory holds all rows that this needs.
        """
        rule = self.bound.rule
        bounds = Bounds(
            earlier(low, rule.window), later(high, rule.waits + self.bound.support), lateness,
            answered=rule.respond is None,
        )  # fmt: skip
        values = rule.values()
        given = {name: values[name] for name in self.bound.facts.parameters}
        with self._memory.frame(bounds, self.bound.facts.views, self.bound.columns) as cursor:
            given |= {"answer_low": low, "answer_high": high, "answer_due": due}
            cursor.execute(f"SET max_execution_time = {MAX_SECONDS * 1_000:.0f}")
            drop = "" if rule.missing == "keep" else " AND len(list_filter(key, lambda k: k IS NULL)) = 0"
            found = self.bound.select()
            if self.bound.counts:
                # Of what supports, only that which supports something: a deny alone is not kept.
                found = (
                    f"SELECT * FROM (SELECT *, bool_or(completes) OVER (PARTITION BY key ORDER BY time"
                    f" RANGE BETWEEN CURRENT ROW AND $answer_window FOLLOWING) AS counts FROM ({found}))"
                    " WHERE counts"
                )
                given["answer_window"] = self.bound.support
            cursor.execute(
                f"CREATE TEMP TABLE answer AS SELECT * FROM ({found})"
                " WHERE time >= $answer_low AND time < $answer_high"
                f" AND (NOT deadline OR time < $answer_due){drop} LIMIT {MAX_ROWS + 1}",
                given,
            )
            count = _one(cursor, "SELECT count(*) FROM answer")
            if count > MAX_ROWS:
                raise TooManyRows(
                    f"{rule.id} answers with more than {MAX_ROWS:,} rows about one second.",
                    "A rule that matches so much tells nothing: narrow its query.",
                )
            self._excuse(cursor)
            ranks = " ".join(f"WHEN '{level}' THEN {rank}" for rank, level in enumerate(LEVELS))
            if self._rows:
                self._rows -= _one(
                    cursor, f"DELETE FROM main.{self._table} WHERE time >= $1 AND time < $2", [low, high]
                )
            if not count:
                return
            cursor.execute(
                "CREATE TEMP TABLE refs AS SELECT key, time, completes,"
                f" coalesce(CASE severity {ranks} END, {LEVELS.index(rule.level)}) AS severity, reason,"
                " revoke, unnest(evidence) AS ref FROM answer"
            )
            self._rows += _one(
                cursor,
                f"INSERT INTO main.{self._table} SELECT r.key, r.time, r.completes, r.severity, r.reason,"
                " r.revoke, r.ref, coalesce(e.time, r.time), e.source, e.event_id, e.tenant, e.environment,"
                " e.actor, e.delegated_actor, e.trace_id, e.exercise, coalesce(e.drill, false),"
                " coalesce(e.trusted, false) FROM refs r LEFT JOIN ("
                f"{self._memory.rows_between(bounds.low, bounds.high)}"
                ") e ON e.ref = r.ref WHERE r.ref IS NOT NULL",
            )

    def _excuse(self, cursor: Any) -> None:
        for one in self._excused:
            place = {name: number for number, name in enumerate(self.bound.rule.key, start=1)}
            given: dict[str, Any] = {"since": one.since, "until": one.until}
            parts = []
            for number, (name, value) in enumerate(one.match.items()):
                given[f"v{number}"] = value
                parts.append(f"key[{place[name]}] = $v{number}")
            cursor.execute(
                f"DELETE FROM answer WHERE time >= $since AND time < $until AND {' AND '.join(parts)}", given
            )

    def forget_before(self, low: datetime) -> None:
        """Drop what no bucket from `low` on needs."""
        keep = self.needs_from(low)
        if self.covered_from < keep:
            if self._rows:
                cursor = self._memory.cursor()
                self._rows -= _one(cursor, f"DELETE FROM {self._table} WHERE time < $1", [keep])
                cursor.close()
            self.covered_from = keep

    def found(self, low: datetime, high: datetime) -> list[Found]:
        """What stands in the buckets that begin in [low, high), `low` being where one begins."""
        if not self._rows:
            return []
        rule = self.bound.rule
        cursor = self._memory.cursor()
        try:
            text = _FOUND.format(
                table=self._table, evidence=MAX_EVIDENCE, supports="true" if self.bound.counts else "false"
            )
            width = rule.suppress // timedelta(microseconds=1)
            given = {"low": low, "high": high, "width": width, "window": self.bound.support}
            rows = cursor.sql(text, params=given).to_arrow_table()
        finally:
            cursor.close()
        return [_found(row) for row in rows.to_pylist()]


_FOUND: Final = """
WITH placed AS (
    SELECT *, make_timestamptz(epoch_us(time) // $width * $width) AS bucket FROM {table}
), complete AS (
    SELECT key, bucket, min(time) AS first_hit, max(time) AS last_hit, max(severity) AS severity
    FROM placed WHERE completes AND bucket >= $low AND bucket < $high GROUP BY key, bucket
), ahead AS (
    SELECT *, min(CASE WHEN completes THEN time END) OVER (
        PARTITION BY key, bucket ORDER BY time RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    ) AS next_hit FROM placed
), involved AS (
    SELECT c.key, c.bucket, c.first_hit, c.severity, a.time, a.completes AND a.bucket = c.bucket AS completes,
           a.reason, a.revoke, a.ref, a.ref_time, a.ref_source, a.ref_id, a.tenant, a.environment, a.actor,
           a.delegated_actor, a.trace_id, CASE WHEN a.drill THEN a.exercise END AS exercise, a.trusted
    FROM complete c JOIN ahead a ON a.key IS NOT DISTINCT FROM c.key
        AND a.time <= c.last_hit AND a.time >= c.first_hit - CAST($window AS INTERVAL)
    WHERE CASE WHEN a.bucket = c.bucket AND (a.completes OR {supports})
               THEN a.next_hit <= a.time + CAST($window AS INTERVAL)
               ELSE {supports} AND a.bucket < c.bucket
                    AND c.first_hit <= a.time + CAST($window AS INTERVAL) END
), once AS (
    SELECT key, bucket, ref, min(ref_time) AS ref_time, min(ref_source) AS ref_source, min(ref_id) AS ref_id,
           min(tenant) AS tenant, min(environment) AS environment, min(actor) AS actor,
           min(delegated_actor) AS delegated_actor, min(trace_id) AS trace_id, min(exercise) AS exercise,
           bool_and(trusted) AS trusted
    FROM involved GROUP BY key, bucket, ref
), summed AS (
    SELECT key, bucket, count(*) AS n, min(ref_time) AS first_seen, max(ref_time) AS last_seen,
           list(ref ORDER BY ref_time, ref_source, ref_id, ref)[1:{evidence}] AS evidence,
           CASE WHEN count(DISTINCT tenant) = 1 AND count(tenant) = count(*) THEN min(tenant) END AS tenant,
           count(DISTINCT tenant) AS tenants,
           CASE WHEN count(DISTINCT environment) = 1 AND count(environment) = count(*)
                THEN min(environment) END AS environment,
           CASE WHEN count(DISTINCT actor) = 1 AND count(actor) = count(*) THEN min(actor) END AS actor,
           CASE WHEN count(DISTINCT delegated_actor) = 1 AND count(delegated_actor) = count(*)
                THEN min(delegated_actor) END AS delegated_actor,
           CASE WHEN count(DISTINCT trace_id) = 1 AND count(trace_id) = count(*)
                THEN min(trace_id) END AS trace_id, bool_and(trusted) AS trusted,
           CASE WHEN count(DISTINCT exercise) = 1 AND count(exercise) = count(*)
                THEN min(exercise) END AS exercise
    FROM once GROUP BY key, bucket
), said AS (
    SELECT key, bucket, min(first_hit) AS first_hit, min(severity) AS severity,
           min(CASE WHEN completes AND time = first_hit THEN reason END) AS reason,
           list_sort(list_distinct(list(revoke) FILTER (completes AND revoke IS NOT NULL))) AS revoke
    FROM involved GROUP BY key, bucket
)
SELECT s.*, d.first_hit, d.severity, d.reason, d.revoke
FROM summed s JOIN said d ON s.key IS NOT DISTINCT FROM d.key AND s.bucket = d.bucket
ORDER BY s.bucket, s.key
"""


def _found(row: dict[str, Any]) -> Found:
    common = {name: row[name] for name in COMMON if row[name]}
    return Found(
        tuple(row["key"]), row["bucket"], row["n"], LEVELS[row["severity"]], row["first_seen"],
        row["last_seen"], row["first_hit"], tuple(row["evidence"]), common, row["tenants"], row["reason"],
        tuple(row["revoke"] or ()), row["exercise"], row["trusted"],
    )  # fmt: skip


def _one(cursor: Any, query: str, given: Sequence[Any] = ()) -> int:
    """The one number of an aggregate, or how many rows a statement changed."""
    row = cursor.execute(query, list(given)).fetchone()
    assert row is not None  # both always answer
    return int(row[0])
