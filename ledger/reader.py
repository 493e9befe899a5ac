"""`Ledger`: what Python code and notebooks open. Reads only what a signed checkpoint covers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ledger.defaults import MAX_TRACE_EVENTS
from ledger.errors import DamageError, UsageError
from ledger.format.manifest import (
    DeadLetterRef,
    Erase,
    Expire,
    parse_entry,
)
from ledger.format.note import VerifierKey
from ledger.format.state import LiveFile, LogState
from ledger.log.catalogue_due import catalogue_path
from ledger.log.commit_log import SealedLog, open_log
from ledger.log.named_keys import read_vkey
from ledger.log.pins import Pins
from ledger.query.lag import noted_lag
from ledger.storage.copied_files import LocalFiles
from ledger.storage.store import Store
from ledger.storage.stores import open_store
from ledger.storage.user_folders import cache_folder

if TYPE_CHECKING:
    import pyarrow as pa

    from ledger.query.committed_files import CommittedFile
    from ledger.query.engine import Parameters, Query, QueryFile, QueryLimits
    from ledger.query.trace_nodes import Trace
    from ledger.storage.remote_files import RemoteFiles
    from ledger.verify.verification import Report


Answer = TypeVar("Answer")
_SOME_LOST: Final = b'"lost":[['


class Ledger:
    """A ledger at its latest checkpoint. Make it by `Ledger.open`; `refresh` moves on to a newer one."""

    def __init__(
        self,
        store: Store,
        sealed: SealedLog,
        pinned: VerifierKey | None,
        limits: QueryLimits | None,
        pins: Pins | None = None,
        *,
        tenants: frozenset[str] | None = None,
    ) -> None:
        self.store = store
        self.sealed = sealed
        self.limits = limits
        self.pinned = pinned
        self._pins = pins
        self._files = LocalFiles(store)
        self._tenants = tenants
        self._query: tuple[int | None, bool, Query] | None = None

    @classmethod
    def open(
        cls, url: str | PathLike[str], *, vkey: str | None = None, limits: QueryLimits | None = None,
        remember: bool = True, tenants: frozenset[str] | None = None,
    ) -> Ledger:  # fmt: skip
        """Open the ledger at a folder or URL.

        `vkey` (text, a file, `@` and a file) pins its key; without it the key that this user pinned for it is
        taken. The last head that this user saw of it is kept, and the ledger must extend it; `remember=False`
        neither looks nor keeps.

        With `tenants` only their rows are there for SQL, traces and evidence (see `query.scope`). Proofs of a
        segment still show the leaf hashes of its other rows, and how many they are.

        Raises:
            NotALedger: nothing is there.
            DamageError: it is not the ledger that is pinned, or was rolled back, forked or damaged.
        """
        url = fspath(url)
        pins = Pins(url) if remember else None
        pinned = read_vkey(vkey) if vkey else pins.key() if pins is not None else None
        store = open_store(url)
        sealed = open_log(store, pinned=pinned, kept=_catalogue_of(pins))
        if pins is not None:
            pins.check(sealed.head, sealed.tree.root)
            pins.keep_head(sealed.note, sealed.head)
        return cls(store, sealed, pinned, limits, pins, tenants=tenants)

    def for_tenants(self, tenants: frozenset[str] | None) -> Ledger:
        """The same ledger at the same checkpoint, opened for `tenants` (None: all) and closed apart."""
        return Ledger(self.store, self.sealed, self.pinned, self.limits, self._pins, tenants=tenants)

    @property
    def state(self) -> LogState:
        """What the log says up to the checkpoint."""
        return self.sealed.state

    @property
    def size(self) -> int:
        """Entries that the checkpoint covers."""
        return self.sealed.head.size

    def refresh(self) -> bool:
        """Move on to the newest checkpoint. True when there was a newer one.

        Raises DamageError where the log that was read before is not a prefix of the new one.
        """
        newer = open_log(self.store, pinned=self.pinned, kept=_catalogue_of(self._pins), seen=self.sealed)
        if newer.head.size < self.size or newer.tree.root(self.size) != self.sealed.head.root:
            raise DamageError(
                f"The ledger is no extension of the {self.size} entries that were read before.",
                "It was rolled back or forked; compare it with a copy.",
            )
        grown = newer.head.size > self.size
        if grown:
            self.close()
            self.sealed = newer
            if self._pins is not None:
                self._pins.keep_head(newer.note, newer.head)
        return grown

    def sql(self, query: str, params: Parameters = None, *, at: int | None = None) -> pa.Table:
        """The answer to one read-only statement over the views of `query.engine`, as of `at` entries."""
        return self._current(lambda: self.query(at, written=True).sql(query, params))

    def trace(
        self, trace_id: str, *, at: int | None = None, skip: int = 0, limit: int = MAX_TRACE_EVENTS
    ) -> Trace:
        """The delegation and decision chain of one trace: `limit` events behind the first `skip`, by time.

        What it counts, it counts over all events of the trace. Raises UsageError where nothing has that id.
        """
        from ledger.query.trace import COLUMNS, DECISIONS, Whole, trace_tree  # noqa: PLC0415 - as above

        counts = ", ".join(f"count(*) FILTER (decision = '{word}') OVER () AS n_{word}" for word in DECISIONS)
        # Column names are our own constants.
        select = (
            f"SELECT {', '.join(COLUMNS)}, count(*) OVER () AS n, {counts},"  # noqa: S608  # as above
            " min(time) OVER () AS first, max(time) OVER () AS last"
            " FROM events WHERE trace_id = ? ORDER BY time, source, event_id LIMIT ? OFFSET ?"
        )
        rows = self._current(lambda: self.query(at).trusted(select, [trace_id.lower(), limit, skip]))
        if not len(rows):
            if skip:
                self.trace(trace_id, at=at, limit=1)  # says so where nothing has that id
                raise UsageError(f"The trace {trace_id} has no more than {skip} events.", "Skip fewer.")
            raise UsageError(
                f"No event has the trace id {trace_id!r}.",
                '`decision-ledger sql "SELECT DISTINCT trace_id FROM events LIMIT 10"` lists some.',
            )
        told = rows.slice(0, 1).to_pylist()[0]
        decisions = {word: told[f"n_{word}"] for word in DECISIONS}
        return trace_tree(rows, Whole(told["n"], decisions, told["first"], told["last"], skip))

    def verify(self, **options: Any) -> Report:
        """Check everything that is sealed; see `ledger.verify.verify`."""
        from ledger.verify.verification import verify  # noqa: PLC0415 - readers that never verify need not load it

        return verify(self.store, vkey=self.pinned, **options)

    def evidence(self, *ids: str, at: int | None = None) -> bytes:
        """An evidence bundle for events, each given as `<source>#<event_id>` or a bare event_id."""
        from ledger.query.evidence import export  # noqa: PLC0415 - it needs this module

        return self._current(lambda: export(self, ids, at))

    def evidence_each(
        self, ids: Sequence[str], *, at: int | None = None, checkpoint: bytes | None = None
    ) -> dict[str, bytes]:
        """A bundle of its own for each id, proved at a `checkpoint` (its signed note; None: the newest)."""
        from ledger.query.evidence import export_each  # noqa: PLC0415 - as above

        return self._current(lambda: export_each(self, ids, at, checkpoint))

    def query(self, at: int | None = None, *, written: bool = False) -> Query:
        """The views pinned at `at` entries (None: the head). Kept until another size is asked for.

        `written` is for statements that people wrote: within a scope they need a fence.
        """
        fenced = written and self._tenants is not None
        if self._query is not None and self._query[:2] == (at, fenced):
            return self._query[2]
        self.close()
        from ledger.query.committed_files import KINDS  # noqa: PLC0415 - `status` needs no query engine
        from ledger.query.engine import connect  # noqa: PLC0415 - as above

        there: dict[str, list[QueryFile]] = {kind: [] for kind in KINDS}
        for one in self.committed(at):
            there[one.kind].append(self._query_file(one))
        from ledger.query.scope import Scope  # noqa: PLC0415 - as above

        scope = None if self._tenants is None else Scope(self._tenants, fenced)
        query = connect(there["events"], there["dead_letters"], self.limits, self._remote(), scope)
        self._query = (at, fenced, query)
        return query

    @property
    def whole(self) -> bool:
        """Whether the rows of all tenants are there for SQL."""
        return self._tenants is None

    @property
    def derived_folder(self) -> Path | None:
        """Where this user keeps what is derived from all of the ledger; None where nothing is to be kept."""
        return None if self._pins is None or self._tenants is not None else cache_folder(self.store.url)

    def committed(self, at: int | None = None) -> list[CommittedFile]:
        """The files that count as of `at` entries. Raises UsageError where some of them are gone since."""
        then = self.as_of(at)
        if then is not self.state:
            self._refuse_gone(then, at or self.size)
        from ledger.query.committed_files import committed  # noqa: PLC0415 - as above

        return list(committed(self.state, then))

    def local_path(self, file: LiveFile) -> Path:
        """Where a committed file can be read on this machine (a remote one is copied here first)."""
        return self._files.path(file)

    def query_path(self, file: LiveFile) -> str:
        """What the query engine calls a committed file: its `filename`."""
        if self.store.local_path(file.path) is not None:
            return str(self._files.path(file))
        from ledger.storage.remote_files import remote_address  # noqa: PLC0415 - local ledgers need it never

        return remote_address(file.path)

    def _remote(self) -> RemoteFiles | None:
        """How the engine reads files that are not on this machine."""
        if self.store.local_path("checkpoint") is not None:
            return None
        from ledger.storage.remote_files import RemoteFiles  # noqa: PLC0415 - as above

        return RemoteFiles(self.store, self.state.files.values())

    def as_of(self, at: int | None) -> LogState:
        """What the first `at` entries say; None: all that the checkpoint covers."""
        return self.state if at is None else self.sealed.as_of(at)

    def status(self, at: int | None = None) -> dict[str, Any]:
        """Head, events, segments, positions, last commit, dead letters, as of `at` entries."""
        state = self.as_of(at)
        originals = state.originals.values()
        events = [o for o in originals if not isinstance(o.ref, DeadLetterRef) and not o.expired]
        letters = [o for o in originals if isinstance(o.ref, DeadLetterRef) and not o.expired]
        return {
            "ledger": self.store.url,
            "origin": state.origin,
            "vkey": state.key.text,
            "head": {"size": state.size, "root": self.sealed.tree.root(state.size).hex()},
            "clock": state.times[-1] if state.times else None,
            "last_commit": state.last_commit,
            "events": sum(o.ref.rows - len(o.erased) for o in events),
            "segments": len(events),
            "files": len(state.files),
            "bytes": sum(file.bytes for file in state.files.values()),
            "dead_letters": self._dead_letter_counts(at) if letters else {},
            "positions": [
                {"topic": p.key.topic, "topic_id": p.key.topic_id, "cluster": p.key.cluster,
                 "partition": p.key.partition, "next": p.to}
                for _, p in sorted(state.positions.items())
            ],
        }  # fmt: skip

    def lag(self) -> list[dict[str, Any]]:
        """Messages that running workers last saw between them and the end, by topic and partition."""
        return noted_lag(self.store)

    def lost(self, at: int | None = None) -> list[dict[str, Any]]:
        """By topic and partition, messages that a broker removed before they were read."""
        counts: dict[tuple[str, int], int] = {}
        for index in range(at or self.size):
            data = self.sealed.entries[index]
            if _SOME_LOST in data:
                for row in getattr(parse_entry(data), "offsets", ()):
                    key = (row.topic, row.partition)
                    counts[key] = counts.get(key, 0) + row.lost_messages
        return [
            {"topic": topic, "partition": partition, "lost": n}
            for (topic, partition), n in sorted(counts.items())
            if n
        ]

    def close(self) -> None:
        """Free the query engine."""
        if self._query is not None:
            self._query[2].close()
            self._query = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _current(self, ask: Callable[[], Answer]) -> Answer:
        """What `ask` answers; asked once more where files were merged away since this handle was opened."""
        try:
            return ask()
        except DamageError:
            if not self.refresh():
                raise
            return ask()

    def _dead_letter_counts(self, at: int | None) -> dict[str, int]:
        counting = "SELECT status, count(*) AS n FROM dead_letters GROUP BY status"
        rows = self._current(lambda: self.query(at).trusted(counting))
        counts = {row["status"]: row["n"] for row in rows.to_pylist()}
        # What was replayed is settled: it is no longer a rejected message.
        replayed = sum(not self.state.originals[path].expired for path, _ in self.as_of(at).replayed)
        counts["rejected"] = counts.get("rejected", 0) - replayed
        return {status: n for status, n in counts.items() if n}

    def _query_file(self, one: CommittedFile) -> QueryFile:
        from ledger.query.engine import QueryFile  # noqa: PLC0415 - as above

        return QueryFile(self.query_path(one.file), one.date, one.retention, one.file.rows, one.ranges)

    def _refuse_gone(self, then: LogState, at: int) -> None:
        for index in range(at, self.size):
            entry = parse_entry(self.sealed.entries[index])
            if isinstance(entry, Expire):
                gone = [path for path in entry.paths if path in then.originals]
            elif isinstance(entry, Erase):
                gone = [rows.segment for rows in entry.rows if rows.segment in then.originals]
            else:
                continue
            if gone:
                raise UsageError(
                    f"The ledger as of {at} entries cannot be read any more: entry {index} "
                    f"({entry.kind}, {entry.reason}) took away {gone[0]}.",
                    f"Ask for a size above {index}.",
                )


def _catalogue_of(pins: Pins | None) -> Path | None:
    """Where the catalogue of a ledger lies for a user who remembers it."""
    return None if pins is None else catalogue_path(pins.url)
