"""What each metric's SQL says of each UTC day, kept while that day's rows stay as they are.

A metric's file holds two statements. The first says what happened on a day, by slots of 15 minutes or item
by item; it reads the day and the one before. The second, below `-- In all`, sums up all days. So a commit
costs its own days alone, and periods, zones and filters are worked out from the sums.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from detections.metric_catalogue import METRICS, prelude, statement
from detections.metrics.kept_days import KeptDays
from detections.recall.views import UNSEEN_KINDS
from ledger.format.manifest import SegmentRef
from ledger.reader import Ledger

CHUNK_ROWS: Final = 1_000_000
"""Rows of the days that are asked about in one statement: bounds its memory."""
ACTIVITY: Final = "activity"
SIGNALS: Final = "compromise-signals"
IDENTITIES: Final = "identities"
SCOPES: Final = "scopes"
UNJOINED: Final = (ACTIVITY, IDENTITIES, SCOPES)
"""Statements whose every row is about one tenant, and made of that tenant's rows alone."""
SEQUENCES: Final = "sequences"
EMITTERS: Final = "emitters"
STATEMENTS: Final = (*UNJOINED, SEQUENCES, EMITTERS, SIGNALS, *(metric.name for metric in METRICS))
ONLY_KINDS: Final = {"exception-half-life": "exception", SIGNALS: "signal"}
"""Statements that read rows of one kind: days without any are not asked about."""
IN_ALL: Final = "-- In all\n"


@dataclass(frozen=True, slots=True)
class Day:
    """One UTC day of a ledger: what names its rows, how many they are, and of which kinds."""

    key: str
    rows: int
    kinds: frozenset[str]


def days_of(ledger: Ledger, at: int | None) -> dict[date, Day]:
    """The days of the first `at` entries that hold rows of others than ourselves."""
    parts: dict[date, list[tuple[str, SegmentRef]]] = {}
    for path, then in ledger.as_of(at).originals.items():
        now = ledger.state.originals[path]
        ref = then.ref
        if isinstance(ref, SegmentRef) and not now.expired and {*ref.kinds} - {*UNSEEN_KINDS}:
            name = f"{ref.sha256} {sorted(now.erased)}"
            parts.setdefault(date.fromisoformat(ref.date), []).append((name, ref))
    return {
        day: Day(
            _digest(sorted(name for name, _ in own)),
            sum(ref.rows for _, ref in own),
            frozenset(kind for _, ref in own for kind in ref.kinds),
        )
        for day, own in sorted(parts.items())
    }


class Answers:
    """What metrics say of a ledger at `at` entries; `settings` are CTEs of what was sealed about its rows.

    `kept` holds what was worked out before; without, all is worked out from the rows. `ask` answers the first
    statements in place of the ledger's own engine; of its answers nothing is kept.
    """

    def __init__(
        self, ledger: Ledger, at: int | None, settings: str, *,
        kept: KeptDays | None = None, ask: Callable[[str], pa.Table] | None = None,
    ) -> None:  # fmt: skip
        self._ask = ask
        self._kept = kept if ask is None else None
        self._ledger = ledger
        self._at = at
        self._settings = settings
        self._days = days_of(ledger, at)
        self._signals: list[dict[str, Any]] | None = None

    def items(self, name: str) -> list[dict[str, Any]]:
        """The rows of a statement, summed up over all days."""
        found: list[dict[str, Any]] = self.table(name).to_pylist()
        return found

    def table(self, name: str) -> pa.Table:
        """As `items`, in columns."""
        return self._summed(name, "SELECT * FROM ({rows})", {})

    def slots(
        self, name: str, counts: Sequence[str], span: tuple[datetime, datetime], only: Mapping[str, str],
        group: str | None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """The sums of `counts` in each slot of `span`, over rows whose dimensions are as in `only`.

        A row for each slot, and for each value of the dimension `group`.
        """
        sums = ", ".join(f"sum({one}) AS {one}" for one in counts)
        where = "".join(f" AND {dimension} = ${dimension}" for dimension in only)
        by = "slot" if group is None else f"slot, {group}"
        text = (
            f"SELECT {by}, {sums} FROM ({{rows}}) WHERE slot >= $first AND slot < $last{where} GROUP BY {by}"  # noqa: S608 - names from METRICS and DIMENSIONS
        )
        found: list[dict[str, Any]] = self._summed(
            name, text, {**only, "first": span[0], "last": span[1]}
        ).to_pylist()
        return found

    def over(self, name: str, text: str, given: Mapping[str, Any]) -> pa.Table:
        """What `text` says over `{rows}`, the rows of a statement, with the parameters `given`."""
        return self._summed(name, text, given)

    def fill(self) -> Iterator[None]:
        """Work out and keep what is not kept yet, a stretch of days with each step."""
        for chunk in self._chunks(self._days):
            for name in STATEMENTS:
                by_day, _ = statement(name).split(IN_ALL)
                wanted = self._wanted(name, by_day, chunk)
                known = self._known(name, wanted)
                stale = [day for day in wanted if day not in known]
                if stale:
                    self._work_out(name, by_day, stale, wanted)
            self.flush()
            yield

    def flush(self) -> None:
        """Make last what was worked out."""
        if self._kept is not None:
            self._kept.flush(self._days)

    def _summed(self, name: str, over: str, given: Mapping[str, Any]) -> pa.Table:
        by_day, in_all = statement(name).split(IN_ALL)
        if name != SIGNALS and _with_signals(in_all):
            in_all = joined_with(f"WITH {self._signal()}", in_all)
        text = over.format(rows=in_all)
        wanted = self._wanted(name, by_day, self._days)
        known = self._known(name, wanted)
        stale = [day for day in wanted if day not in known]
        found = known | self._work_out(name, by_day, stale, wanted)
        try:
            return self._over(found, text, given)
        except (pa.ArrowInvalid, duckdb.Error):
            if not known:
                raise
        # What was kept has another shape: nobody vouches for it.
        return self._over(self._work_out(name, by_day, list(wanted), wanted), text, given)

    def _over(self, days: Mapping[date, pa.Table], text: str, given: Mapping[str, Any]) -> pa.Table:
        """The answer to a second statement over what the first said of `days`."""
        if not days:
            return pa.table({})
        database = duckdb.connect(":memory:", config={"temp_directory": ""})
        try:
            database.execute("SET TimeZone = 'UTC'")
            database.register("found", pa.concat_tables(days.values()))
            return database.sql(text, params=dict(given) or None).to_arrow_table()
        finally:
            database.close()

    def _wanted(self, name: str, by_day: str, days: Iterable[date]) -> dict[date, str]:
        """The key of each of `days` that a first statement is asked about."""
        with_signals = _with_signals(by_day)
        return {
            day: self._key(day, by_day, with_signals=with_signals)
            for day in days
            if (ONLY_KINDS.get(name) is None or ONLY_KINDS[name] in self._days[day].kinds)
            and (not with_signals or self._was_heard_by(day))
        }

    def _known(self, name: str, wanted: Mapping[date, str]) -> dict[date, pa.Table]:
        return {} if self._kept is None else self._kept.of(name, wanted)

    def _work_out(
        self, name: str, by_day: str, days: Sequence[date], keys: Mapping[date, str]
    ) -> dict[date, pa.Table]:
        """What the first statement says of `days`, from the rows; kept under their keys."""
        found: dict[date, pa.Table] = {}
        for chunk in self._chunks(days):
            found |= self._asked(by_day, chunk, with_signals=_with_signals(by_day))
        if self._kept is not None:
            self._kept.keep(name, {day: (keys[day], rows) for day, rows in found.items()})
        return found

    def _asked(self, by_day: str, days: Sequence[date], *, with_signals: bool) -> dict[date, pa.Table]:
        head = f"WITH {self._settings},\n{prelude()}"
        if with_signals:
            head += f",\n{self._signal()}"
        text = joined_with(head, by_day)
        before = days[0] - timedelta(days=1)
        for word, day in (("$before", before), ("$low", days[0]), ("$high", days[-1])):
            text = text.replace(word, f"DATE '{day.isoformat()}'")
        ask = self._ask or self._ledger.query(self._at).trusted
        rows = ask(text)
        return {day: rows.filter(pc.equal(rows["date"], pa.scalar(day))) for day in days}

    def _chunks(self, days: Iterable[date]) -> Iterator[list[date]]:
        """Days that follow upon each other, about CHUNK_ROWS rows at once."""
        chunk: list[date] = []
        rows = 0
        for day in days:
            follows = chunk and day == chunk[-1] + timedelta(days=1)
            if chunk and self._ask is None and (not follows or rows >= CHUNK_ROWS):
                yield chunk
                chunk, rows = [], 0
            chunk.append(day)
            rows += self._days[day].rows
        if chunk:
            yield chunk

    def _key(self, day: date, by_day: str, *, with_signals: bool) -> str:
        before = self._days.get(day - timedelta(days=1))
        heard = ""
        if with_signals:
            ones = self._was_heard_by(day)
            heard = json.dumps([[one["target"], one["signalled_at"].isoformat()] for one in ones])
        parts = (
            duckdb.__version__, self._settings, prelude(), by_day, heard,
            day.isoformat(), self._days[day].key, "" if before is None else before.key,
        )  # fmt: skip
        return _digest(parts)

    def _heard(self) -> list[dict[str, Any]]:
        if self._signals is None:
            self._signals = self.items(SIGNALS)
        return self._signals

    def _was_heard_by(self, day: date) -> list[dict[str, Any]]:
        """The first signals up to the end of a day: what uses on it are held against."""
        return [one for one in self._heard() if one["signalled_at"].date() <= day]

    def _signal(self) -> str:
        """The first signal of each target, as a CTE."""
        columns = ("target", "signalled_at", "tenant", "environment", "source")
        rows = [[one[name] for name in columns] for one in self._heard()]
        return literals("signal", columns, rows)


def joined_with(head: str, text: str) -> str:
    """One statement: the CTEs of `head` before those of `text`."""
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    return f"{head},\n{body.removeprefix('WITH ')}" if body.startswith("WITH ") else f"{head}\n{body}"


def literals(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A CTE of values: texts, truths (`agentic`), and times (names with since, until or `_at`)."""
    types = [
        "TIMESTAMPTZ" if one in ("since", "until") or one.endswith("_at")
        else "BOOLEAN" if one == "agentic" else "VARCHAR"
        for one in columns
    ]  # fmt: skip
    if not rows:
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {one}" for one, kind in zip(columns, types, strict=True))
        return f"{name} AS (SELECT {empty} WHERE false)"
    values = ", ".join(
        "("
        + ", ".join(f"CAST({_literal(one)} AS {kind})" for one, kind in zip(row, types, strict=True))
        + ")"
        for row in rows
    )
    # Every value is a literal, its quotation marks doubled.
    return f"{name} AS (SELECT * FROM (VALUES {values}) AS v({', '.join(columns)}))"  # noqa: S608


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value.isoformat(" ") if hasattr(value, "isoformat") else str(value)
    return "'" + text.replace("'", "''") + "'"


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _with_signals(by_day: str) -> bool:
    return "FROM signal " in by_day
