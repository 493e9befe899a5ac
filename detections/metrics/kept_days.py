"""Files of what was worked out about each UTC day: one a day, believed where its key is that asked for.

A key names all that an answer was made from, the day's rows among it: a file is never wrong, only out of
date. Anyone may remove it. Arrow IPC with three columns: the statement's name, its key, its rows as an IPC
stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Final, Protocol

import pyarrow as pa

from ledger.errors import LedgerError
from ledger.reader import Ledger
from ledger.storage.derived_files import is_own
from ledger.storage.local_store import LocalStore
from ledger.storage.store import Store

FOLDER: Final = "days"
IN_LEDGER: Final = f"cache/{FOLDER}"
SUFFIX: Final = ".arrow"
MAX_BYTES: Final = 256 << 20
"""A day that takes more is worked out each time."""
Keyed = tuple[str, pa.Table]


class KeptDays(Protocol):
    """Where the answers of days are kept, by the name of the statement and a key."""

    def of(self, name: str, wanted: Mapping[date, str]) -> dict[date, pa.Table]:
        """What is kept under the keys wanted; days without are left out."""
        ...

    def keep(self, name: str, days: Mapping[date, Keyed]) -> None:
        """Take what was worked out."""
        ...

    def flush(self, days: Iterable[date]) -> None:
        """Make it last; days that are not among `days` any more go."""
        ...


@dataclass(slots=True)
class DayFiles:
    """Days in files of `store` below `folder`. `own`: of other users' files nothing is believed.

    Made for one task and let go: what it read and took stays in memory until then.
    """

    store: Store
    folder: str
    own: bool
    _days: dict[date, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    _changed: set[date] = field(default_factory=set)

    def of(self, name: str, wanted: Mapping[date, str]) -> dict[date, pa.Table]:
        """See `KeptDays`; what cannot be read counts as not there."""
        found = {}
        for day, key in wanted.items():
            kept, data = self._day(day).get(name, ("", b""))
            if kept == key:
                with suppress(pa.ArrowException, OSError):
                    found[day] = _whole(pa.ipc.open_stream(data).read_all())
        return found

    def keep(self, name: str, days: Mapping[date, Keyed]) -> None:
        """See `KeptDays`."""
        for day, (key, rows) in days.items():
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, rows.schema) as writer:
                writer.write_table(rows)
            self._day(day)[name] = (key, sink.getvalue().to_pybytes())
            self._changed.add(day)

    def flush(self, days: Iterable[date]) -> None:
        """See `KeptDays`; where nothing can be written, nothing is kept."""
        with suppress(LedgerError, OSError):
            if self._changed:
                self._drop_all_but(days)
            for day in sorted(self._changed):
                data = _file_of(self._days[day])
                if len(data) <= MAX_BYTES:
                    self.store.replace(self._path(day), lambda _, data=data: data)  # type: ignore[misc]  # one shape
        self._changed.clear()

    def _drop_all_but(self, days: Iterable[date]) -> None:
        named = {f"{day.isoformat()}{SUFFIX}" for day in days}
        for file in self.store.list(self.folder):
            name = PurePosixPath(file.path).name
            if name.endswith(SUFFIX) and name not in named:
                self.store.delete(file.path)

    def _day(self, day: date) -> dict[str, tuple[str, bytes]]:
        if day not in self._days:
            self._days[day] = {}
            with suppress(LedgerError, OSError, pa.ArrowException, KeyError, ValueError):
                self._days[day] = self._read(day)
        return self._days[day]

    def _read(self, day: date) -> dict[str, tuple[str, bytes]]:
        path = self._path(day)
        local = self.store.local_path(path)
        data = self.store.read(path) if local is None or not self.own or is_own(local) else None
        if data is None or len(data) > MAX_BYTES:
            return {}
        table = _whole(pa.ipc.open_file(data).read_all())
        return {
            name: (key, rows)
            for name, key, rows in zip(
                *(table[one].to_pylist() for one in ("name", "key", "rows")), strict=True
            )
        }

    def _path(self, day: date) -> str:
        return f"{self.folder}/{day.isoformat()}{SUFFIX}"


def user_days(ledger: Ledger) -> DayFiles | None:
    """This user's own; None where nothing is to be kept."""
    folder = ledger.derived_folder
    return None if folder is None else DayFiles(LocalStore(folder), FOLDER, own=True)


def ledger_days(store: Store) -> DayFiles:
    """Those that an engine leaves in the ledger's `cache/` for all who read it, as it left them."""
    return DayFiles(store, IN_LEDGER, own=False)


def _whole(table: pa.Table) -> pa.Table:
    """The table, if its offsets and texts hold. Raises ArrowInvalid: others may have written it."""
    table.validate(full=True)
    return table


def _file_of(kept: Mapping[str, tuple[str, bytes]]) -> bytes:
    rows = [(name, key, data) for name, (key, data) in sorted(kept.items())]
    names, keys, datas = ([row[part] for row in rows] for part in range(3))
    table = pa.table({"name": pa.array(names, pa.string()), "key": pa.array(keys, pa.string()),
                      "rows": pa.array(datas, pa.large_binary())})  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
